"""Plans a request for online features: the views and features to read, and their names in the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from operator import itemgetter
from typing import Any

from feature_repo.group import DType, FeatureGroup
from feature_repo.services import Service, retired_groups
from serving.schemas.errors import ApiError

CONVERTED = frozenset({DType.TIMESTAMP, DType.FLOAT64, DType.FLOAT64S, DType.FLOAT32S})
"""Types whose values Feast's server encodes differently from plain JSON."""
_PLANS = 256
"""Maximum number of cached plans: clients request the same features repeatedly."""
_SHOWN = 60
"""Maximum number of characters of a client's text to repeat in an error."""


@dataclass(frozen=True)
class PlannedView:
    """The features to read from one view, in the requested order."""

    group: FeatureGroup
    features: tuple[str, ...]
    names: tuple[str, ...]

    @cached_property
    def pick(self) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
        """Return a function that picks the features from a row of the group."""
        if len(self.features) == 1:
            [name] = self.features
            return lambda row: (row[name],)
        return itemgetter(*self.features)

    @cached_property
    def hidden(self) -> dict[str, None]:
        """Null values, for a row that must not be shown."""
        return dict.fromkeys(self.features)

    @cached_property
    def converted(self) -> tuple[tuple[int, DType], ...]:
        """Positions and types of the features whose values must be converted for JSON."""
        dtypes = {feature.name: feature.dtype for feature in self.group.features}
        found = ((place, dtypes[name]) for place, name in enumerate(self.features))
        return tuple((place, dtype) for place, dtype in found if dtype in CONVERTED)


class Catalogue:
    """The views and feature services that can be requested.

    Args:
        groups: declared groups.
        services: published feature services; their views stay readable after their groups are removed.
    """

    def __init__(self, groups: Sequence[FeatureGroup], services: Sequence[Service]) -> None:
        declared = {group.view_name: group for group in groups}
        self._views = {**retired_groups(services, declared), **declared}
        self._services = {service.name: service for service in services}
        self._plans: dict[tuple[str | None, tuple[str, ...], bool], tuple[PlannedView, ...]] = {}

    def plan(self, service: str | None, features: Sequence[str], full_names: bool) -> tuple[PlannedView, ...]:
        """Return the views to read, in the order in which they are first named.

        Args:
            service: name of a feature service, instead of `features`.
            features: each as ``view:feature``.
            full_names: whether answers name features ``view__feature``.

        Raises:
            ApiError: 422; a name is unknown, or two features would share one.
        """
        if (service is None) == (not features):
            message = "name one feature_service, or a list of features such as item_profile:ctr"
            raise ApiError(422, "bad_value", "features", message)
        asked = (service, tuple(features), full_names)
        plan = self._plans.get(asked)
        if plan is None:
            found = self._of_features(features) if service is None else self._of_service(service)
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            plan = self._plans[asked] = self._made(found, full_names)
        return plan

    def _of_service(self, name: str) -> dict[str, list[str]]:
        service = self._services.get(name)
        if service is None:
            raise _unknown("feature_service", name, self._services)
        return {view.view: [feature.name for feature in view.features] for view in service.views}

    def _of_features(self, features: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for place, reference in enumerate(features):
            field = f"features[{place}]"
            view, colon, feature = reference.partition(":")
            if not colon:
                message = f"{field}: {reference[:_SHOWN]!r}; write view:feature, such as item_profile:ctr"
                raise ApiError(422, "bad_value", field, message)
            if view not in self._views:
                raise _unknown(field, view, self._views)
            if feature not in self._views[view].feature_names:
                raise _unknown(field, feature, self._views[view].feature_names)
            if feature not in (named := found.setdefault(view, [])):
                named.append(feature)
        return found

    def _made(self, features: Mapping[str, Sequence[str]], full_names: bool) -> tuple[PlannedView, ...]:
        plan = []
        taken: dict[str, str] = {}
        for view, wanted in features.items():
            names = tuple(f"{view}__{name}" if full_names else name for name in wanted)
            for name in names:
                if (other := taken.setdefault(name, view)) != view:
                    message = f"{other} and {view} both have {name!r}; set full_feature_names to true"
                    raise ApiError(422, "ambiguous_feature", "full_feature_names", message)
            plan.append(PlannedView(self._views[view], tuple(wanted), names))
        return tuple(plan)


def _unknown(field: str, name: str, known: Mapping[str, object] | Sequence[str]) -> ApiError:
    near = get_close_matches(name[:_SHOWN], list(known), n=3) or sorted(known)[:10]
    message = f"{field}: {name[:_SHOWN]!r} is unknown; did you mean {', '.join(near)}?"
    return ApiError(422, "unknown_feature", field, message)
