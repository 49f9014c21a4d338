"""Folders that a layer leaves out: what a stack of layers has to say of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.children.spare import ConfinedPrograms
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.archive.contents import FolderValues, implied_folders, lines_of
from reconciler.image.archive.packing import check
from reconciler.image.archive.stack_folders import find_implied
from tests.unit.image.archive.archives import THEN, Item, file, folder, symlink, tar_of

Contents = Callable[..., Path]


@pytest.fixture
def layer(tmp_path: Path) -> Contents:
    """The contents of a layer with these entries."""
    made = iter(range(100))

    def contents(*items: Item) -> Path:
        number = next(made)
        tar = tmp_path / f"{number}.tar"
        tar.write_bytes(tar_of(*items))
        path = tmp_path / f"{number}.jsonl"
        path.write_text("".join(lines_of(check(tar, None)[0])))
        return path

    return contents


def test_an_implied_folder_has_the_values_of_the_nearest_layer_that_lists_it(
    layer: Contents,
) -> None:
    stack = [
        layer(folder("./", 0o700), folder("tmp", 0o777), folder("etc", 0o711)),
        layer(folder("tmp", 0o1777, uid=5, gid=6)),
        layer(file("etc/x"), file("tmp/x")),
        layer(file("tmp/y")),
    ]
    assert implied_folders(stack) == {
        "": FolderValues(0o700, 0, 0, THEN),
        "etc": FolderValues(0o711, 0, 0, THEN),
        "tmp": FolderValues(0o1777, 5, 6, THEN),
    }


def test_what_the_uppermost_layer_lists_needs_no_word(layer: Contents) -> None:
    root = folder("./")
    stack = [
        layer(root, folder("a", 0o700)),
        layer(root, file("a/x")),
        layer(root, folder("a", 0o750)),
    ]
    assert implied_folders(stack) == {}


def test_a_folder_that_no_layer_lists_stays_implied(layer: Contents) -> None:
    assert implied_folders([layer(file("a/x")), layer(file("a/y"))]) == {}


@pytest.mark.parametrize("mark", [".wh.a", "a/.wh..wh..opq", "a/b/.wh..wh..opq"])
def test_what_is_hidden_gives_no_values(layer: Contents, mark: str) -> None:
    root = folder("./")
    hidden = layer(root, file(mark))
    stack = [
        layer(root, folder("a", 0o700), folder("a/b", 0o700)),
        hidden,
        layer(root, file("a/b/x")),
    ]
    found = implied_folders(stack)
    assert "a/b" not in found
    assert ("a" in found) == (mark == "a/b/.wh..wh..opq")


def test_a_path_through_a_symlink_of_a_lower_layer_is_refused(layer: Contents) -> None:
    lower = layer(folder("usr/lib"), symlink("lib", "usr/lib"))
    with pytest.raises(BuildFailed, match="lib: a layer has files below it"):
        implied_folders([lower, layer(folder("lib/modules"))])
    assert "lib" not in implied_folders([lower, layer(folder("lib"), folder("lib/modules"))])
    assert "lib" not in implied_folders([lower, layer(file(".wh.lib")), layer(file("lib/x"))])


def test_names_that_are_not_utf_8_are_found_again(layer: Contents) -> None:
    name = "caf\udce9"
    root = folder("./")
    found = implied_folders([layer(root, folder(name, 0o700)), layer(root, file(f"{name}/x"))])
    assert found == {name: FolderValues(0o700, 0, 0, THEN)}


@pytest.mark.parametrize(("name", "most"), [("%d", 100_000), ("x" * 2000 + "/%d", 8_000)])
def test_folders_beyond_a_bound_are_refused_before_they_are_held(
    tmp_path: Path, name: str, most: int
) -> None:
    """A layer may imply a million of them, and an image has 127 layers."""
    stack = [tmp_path / f"{number}.jsonl" for number in range(3)]
    for number, contents in enumerate(stack):
        lines = (
            json.dumps(["implied", f"{number}{name % at}", 0o755, 0, 0, 0])
            for at in range(most // 2)
        )
        contents.write_text("\n".join(lines))
    with pytest.raises(BuildFailed, match="folders that they do not list"):
        implied_folders(stack)


async def test_a_child_finds_the_folders_and_says_what_is_refused(
    layer: Contents, tmp_path: Path
) -> None:
    programs = ConfinedPrograms()
    lower = layer(folder("a", 0o700), symlink("lib", "usr/lib"))
    stack = [lower, layer(file("a/x"))]
    assert await find_implied(stack, programs, tmp_path / "one") == implied_folders(stack)
    with pytest.raises(BuildFailed, match="lib: a layer has files below it") as refused:
        await find_implied([lower, layer(file("lib/x"))], programs, tmp_path / "two")
    assert "squash" in refused.value.hint
    with pytest.raises(BuildUnavailable, match="No such file"):
        await find_implied([tmp_path / "gone"], programs, tmp_path / "three")
