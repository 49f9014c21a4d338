"""Trees with what git cannot carry: owners, modes, empty folders."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.tree_layer import OwnedTree, TreeSource, source_of
from reconciler.model.layers import LayerSpec
from tests.unit.image.trees import LINK, TREE, Content, Repository

CONTENT: dict[str, Content] = {
    "etc": {"app.conf": "a", "app.d": {"one": "1", "two": "2"}, "secret": "s"},
    "srv": {"run.sh": "#!/bin/sh\n", "data": {"deep": {"file": "f"}}},
}
LINE = re.compile(r"^(\S{10}) (\d+)/(\d+) +\d+ (\S+ \S+) squashfs-root(\S*)(?: -> (.*))?$")


def owned(tree: str, owners: dict[str, str]) -> LayerSpec:
    return LayerSpec.of(source_of(OwnedTree(path="./app", owners=owners)).resolved((tree,)))


def entries(image: Path) -> dict[str, str]:
    """Mode and owner of each path."""
    shown = subprocess.run(
        ["unsquashfs", "-lln", image], check=True, capture_output=True, text=True, timeout=20
    )
    found = [match for line in shown.stdout.splitlines() if (match := LINE.match(line))]
    return {match[5] or "/": f"{match[1]} {match[2]}:{match[3]}" for match in found}


async def test_owners_and_modes_arrive_and_all_else_is_as_git_has_it(
    store: ImageStore, repository: Repository
) -> None:
    spec = owned(
        repository.tree(CONTENT, "run.sh"),
        {
            "/": "0:0 0711",
            "/etc/secret": "0:33 0640",
            "/srv/data": "4000000000:70000 3770",
            "/srv/data/**": "1000:1001 0640",
            "/srv/data/deep/file": "5:6",
            "/etc/*.conf": "7:8",
        },
    )
    await store.build_layer(spec, repository.content)
    assert spec.format == "squashfs"
    assert entries(store.layer_path(spec.key)) == {
        "/": "drwx--x--x 0:0",
        "/etc": "drwxr-xr-x 0:0",
        "/etc/app.conf": "-rw-r--r-- 7:8",
        "/etc/app.d": "drwxr-xr-x 0:0",
        "/etc/app.d/one": "-rw-r--r-- 0:0",
        "/etc/app.d/two": "-rw-r--r-- 0:0",
        "/etc/secret": "-rw-r----- 0:33",
        "/srv": "drwxr-xr-x 0:0",
        "/srv/data": "drwxrws--T 4000000000:70000",
        "/srv/data/deep": "drwxr-x--- 1000:1001",
        "/srv/data/deep/file": "-rw-r--r-- 5:6",
        "/srv/run.sh": "-rwxr-xr-x 0:0",
    }


async def test_links_have_owners_and_no_mode_and_are_not_followed(
    store: ImageStore, repository: Repository
) -> None:
    inner = repository.raw_tree((LINK, b"link", repository.blob("/etc/shadow")))
    spec = owned(repository.raw_tree((TREE, b"a", inner)), {"/a/**": "1:2 0600"})
    await store.build_layer(spec, repository.content)
    assert entries(store.layer_path(spec.key)) == {
        "/": "drwxr-xr-x 0:0", "/a": "drwxr-xr-x 0:0", "/a/link": "lrwxrwxrwx 1:2",
    }  # fmt: skip


async def test_a_rule_about_nothing_is_an_error_with_its_path(
    store: ImageStore, repository: Repository
) -> None:
    spec = owned(repository.tree(CONTENT), {"/etc/sekret": "0:33", "/none/*": "1:1"})
    with pytest.raises(BuildFailed) as failed:
        await store.build_layer(spec, repository.content)
    assert str(failed.value) == "tree ./app: owners: /etc/sekret is not in the folder"
    assert store.layers() == frozenset()


async def test_the_same_tree_and_owners_give_the_same_bytes_anywhere(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        repository = Repository(tmp_path / name / "repository.git")
        store = ImageStore(tmp_path / name / "state", SystemClock())
        await store.open()
        spec = owned(repository.tree(CONTENT, "run.sh"), {"/srv/**": "1000:1000"})
        digests.add((await store.build_layer(spec, repository.content)).sha256)
        await store.close()
    assert len(digests) == 1


@pytest.mark.parametrize("owners", [{}, {"/empty": "5:5"}])
async def test_an_empty_keep_file_keeps_its_folder_and_does_not_arrive(
    store: ImageStore, repository: Repository, owners: dict[str, str]
) -> None:
    content: dict[str, Content] = {
        ".keep": "",
        "empty": {".keep": ""},
        "full": {".keep": "", "file": "1"},
        "own": {".keep": "content of the guest's own"},
        "folder": {".keep": {"file": "1"}},
    }
    tree = repository.tree(content)
    spec = owned(tree, owners) if owners else LayerSpec.of(TreeSource(tree, "./app"), "squashfs")
    await store.build_layer(spec, repository.content)
    found = entries(store.layer_path(spec.key))
    assert sorted(found) == [
        "/", "/empty", "/folder", "/folder/.keep", "/folder/.keep/file", "/full", "/full/file",
        "/own", "/own/.keep",
    ]  # fmt: skip
    assert found["/empty"] == ("drwxr-xr-x 5:5" if owners else "drwxr-xr-x 0:0")


async def test_a_pointer_of_git_lfs_is_refused_with_its_path(
    store: ImageStore, repository: Repository
) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 5\n"
    spec = LayerSpec.of(TreeSource(repository.tree({"a": {"model.bin": pointer}}), "./app"))
    with pytest.raises(BuildFailed, match=r"a/model\.bin: a pointer of Git LFS"):
        await store.build_layer(spec, repository.content)


def takes_tars() -> bool:
    shown = subprocess.run(["mkfs.erofs", "--help"], check=False, capture_output=True, text=True)
    return "--tar" in shown.stdout + shown.stderr


async def test_erofs_with_owners_is_made_or_names_the_way_out(
    store: ImageStore, repository: Repository
) -> None:
    source = source_of(OwnedTree(path="./app", owners={"/srv/**": "5:6"}))
    spec = LayerSpec.of(source.resolved((repository.tree(CONTENT),)), "erofs")
    if takes_tars():
        await store.build_layer(spec, repository.content)
        assert store.layers() == {spec.key}
        return
    with pytest.raises(BuildUnavailable, match="erofs") as failed:
        await store.build_layer(spec, repository.content)
    assert "squashfs" in failed.value.hint
