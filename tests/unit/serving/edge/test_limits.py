"""File descriptors: the soft limit is raised, and some are reserved for the log and the store."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from feature_repo.settings import Settings
from serving.edge.limits import MOST_DESCRIPTORS, RESERVED, limits_of, raise_descriptors


def test_the_soft_limit_is_raised_in_a_process_that_was_given_few() -> None:
    """Run in a separate process, because a lowered hard limit cannot be raised again."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 2000));"
        "from serving.edge.limits import raise_descriptors as r; print(r(), r());"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2000"] * 3


def test_a_limit_that_may_not_be_raised_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        msg = "not allowed to raise maximum limit"
        raise ValueError(msg)

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_descriptors() == 256
    assert "stays at 256" in caplog.text


def test_no_limit_at_all_counts_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert raise_descriptors() == MOST_DESCRIPTORS


def test_connections_leave_descriptors_for_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(max_connections=1000)
    assert limits_of(settings, RESERVED + 1000).connections == 1000
    assert caplog.text == ""
    assert limits_of(settings, RESERVED + 999).connections == 999
    assert "HEADRACE_MAX_CONNECTIONS=1000: only 999 fit into" in caplog.text
    assert limits_of(settings, 10).connections == 1
