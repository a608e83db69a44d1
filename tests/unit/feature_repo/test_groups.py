"""Every declared group is complete: what the rest derives from it must be there."""

from __future__ import annotations

import pyarrow as pa
import pytest

from feature_repo.group import DType, FeatureGroup
from feature_repo.groups import all_groups, batch_groups, stream_groups

GROUPS = list(all_groups().values())


def test_the_groups_of_the_design_are_there() -> None:
    designed = {"user_profile", "segment_profile", "item_profile", "item_neighbours", "session_profile"}
    assert designed <= set(all_groups())
    assert set(batch_groups()) | set(stream_groups()) == set(all_groups())
    assert "session_profile" in stream_groups()


def test_a_group_comes_after_those_it_reads() -> None:
    order = list(all_groups())
    for group in GROUPS:
        assert all(order.index(name) < order.index(group.name) for name in group.depends_on)


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)
def test_a_declaration_is_whole(group: FeatureGroup) -> None:
    assert len(set(group.feature_names)) == len(group.features)
    assert group.entity.join_key not in group.feature_names or group.entity.name != "user"
    assert all(f.meaning.endswith(".") for f in group.features)
    assert group.freshness <= group.ttl
    for expectation in group.expectations:
        assert set(expectation.columns) <= set(group.feature_names)


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)
def test_the_arrow_schema_is_key_features_timestamps(group: FeatureGroup) -> None:
    names = group.arrow_schema.names
    assert names == [group.entity.join_key, *group.feature_names, "event_timestamp", "created_timestamp"]
    assert not group.arrow_schema.field("event_timestamp").nullable


def test_every_type_has_an_arrow_type() -> None:
    assert all(isinstance(dtype.arrow, pa.DataType) for dtype in DType)
