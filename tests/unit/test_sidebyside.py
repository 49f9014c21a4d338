"""`./dev test` fails if any of its runs does, or finds no test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sidebyside import Run, everything


@pytest.mark.parametrize(
    ("tests", "code"),
    [
        ("def test_good() -> None: pass", 0),
        ("def test_bad() -> None: assert not 'told'", 1),
        ("", 1),
    ],
)
def test_a_run_that_fails_or_finds_nothing_fails_all_and_the_others_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], tests: str, code: int
) -> None:
    for name, text in (("one", tests), ("other", "def test_good() -> None: pass")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"test_{name}.py").write_text(text)
    config = ("-c", "/dev/null", "-p", "no:cacheprovider", f"--rootdir={tmp_path}")
    one, other = (Run(name, (*config, str(tmp_path / name))) for name in ("one", "other"))
    assert everything([[one, other], [other]]) == code
    said = capfd.readouterr().out
    assert said.count("other: exit 0") == 2
    assert ("told" in said) == ("told" in tests)
