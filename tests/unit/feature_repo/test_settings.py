"""Settings: defaults that run, and errors that name the variable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from feature_repo.errors import SettingsError
from feature_repo.settings import BUILTIN_EVENT_WEIGHTS, Settings, load_settings


def test_defaults_are_the_embedded_mode() -> None:
    settings = load_settings()
    assert (settings.event_log, settings.online_store) == ("segments", "sqlite")
    assert settings.weights == BUILTIN_EVENT_WEIGHTS
    assert settings.host == "127.0.0.1"


def test_further_event_types_are_registered_with_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_EVENT_WEIGHTS", "bookmark=2, comment=3.5")
    weights = load_settings().weights
    assert (weights["bookmark"], weights["comment"]) == (2.0, 3.5)
    assert weights["click"] == BUILTIN_EVENT_WEIGHTS["click"]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("HEADRACE_PORT", "abc", "valid integer"),
        ("HEADRACE_PORT", "70000", "less than or equal to 65535"),
        ("HEADRACE_EVENT_LOG", "files", "'segments', 'redis' or 'kafka'"),
        ("HEADRACE_EVENT_WEIGHTS", "bookmark", "bookmark=2,comment=3"),
        ("HEADRACE_BUDGET_MS", "0", "greater than 0"),
        ("HEADRACE_SESSION_GAP_S", "", "valid number"),
    ],
)
def test_a_bad_setting_names_the_variable_its_value_and_what_is_right(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert f"{name}={value!r}" in message
    assert wanted in message


def test_two_bad_settings_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_PORT", "x")
    monkeypatch.setenv("HEADRACE_LOG_PARTITIONS", "0")
    with pytest.raises(
        SettingsError, match=r"HEADRACE_LOG_PARTITIONS.*HEADRACE_PORT|HEADRACE_PORT.*PARTITIONS"
    ):
        load_settings()


def test_a_misspelt_setting_is_told_with_the_likely_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HEADRACE_API_KEY", "x")
    monkeypatch.setenv("HEADRACE_QQQQQQQQQQ", "x")
    monkeypatch.setenv("HEADRACE_BENCH_LONG", "1")
    monkeypatch.setenv("HEADRACE_PORT", "1234")
    assert load_settings().api_keys == ""
    assert [r.getMessage() for r in caplog.records] == [
        "HEADRACE_API_KEY: no such setting; did you mean HEADRACE_API_KEYS?",
        "HEADRACE_QQQQQQQQQQ: no such setting",
    ]


def test_a_session_budget_above_the_whole_budget_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"HEADRACE_STORE_BUDGET_MS \(50\).*HEADRACE_BUDGET_MS \(30\)"):
        load_settings(store_budget_ms=50)


def test_a_bound_on_event_time_needs_a_zone() -> None:
    with pytest.raises(SettingsError, match="HEADRACE_EARLIEST_EVENT_TIME needs a time zone"):
        load_settings(earliest_event_time=datetime(2000, 1, 1))  # noqa: DTZ001 - the naive time is the point


def test_the_redis_password_is_not_shown() -> None:
    settings = Settings(redis_url="redis://:hunter2@127.0.0.1:6379/0")  # type: ignore[arg-type]
    assert "hunter2" not in repr(settings)
    assert "hunter2" in settings.redis_url.get_secret_value()


def test_the_clock_can_be_shifted_to_serve_history() -> None:
    year = timedelta(days=365)
    shifted = Settings(clock_offset_s=-year.total_seconds()).clock()
    assert abs(datetime.now(UTC) - year - shifted) < timedelta(minutes=1)
    assert shifted.tzinfo is not None


def test_ids_are_remembered_for_as_long_as_events_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ALLOWED_LATENESS_S", "7200")
    with pytest.raises(SettingsError, match=r"DEDUP_HORIZON_S \(3600\) must not be less than HEADRACE"):
        load_settings()
    monkeypatch.setenv("HEADRACE_DEDUP_HORIZON_S", "7200")
    assert load_settings().dedup_horizon_s == 7200.0
