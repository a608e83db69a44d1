"""Published feature services are immutable, and are served after their groups have gone on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from feature_repo.errors import SettingsError
from feature_repo.group import USER, DType, Feature, FeatureGroup
from feature_repo.groups import all_groups
from feature_repo.home import Home
from feature_repo.services import publish, published

AGE = Feature("age", DType.INT64, "Age.", "years")
CITY = Feature("city", DType.STRING, "City.")


def _group(*features: Feature, name: str = "people", version: int = 1) -> FeatureGroup:
    return FeatureGroup(
        name=name,
        entity=USER,
        meaning="People.",
        features=features,
        freshness=timedelta(hours=1),
        ttl=timedelta(days=1),
        batch=lambda tables, params: tables.users,
        version=version,
    )


def _names(folder: Path) -> list[list[str]]:
    return [[f"{v.view}:{f.name}" for v in s.views for f in v.features] for s in published(folder)]


def test_a_new_feature_or_group_makes_the_next_service(tmp_path: Path) -> None:
    publish([_group(AGE)], tmp_path)
    assert publish([_group(AGE)], tmp_path) is None
    publish([_group(AGE, CITY)], tmp_path)
    path = publish([_group(AGE, CITY), _group(AGE, name="others")], tmp_path)
    assert path is not None
    assert path.name == "ranking_v3.json"
    assert _names(tmp_path) == [
        ["people:age"],
        ["people:age", "people:city"],
        ["people:age", "people:city", "others:age"],
    ]


@pytest.mark.parametrize(
    ("changed", "what"),
    [(replace(AGE, dtype=DType.STRING), "now string"), (CITY, "no longer declared")],
    ids=["changed", "removed"],
)
def test_a_changed_or_removed_feature_is_refused_with_the_way_out(
    changed: Feature, what: str, tmp_path: Path, home: Home
) -> None:
    from feature_repo.views import feast_objects

    publish([_group(AGE)], tmp_path)
    words = rf"people\.age: published in ranking_v1 as int64, {what}; keep it .* version=2"
    with pytest.raises(SettingsError, match=words):
        publish([_group(changed)], tmp_path)
    with pytest.raises(SettingsError, match=words):
        feast_objects([_group(changed)], home, published(tmp_path))


def test_a_service_outlives_the_version_it_was_published_of(tmp_path: Path, home: Home) -> None:
    from feature_repo.views import FEAST_TYPES, feast_objects

    publish([_group(AGE)], tmp_path)
    publish([_group(CITY, version=2)], tmp_path)
    objects = feast_objects([_group(CITY, version=2)], home, published(tmp_path))
    assert {view.name for view in objects.views} == {"people", "people_v2"}
    old = next(view for view in objects.views if view.name == "people")
    assert {f.name: f.dtype for f in old.features} == {"age": FEAST_TYPES[DType.INT64]}
    assert old.batch_source.path.endswith("people/v1/as_of=*/data.parquet")
    served = {
        service.name: [(p.name, [f.name for f in p.features]) for p in service.feature_view_projections]
        for service in objects.services
    }
    assert served == {"ranking_v1": [("people", ["age"])], "ranking_v2": [("people_v2", ["city"])]}


def test_feast_reads_an_old_and_a_new_service(tmp_path: Path, home: Home) -> None:
    import feast

    from feature_repo.feast_store import repo_config
    from feature_repo.settings import Settings
    from feature_repo.views import feast_objects

    home.feast.mkdir(parents=True)
    publish([_group(AGE)], tmp_path)
    publish([_group(AGE, CITY)], tmp_path)
    objects = feast_objects([_group(AGE, CITY)], home, published(tmp_path))
    config = feast.RepoConfig(repo_path=home.feast, **repo_config(Settings(home=home.root), home))
    store = feast.FeatureStore(config=config)
    store.apply(objects.all)
    for name, wanted in (("ranking_v1", {"age"}), ("ranking_v2", {"age", "city"})):
        answer = store.get_online_features(store.get_feature_service(name), [{"user_id": "u"}]).to_dict()
        assert set(answer) - {"user_id"} == wanted


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ranking_v1.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"ranking_v1\.json: not a published feature service .*restore"):
        published(tmp_path)


def test_the_declarations_of_the_project_keep_what_is_published() -> None:
    from feature_repo.services import check

    check(published(), {group.view_name: group for group in all_groups().values()})
