"""The one module Feast scans: the declared groups as module attributes, for the settings of the environment.

`.feastignore` hides every other module: Feast imports what it sees as top-level modules, and a view that is
met twice conflicts with itself.
"""

from __future__ import annotations

from pathlib import Path

from feature_repo.groups import all_groups
from feature_repo.home import Home, keep_private
from feature_repo.services import published
from feature_repo.settings import load_settings
from feature_repo.views import feast_objects, quiet_globs

keep_private()
# Feast changes into the repo before it scans, so a relative home is taken from the project's root.
_home = Home(Path(__file__).resolve().parent.parent / load_settings().home)
_home.feast.mkdir(parents=True, exist_ok=True)  # Feast makes the registry's folder but not its parents
quiet_globs()
_objects = feast_objects(all_groups().values(), _home, published())

globals().update({f"entity_{entity.name}": entity for entity in _objects.entities})
globals().update({f"view_{view.name}": view for view in _objects.views})
globals().update({service.name: service for service in _objects.services})
