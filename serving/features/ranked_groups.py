"""The groups whose rows a ranking reads: those declared with `ranked_as`, by entity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from feature_repo.group import SEGMENT, SESSION, USER, Entity, FeatureGroup
from feature_repo.groups import all_groups


@dataclass(frozen=True)
class RankedGroups:
    """Groups by entity.

    Attributes:
        asked: user groups that are read only if a rule needs the purchases.
        profile: the user group with the user's segment as a feature.
        session: the session group with the session's user as a feature.
    """

    users: tuple[FeatureGroup, ...]
    asked: tuple[FeatureGroup, ...]
    sessions: tuple[FeatureGroup, ...]
    segments: tuple[FeatureGroup, ...]
    profile: FeatureGroup
    session: FeatureGroup

    @classmethod
    def of(cls, groups: Iterable[FeatureGroup]) -> RankedGroups:
        """Sort declared groups by entity."""
        ranked = [group for group in groups if group.ranked_as]
        users = _of(USER, ranked)
        sessions = _of(SESSION, ranked)
        return cls(
            users=tuple(group for group in users if not group.where_asked),
            asked=tuple(group for group in users if group.where_asked),
            sessions=sessions,
            segments=_of(SEGMENT, ranked),
            profile=_leading_to(SEGMENT, users),
            session=_leading_to(USER, sessions),
        )


@cache
def ranked_groups() -> RankedGroups:
    """Return the declared groups that rankings read."""
    return RankedGroups.of(all_groups().values())


def _of(entity: Entity, groups: Iterable[FeatureGroup]) -> tuple[FeatureGroup, ...]:
    return tuple(group for group in groups if group.entity is entity)


def _leading_to(entity: Entity, groups: Iterable[FeatureGroup]) -> FeatureGroup:
    return next(group for group in groups if entity.join_key in group.feature_names)
