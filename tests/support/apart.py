"""Python environments with only a few distributions, made of links to the installed ones."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(requirements: Iterable[str]) -> set[str]:
    """Return the installed distributions that these require on this interpreter, including themselves."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(requirement) for requirement in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in found:
                continue
            found.add((name, extra))
            needed = map(Requirement, metadata.requires(name) or [])
            waiting += [r for r in needed if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def environment(folder: Path, requirements: Iterable[str]) -> None:
    """Create an import folder with these distributions and their requirements."""
    folder.mkdir(exist_ok=True)
    for name in closure(requirements):
        distribution = metadata.distribution(name)
        for top in {Path(str(file)).parts[0] for file in distribution.files or ()} - {".."}:
            target = Path(str(distribution.locate_file(top)))
            if target.exists() and top != "__pycache__" and not (folder / top).exists():
                (folder / top).symlink_to(target)


def run_apart(folder: Path, code: str, *arguments: str) -> str:
    """Run a program that can import only the standard library and `folder`; return its output."""
    standard = sysconfig.get_paths()["stdlib"]
    paths = [str(folder), standard, f"{standard}/lib-dynload"]
    program = f"import sys; sys.path = {paths!r}\n{code}"
    command = (sys.executable, "-I", "-S", "-c", program, *arguments)
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
