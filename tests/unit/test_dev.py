"""`./dev` and what continuous integration makes of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAKE = """#!/bin/sh
echo "$*" >> did
case "$*" in "$FAILS"*) exit 1 ;; esac
"""
SOURCES = """\
Types: deb
URIs: http://deb.example.org/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://deb.example.org/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://others.example.org/
Suites: nodistro
Components: main
"""
LINES = """\
deb [signed-by=/a.gpg] http://deb.example.org/debian bookworm main
deb http://deb.example.org/debian bookworm-updates main
deb http://others.example.org/ sdk-bookworm main
"""


@pytest.mark.shows(fault=112)
@pytest.mark.parametrize(
    ("fails", "code"), [("nothing", 0), ("lint", 1), ("test", 1), ("clean-test", 1)]
)
def test_ci_lints_tests_and_passes_the_fast_tests_on_another_debian(
    tmp_path: Path, fails: str, code: int
) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / "dev").write_text(FAKE)
    (tmp_path / "dev").chmod(0o755)
    ran = subprocess.run(
        [tmp_path / ".ci/run"], env={"FAILS": fails, "PATH": "/usr/bin:/bin"}, check=False
    )
    assert ran.returncode == code
    did = (tmp_path / "did").read_text().splitlines()
    assert did[:2] == ["lint", "test"]
    others = {"clean-test --suite bookworm fast", "clean-test --suite trixie fast"}
    assert set(did[2:]) <= others
    assert len(did) > 2


@pytest.mark.shows(fault=66)
def test_package_sources_are_lent_to_another_release_and_those_of_others_are_not(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    (folder / "debian.sources").write_text(SOURCES)
    (folder / "more.list").write_text(LINES)
    retarget = function("retarget_sources")
    subprocess.run(
        ["bash", "-euc", f"{retarget}\nretarget_sources {tmp_path} bookworm trixie"], check=True
    )
    assert (folder / "debian.sources").read_text().strip() == (
        SOURCES.replace("bookworm", "trixie").rpartition("Types:")[0].strip()
    )
    assert (folder / "more.list").read_text().splitlines() == [
        "deb [signed-by=/a.gpg] http://deb.example.org/debian trixie main",
        "deb http://deb.example.org/debian trixie-updates main",
    ]


def function(name: str) -> str:
    """The text of one of the functions."""
    text = (ROOT / "tests/clean_machine.sh").read_text(encoding="utf-8")
    return f"{name}()" + text.partition(f"\n{name}()")[2].partition("\n}\n")[0] + "\n}"
