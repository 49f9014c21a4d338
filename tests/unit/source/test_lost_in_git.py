"""`validate` says what the files of a tree have that a commit would not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from reconciler.source.manifests.folder import load_folder
from tests.unit.source.repositories import vm


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "fleet/web"
    (folder / "sbin").mkdir(parents=True)
    (folder / "sbin/init").write_text("#!/bin/sh\n")
    (folder / "sbin/init").chmod(0o755)
    return folder


def said(tree: Path, owners: str = "") -> list[str]:
    layer = f"{{path: ./web, owners: {owners}}}" if owners else "./web"
    (tree.parent / "a.yaml").write_text(vm("a", layers=f"[tree: {layer}]"))
    _, found = load_folder(tree.parent)
    return [str(one.message) for one in found if one.field == "spec.store.layers[0].tree"]


def test_a_tree_of_plain_files_loses_nothing(tree: Path) -> None:
    (tree / "link").symlink_to("/etc/passwd")
    (tree / "etc").mkdir()
    (tree / "etc/app").write_text("1")
    (tree / "etc/app").chmod(0o664)
    (tree / "var").mkdir(mode=0o775)
    (tree / "var/.keep").touch()
    (tree / ".git").mkdir()
    assert said(tree) == []


def test_an_empty_folder_is_named_with_what_keeps_it(tree: Path) -> None:
    for name in ("var", "srv"):
        (tree / name).mkdir()
    (found,) = said(tree)
    assert found.startswith("./web: srv and 1 more is an empty folder")
    assert "`.keep`" in found


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o600, 0o640, 0o750])
def test_a_mode_that_git_does_not_know_is_named_until_the_manifest_has_it(
    tree: Path, mode: int
) -> None:
    (tree / "etc").mkdir()
    (tree / "etc/secret").write_text("the guest's own")
    (tree / "etc/secret").chmod(mode)
    (found,) = said(tree)
    assert found.startswith("./web: etc/secret ")
    assert "name it in `owners` with a mode" in found
    assert said(tree, '{/etc/secret: "0:33"}') == [found]
    assert said(tree, '{/etc/secret: "0:33 0640"}') == []
    assert said(tree, '{/etc/**: "0:33 0640"}') == []


def test_what_is_no_file_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tree / "pipe")
    monkeypatch.chdir(tree)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        (found,) = said(tree)
    assert found.startswith("./web: pipe and 1 more is a device, pipe or socket")


def test_a_folder_with_private_files_may_be_private_itself_and_its_name_odd(tree: Path) -> None:
    (tree / "od\nd").mkdir(mode=0o700)
    (found,) = said(tree)
    assert found.startswith(r"./web: od\nd may not be read by others")


def test_trees_that_vms_share_are_looked_at_once(tree: Path) -> None:
    (tree / "var").mkdir()
    (tree.parent / "b.yaml").write_text(vm("b", layers="[tree: ./web]"))
    assert len(said(tree)) == 1
