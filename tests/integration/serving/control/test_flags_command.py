"""`headrace flags`: its output and its errors."""

from __future__ import annotations

import getpass

import pytest
from typer.testing import CliRunner

from feature_repo.home import Home
from orchestration.cli import app as cli
from serving.control.flags import FlagsError


@pytest.fixture(autouse=True)
def _home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(home.root))


def flags(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["flags", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_what_changed_is_said_by_path() -> None:
    assert flags("set", "cap.positions=20", "personalization=false") == (
        "   personalization: true → false\n   cap.positions: 200 → 20\n"
    )
    assert flags("set", "cap.positions=20") == "nothing changed: the flags already have these values\n"
    assert flags("get", "cap.positions") == "20\n"


def test_history_and_the_way_back() -> None:
    flags("set", "holdout=0.1")
    flags("set", 'weights={"session": 0.5}')
    lines = flags("history").splitlines()
    assert [line.split()[0] for line in lines] == ["1", "holdout:", "2", "weights.session:"]
    assert lines[0].endswith(f"+00:00  {getpass.getuser()}")
    assert lines[3] == "   weights.session: null → 0.5"
    assert flags("rollback") == "   weights.session: 0.5 → null\n"
    assert flags("rollback") == "   holdout: 0.1 → 0.05\n"
    with pytest.raises(FlagsError, match="the first value is in force already"):
        flags("rollback")
    assert len(flags("history", "--last", "1").splitlines()) == 2


def test_a_malformed_file_is_taken_back(home: Home) -> None:
    flags("set", "holdout=0.1")
    (home.flags / "flags.json").write_text("{")
    with pytest.raises(FlagsError, match="repair the file, or run `headrace flags rollback`"):
        flags("get")
    assert "malformed and never in force; it is replaced" in flags("rollback")
    assert flags("get", "holdout") == "0.1\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("set", "nonsense"), "write e.g. personalization=false"),
        (("set", "holdout=2"), "holdout"),
        (("get", "colour"), "'colour' is not a flag"),
        (("rollback",), "nothing was ever changed"),
    ],
)
def test_what_cannot_be_is_explained(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(FlagsError) as caught:
        flags(*arguments)
    assert says in str(caught.value)
