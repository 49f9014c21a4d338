"""Trees of hashes behind images: made with the image, kept with it, and never of another one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.image.store import ImageStore
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from tests.registry.images import Layout, write_layer
from tests.unit.image.trees import Repository

pytestmark = pytest.mark.skipif(
    shutil.which("veritysetup") is None, reason="veritysetup (cryptsetup-bin) is missing"
)


def spec_of(repository: Repository, *, verity: bool = True) -> LayerSpec:
    return LayerSpec.of(TreeSource(repository.tree({"a": b"x" * 9000}), "a"), verity=verity)


def verified(image: Path, tree: str) -> bool:
    blocks, _, root = tree.partition(":")
    place = f"--hash-offset={int(blocks) * 4096}"
    argv = ["veritysetup", "verify", place, str(image), str(image), root]
    return subprocess.run(argv, check=False, capture_output=True, timeout=30).returncode == 0


async def test_an_image_ends_in_a_tree_that_fits_it_and_one_byte_less_does_not(
    store: ImageStore, repository: Repository
) -> None:
    spec = spec_of(repository)
    await store.build_layer(spec, repository.content)
    (tree,) = store.hash_trees().values()
    image = store.layer_path(spec.key)
    assert verified(image, tree)
    image.chmod(0o600)
    content = bytearray(image.read_bytes())
    content[2000] ^= 1
    image.write_bytes(content)
    assert not verified(image, tree)


async def test_the_root_is_known_after_a_restart_and_the_same_for_the_same_content(
    tmp_path: Path, repository: Repository
) -> None:
    roots = []
    for state in ("one", "one", "two"):
        store = ImageStore(tmp_path / state, SystemClock())
        await store.open()
        await store.build_layer(spec_of(repository), repository.content)
        roots.append(store.hash_trees())
        await store.close()
    assert roots[0] == roots[1] == roots[2] != {}


async def test_an_entry_without_its_root_is_made_again(
    tmp_path: Path, repository: Repository
) -> None:
    spec = spec_of(repository)
    store = ImageStore(tmp_path, SystemClock())
    await store.open()
    await store.build_layer(spec, repository.content)
    store.layer_path(spec.key).with_name("verity").unlink()
    assert await store.look() == {spec.key}
    assert store.hash_trees() == {}
    await store.build_layer(spec, repository.content)
    assert spec.key in store.hash_trees()
    await store.close()


async def test_a_layer_without_verity_is_another_one_and_has_no_tree(
    store: ImageStore, repository: Repository
) -> None:
    plain = spec_of(repository, verity=False)
    assert plain.key != spec_of(repository).key
    await store.build_layer(plain, repository.content)
    assert store.hash_trees() == {}


def test_a_bundle_that_can_compare_is_another_bundle() -> None:
    keys = {KernelSpec.of("debian", DebianKernel(contract=2, verity=v)).key for v in (False, True)}
    assert len(keys) == 2


async def test_each_part_of_a_container_image_has_a_tree_and_is_shared_only_with_its_like(
    store: ImageStore, repository: Repository, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "layout")
    base = write_layer(tmp_path / "base.tar", {"bin/": "", "bin/app": b"x" * 9000})
    top = write_layer(tmp_path / "top.tar", {"etc/": "", "etc/motd": "hello"})
    digest = layout.add("one", base, top, settings={"config.entrypoint": ["/bin/app"]})
    source = OciSource("linux/amd64", digest=digest, layout=str(layout.folder))
    plain, sealed = LayerSpec.of(source), LayerSpec.of(source, verity=True)
    for spec in (plain, sealed):
        await store.build_layer(spec, repository.content)
    parts, trees = store.parts(), store.hash_trees()
    assert len(parts[sealed.key]) == 3
    assert trees.keys() == {*parts[sealed.key]}
    assert trees.keys().isdisjoint(parts[plain.key])
    for key, tree in trees.items():
        assert verified(store.layer_path(key), tree)


async def test_a_part_with_a_tree_that_rotted_is_made_again_with_the_same_one(
    store: ImageStore, repository: Repository, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "layout")
    base = write_layer(tmp_path / "base.tar", {"bin/": "", "bin/app": b"x" * 9000})
    digest = layout.add("one", base, settings={"config.entrypoint": ["/bin/app"]})
    source = OciSource("linux/amd64", digest=digest, layout=str(layout.folder))
    spec = LayerSpec.of(source, verity=True)
    await store.build_layer(spec, repository.content)
    before = store.hash_trees()
    image = store.layer_path(store.parts()[spec.key][0])
    content = bytearray(image.read_bytes())
    content[200] ^= 1
    image.chmod(0o600)
    image.write_bytes(content)
    assert await store.look()
    await store.build_layer(spec, repository.content)
    assert store.hash_trees() == before
    assert verified(image, before[store.parts()[spec.key][0]])
