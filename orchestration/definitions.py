"""Dagster's entry point (`workspace.yaml`): definitions built from the environment's settings."""

from feature_repo.home import keep_private
from feature_repo.settings import load_settings
from orchestration.defs.assembly import build_definitions
from orchestration.runtime import Runtime

keep_private()
defs = build_definitions(Runtime.of(load_settings()))
