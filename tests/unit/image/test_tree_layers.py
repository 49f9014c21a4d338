"""Trees of a repository as layers: what is built, what is refused, and that it comes out the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.children.spare import SpareChild
from reconciler.clock import SystemClock
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.registry import INPUTS
from reconciler.image.store import ImageStore
from reconciler.model.layer_kinds.described_source import StoreFormat
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.source.git.clients import TreeExporter
from reconciler.source.git.export_worker import TreeLimits
from tests.eventually import eventually
from tests.unit.image.trees import COMMIT, FILE, LINK, TREE, Content, Repository

pytestmark = pytest.mark.shows(row=45)


def layer(tree: str, store_format: StoreFormat = "erofs") -> LayerSpec:
    return LayerSpec.of(TreeSource(tree, "./app"), store_format)


def listing(image: Path) -> str:
    """What a squashfs image holds; unlike erofs it can be listed without mounting it."""
    shown = subprocess.run(
        ["unsquashfs", "-lln", image], check=True, capture_output=True, text=True, timeout=20
    )
    return shown.stdout


def children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(child) for child in text.split()]


@pytest.fixture(autouse=True)
def builders() -> Callable[[], list[int]]:
    """Children of this very test: one of a test before may only be ending now."""
    before = set(children())
    return lambda: [child for child in children() if child not in before]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def sound(image: Path) -> bool:
    return subprocess.run(["fsck.erofs", image], check=False, timeout=20).returncode == 0


@pytest.mark.parametrize("store_format", ["erofs", "squashfs"])
async def test_the_same_tree_gives_the_same_bytes_in_another_store_and_repository(
    tmp_path: Path, store_format: StoreFormat
) -> None:
    content: dict[str, Content] = {
        "a": "1",
        "b": {"c": "2", "run": "#!/bin/sh\n"},
        "z": bytes(9000),
    }
    digests = set()
    for name in ("one", "two"):
        repository = Repository(tmp_path / name / "repository.git")
        tree = repository.tree(content, "run")
        store = ImageStore(tmp_path / name / "state", SystemClock())
        await store.open()
        built = await store.build_layer(layer(tree, store_format), repository.content)
        await store.close()
        digests.add(built.sha256)
    assert len(digests) == 1


async def test_modes_and_symlinks_are_kept_and_owners_and_times_are_fixed(
    store: ImageStore, repository: Repository
) -> None:
    inner = repository.tree({"rc.local": "#!/bin/sh\n", "plain": "x"}, "rc.local")
    link = repository.blob("/etc/passwd")
    tree = repository.raw_tree((TREE, b"etc", inner), (LINK, b"link", link))
    spec = layer(tree, "squashfs")
    await store.build_layer(spec, repository.content)
    shown = listing(store.layer_path(spec.key))
    assert "-rwxr-xr-x 0/0" in shown
    assert "-rw-r--r-- 0/0" in shown
    assert "link -> /etc/passwd" in shown
    assert shown.count("1970-01-01 00:00") == 5


async def test_an_empty_folder_is_an_empty_layer(store: ImageStore, repository: Repository) -> None:
    spec = layer(repository.raw_tree())
    await store.build_layer(spec, repository.content)
    assert spec.key in store.layers()


@pytest.mark.shows(row=36)
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"..", "'..'"),
        (b".", "'.'"),
        (b".git", "'.git'"),
        (b".GIT", "'.GIT'"),
        (b"/etc", "'/etc'"),
        (b"a/b", "'a/b'"),
        (b"new\nline", r"'new\nline'"),
        (b"\x1b[2J", r"'\x1b[2J'"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"n" * 256, "'nnn"),
    ],
)
async def test_an_odd_name_is_refused_with_its_path(
    store: ImageStore, repository: Repository, name: bytes, shown: str
) -> None:
    inner = repository.raw_tree((FILE, name, repository.blob("x")))
    spec = layer(repository.raw_tree((TREE, b"www", inner)))
    with pytest.raises(BuildFailed) as failure:
        await store.build_layer(spec, repository.content)
    assert f"www/{shown}" in str(failure.value)
    assert store.layers() == frozenset()


@pytest.mark.shows(row=36)
async def test_a_submodule_is_refused_with_its_path(
    store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository.raw_tree((COMMIT, b"vendor", "1" * 40)))
    with pytest.raises(BuildFailed, match="vendor: a submodule"):
        await store.build_layer(spec, repository.content)


@pytest.mark.shows(fault=105)
@pytest.mark.parametrize("mode", [0, 0o644, 0o060000, 0o140000, 0o200000])
async def test_an_entry_that_is_of_no_kind_is_refused_with_its_path(
    mode: int, store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository.raw_tree((mode, b"odd", repository.blob("x"))))
    with pytest.raises(BuildFailed, match="odd: has a mode that is none of git's"):
        await store.build_layer(spec, repository.content)


@pytest.mark.shows(row=37)
async def test_a_name_that_is_a_symlink_first_and_a_folder_then_leads_nowhere(
    store: ImageStore, repository: Repository, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    inner = repository.raw_tree((FILE, b"evil", repository.blob("x")))
    link = repository.blob(str(outside))
    spec = layer(repository.raw_tree((LINK, b"a", link), (TREE, b"a", inner)))
    with pytest.raises(BuildFailed, match="a: is in its folder twice"):
        await store.build_layer(spec, repository.content)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (TreeLimits(content_bytes=9), "holds more than 0 MiB"),
        (TreeLimits(entries=2), "more than 2 entries"),
        (TreeLimits(depth=2), "nested more than 2 deep"),
    ],
)
async def test_a_tree_beyond_a_limit_is_refused(
    store: ImageStore, repository: Repository, limits: TreeLimits, reason: str
) -> None:
    tree = repository.tree({"a": {"b": {"c": "12345"}}, "d": "67890"})
    with pytest.raises(BuildFailed, match=reason):
        await store.build_layer(layer(tree), TreeExporter(repository.path, limits))


async def test_trees_within_trees_that_unfold_without_end_are_refused(
    store: ImageStore, repository: Repository
) -> None:
    tree = repository.tree({"f": "x"})
    for _ in range(20):
        tree = repository.raw_tree(*((TREE, b"%d" % n, tree) for n in range(10)))
    content = TreeExporter(repository.path, TreeLimits(entries=1000))
    with pytest.raises(BuildFailed, match="more than 1000 entries"):
        await store.build_layer(layer(tree), content)


async def test_a_missing_object_may_be_there_the_next_time(
    store: ImageStore, repository: Repository
) -> None:
    with pytest.raises(BuildUnavailable):
        await store.build_layer(layer("1" * 40), repository.content)


async def test_a_builder_stands_ready_and_a_new_one_takes_its_place(
    store: ImageStore, repository: Repository, builders: Callable[[], list[int]]
) -> None:
    (first,) = builders()
    await store.build_layer(layer(repository.tree({"a": "1"}), "squashfs"), repository.content)
    await eventually(lambda: builders() not in ([], [first]))


async def test_a_builder_past_its_deadline_is_killed(
    tmp_path: Path, repository: Repository, builders: Callable[[], list[int]]
) -> None:
    tree = repository.tree({"a": "1"})
    content = TreeExporter(repository.path, seconds=0.001)
    hasty = {"tree": replace(INPUTS["tree"], seconds=0.001)}
    for exporter, inputs in ((content, INPUTS), (repository.content, hasty)):
        store = ImageStore(tmp_path / "state", SystemClock(), inputs=inputs)
        await store.open()
        with pytest.raises(BuildUnavailable, match="not done after"):
            await store.build_layer(layer(tree), exporter)
        await store.close()
        assert builders() == []


async def test_a_cancelled_build_leaves_neither_child_nor_folder(
    store: ImageStore, repository: Repository, tmp_path: Path, builders: Callable[[], list[int]]
) -> None:
    tree = repository.tree({"a": "1"})
    for _ in range(4):
        tree = repository.raw_tree(*((TREE, b"%d" % n, tree) for n in range(17)))
    build = asyncio.create_task(store.build_layer(layer(tree), repository.content))
    await eventually(lambda: list(tmp_path.glob("state/layers/.new-*/image")))
    started = builders()
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    await store.close()
    assert len(started) == 2  # one writes the image, one waits for a program to run
    assert not any(map(alive, started))
    assert list((tmp_path / "state/layers").iterdir()) == []


@pytest.mark.parametrize(
    "module", ["reconciler.source.git.export_worker", "reconciler.children.confinement"]
)
async def test_a_child_that_stands_ready_ends_with_a_daemon_that_is_gone(
    module: str, builders: Callable[[], list[int]]
) -> None:
    spare = SpareChild(module)
    await spare.ready()
    (pid,) = builders()
    child = spare._spare
    assert child is not None
    ended = await child.finish(10)
    assert (ended.status, ended.output) == (0, b"")
    assert not alive(pid)


@pytest.mark.skipif(shutil.which("fsck.erofs") is None, reason="fsck.erofs is missing")
async def test_a_large_tree_is_compressed_and_sound(
    store: ImageStore, repository: Repository
) -> None:
    spec = layer(repository.tree({"zeros": bytes(40 << 20)}))
    built = await store.build_layer(spec, repository.content)
    assert built.size_bytes < 10 << 20
    assert sound(store.layer_path(spec.key))
