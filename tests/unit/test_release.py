"""What a release is built from."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": "1700000000"},
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_a_wheel_carries_types_and_what_guests_boot_and_nothing_of_the_tests(
    tmp_path: Path,
) -> None:
    names = zipfile.ZipFile(build(tmp_path)).namelist()
    assert "reconciler/py.typed" in names
    assert any(name.endswith("guest/initrd/init") for name in names)
    assert {name.split("/")[0].partition("-")[0] for name in names} == {
        "reconciler",
        "microvm_reconciler",
    }


def test_the_same_tree_gives_the_same_wheel(tmp_path: Path) -> None:
    first, second = (build(tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


def test_every_release_step_names_commands_that_exist() -> None:
    usage = subprocess.run(
        [str(ROOT / "dev"), "help"], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    steps = (ROOT / "docs/release.md").read_text()
    named = {line.split()[0] for line in steps.split("`./dev ")[1:]}
    assert named
    for word in named:
        assert f"\n  {word.strip('`.,;')}" in usage, word
