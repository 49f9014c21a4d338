"""A mutant whose guard is not found, or whose tree cannot run, proves nothing: told by the fast tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.mutants.__main__ import sample
from tests.mutants.every import MUTANTS
from tests.mutants.finding import FIXED, Code, NotFound, find, tree_of, without
from tests.mutants.mutant import Mutant
from tests.mutants.trial import ROOT, judged, try_mutant, try_unchanged

pytestmark = [pytest.mark.shows(fault=5), pytest.mark.shows(fault=113)]

WORD = re.compile(r"[^\W\d]\w*")
EACH = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))


@pytest.fixture(scope="module")
def code() -> Mapping[Path, Code]:
    return tree_of(ROOT)


@EACH
def test_each_guard_is_found_and_the_code_without_it_can_run(
    mutant: Mutant, code: Mapping[Path, Code]
) -> None:
    place = find(mutant, code)
    text = code[place.file].text
    changed = without(mutant, place, text)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))
    assert [path for path in mutant.tests if not (ROOT / path).exists()] == []


def test_no_mutant_fails_for_a_name_that_is_not_there(
    code: Mapping[Path, Code], tmp_path: Path
) -> None:
    for number, mutant in enumerate(MUTANTS):
        place = find(mutant, code)
        without_it = without(mutant, place, code[place.file].text)
        (tmp_path / f"{number}.py").write_text(f"# {mutant.name}\n{without_it}")
    ruff = (sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,F823", ".")
    said = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


def test_no_two_mutants_have_one_name() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("share", [2])
def test_guards_are_found_when_files_were_moved_and_a_fourth_of_all_names_is_new(
    code: Mapping[Path, Code], share: int
) -> None:
    names = sorted({name for one in code.values() for name in _defined(one.text)} - FIXED)
    new = {name: f"new_{number}" for number, name in enumerate(names[share::4])}
    moved: dict[Path, Code] = {}
    for file, one in code.items():
        text = "".join(_pieces(one, new))
        place = file.parent / "moved" / f"new_{file.name}"
        moved[place] = Code(place, text)
    lost, mistaken = [], []
    for mutant in MUTANTS:
        was = find(mutant, code)
        ordinal = sum(token.end <= was.begin for token in code[was.file].tokens)
        try:
            now = find(mutant, moved)
        except NotFound as error:
            lost.append(str(error))
            continue
        if now.file != was.file.parent / "moved" / f"new_{was.file.name}" or ordinal != sum(
            token.end <= now.begin for token in moved[now.file].tokens
        ):
            mistaken.append(f"{mutant.name}: taken for {now.file}")
    assert mistaken == []
    assert len(lost) < len(MUTANTS) / 8, lost


def _defined(text: str) -> Iterator[str]:
    """Names that this file gives, and so may change: not those of libraries."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case _:
                pass


def _pieces(one: Code, new: Mapping[str, str]) -> list[str]:
    pieces, at = [], 0
    for token in one.tokens:
        word = token.text
        if token.shape == "N":
            word = ".".join(new.get(part, part) for part in word.split("."))
        pieces += [one.text[at : token.begin], word]
        at = token.end
    return [*pieces, one.text[at:]]


def test_a_guard_that_is_gone_or_stands_twice_is_told(tmp_path: Path) -> None:
    guard = Mutant("a guard", "reconciler/one.py", "if full(basket):\n", "if not basket:\n")
    (tmp_path / "reconciler").mkdir()
    for name, text in (("a", "if wanted:\n    take()\n"), ("b", "if full(basket):\n    go()\n")):
        (tmp_path / f"reconciler/{name}.py").write_text(text)
    assert find(guard, tree_of(tmp_path)).file == Path("reconciler/b.py")
    (tmp_path / "reconciler/c.py").write_text("x = 1\nif full(basket):\n    go()\n")
    with pytest.raises(
        NotFound, match=r"b\.py:1 and reconciler/c\.py:2|c\.py:2 and reconciler/b\.py:1"
    ):
        find(guard, tree_of(tmp_path))
    for name in "bc":
        (tmp_path / f"reconciler/{name}.py").unlink()
    with pytest.raises(NotFound, match="nothing looks like its guard"):
        find(guard, tree_of(tmp_path))


def test_a_guard_takes_the_names_and_the_depth_of_where_it_stands_now(tmp_path: Path) -> None:
    (tmp_path / "reconciler").mkdir()
    (tmp_path / "reconciler/new.py").write_text(
        "def judge(vm):\n    for one in vm:\n        if one.ready and (\n"
        "            one.done\n        ):\n            rollout.begin(one)\n"
    )
    guard = Mutant(
        "", "old.py",
        "    if vm.ready and (vm.done):\n        begin(vm)\n",
        "    if vm.down:\n        begin(vm)\n",
    )  # fmt: skip
    code = tree_of(tmp_path)
    place = find(guard, code)
    assert without(guard, place, code[place.file].text) == (
        "def judge(vm):\n    for one in vm:\n        if one.down:\n            rollout.begin(one)\n"
    )


@pytest.mark.parametrize(
    ("code", "said", "outcome"),
    [
        (0, "12 passed", "survived"),
        (1, "FAILED tests/a.py::test_x[1 - 2] - assert 1 == 2\n1 failed", "killed"),
        (1, "ERROR collecting tests/a.py\nERROR tests/a.py - NameError\n", "proves nothing"),
        (2, "ERROR tests/a.py - ImportError\n1 error during collection", "proves nothing"),
        (4, "ERROR: file or directory not found: tests/a.py", "proves nothing"),
        (5, "no tests ran", "proves nothing"),
        (-9, "", "proves nothing"),
    ],
)
def test_only_a_test_that_ran_and_failed_kills_a_mutant(code: int, said: str, outcome: str) -> None:
    assert judged(code, said).outcome == outcome


@pytest.mark.timeout(300)
def test_a_sample_is_noticed_and_the_tree_as_it_is_passes(code: Mapping[Path, Code]) -> None:
    (mutant,) = sample(1, code, [mutant for mutant in MUTANTS if mutant.is_quick])
    assert try_unchanged(mutant.tests).outcome == "survived"
    assert try_mutant(mutant, code).outcome == "killed", mutant.name
