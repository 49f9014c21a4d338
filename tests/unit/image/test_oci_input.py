"""An OCI image becomes one image of the store for each of its layers, and a small one that starts its program."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildFailed
from reconciler.image.composed import read_composition
from reconciler.image.store import ImageStore
from reconciler.model.image_contents import ExposedPort
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layers import LayerSpec
from reconciler.model.names import LayerKey, digest_of
from tests.eventually import eventually
from tests.registry.images import Entry, Layout, program, write_layer
from tests.unit.image.trees import Repository

SETTINGS = {"config.entrypoint": ["/bin/app", "two words"], "config.user": "33:33"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ImageStore]:
    program("mksquashfs")
    opened = ImageStore(tmp_path / "state", SystemClock())
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def base(folder: Path) -> Path:
    entries: dict[str, Entry | str] = {
        "bin/": "",
        "bin/app": Entry("an application", 0o755),
        "srv/": Entry(mode=0o750, uid=33, gid=33),
    }
    return write_layer(folder / "base.tar", entries)


def data(folder: Path, text: str) -> Path:
    """Its folder `srv` is of the base; it is not listed here."""
    return write_layer(folder / f"{text}.tar", {"srv/data": text})


async def built(store: ImageStore, layout: Layout, digest: str, repository: Path) -> LayerKey:
    source = OciSource("linux/amd64", digest=digest, layout=str(layout.folder))
    spec = LayerSpec.of(source)
    await store.build_layer(spec, Repository(repository).content)
    return spec.key


def listed(store: ImageStore, key: LayerKey) -> str:
    done = subprocess.run(
        (program("unsquashfs"), "-lln", store.layer_path(key)),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


async def test_each_layer_is_a_part_and_the_top_one_starts_the_program(
    store: ImageStore, layout: Layout, tmp_path: Path
) -> None:
    digest = layout.add("one", base(tmp_path), data(tmp_path, "one"), settings=SETTINGS)
    key = await built(store, layout, digest, tmp_path / "repository.git")
    bottom, middle, top = store.parts()[key]
    assert "squashfs-root/bin/app" in listed(store, bottom)
    assert "squashfs-root/srv/data" in listed(store, middle)
    assert "squashfs-root/.reconciler/init" in listed(store, top)
    about = read_composition(tmp_path / "state/composed" / key / "parts.json").about
    assert about == {"digest": digest, "program": "/bin/app 'two words'"}


async def test_a_folder_that_a_layer_does_not_list_keeps_owner_and_mode_of_the_layer_below(
    store: ImageStore, layout: Layout, tmp_path: Path
) -> None:
    digest = layout.add("one", base(tmp_path), data(tmp_path, "one"), settings=SETTINGS)
    key = await built(store, layout, digest, tmp_path / "repository.git")
    (line,) = (
        line for line in listed(store, store.parts()[key][-1]).splitlines()
        if line.endswith("squashfs-root/srv")
    )  # fmt: skip
    assert line.startswith("drwxr-x--- 33/33 ")


async def test_images_with_a_common_base_share_it_and_the_start_of_their_program(
    store: ImageStore, layout: Layout, tmp_path: Path
) -> None:
    keys = []
    for text in ("one", "two"):
        digest = layout.add(text, base(tmp_path), data(tmp_path, text), settings=SETTINGS)
        keys.append(await built(store, layout, digest, tmp_path / "repository.git"))
    first, second = (store.parts()[key] for key in keys)
    assert (first[0], first[2]) == (second[0], second[2])
    assert first[1] != second[1]


async def test_empty_layers_and_one_that_lies_on_itself_are_no_disks(
    store: ImageStore, layout: Layout, tmp_path: Path
) -> None:
    empty = write_layer(tmp_path / "empty.tar", {})
    empty.write_bytes(bytes(1024))
    lower = base(tmp_path)
    digest = layout.add("one", lower, lower, empty, settings=SETTINGS)
    key = await built(store, layout, digest, tmp_path / "repository.git")
    assert len(store.parts()[key]) == 2


async def test_an_image_without_a_program_says_so(
    store: ImageStore, layout: Layout, tmp_path: Path
) -> None:
    digest = layout.add("one", base(tmp_path))
    with pytest.raises(BuildFailed, match="Entrypoint"):
        await built(store, layout, digest, tmp_path / "repository.git")


def lying(layout: Layout, digest: str, diff_id: str) -> str:
    """The same image, with a config that says of its only layer that it has this digest; returns its digest."""
    manifest = layout.manifest(digest)
    config = json.loads(layout.blob(manifest["config"]["digest"]).read_bytes())
    config["rootfs"]["diff_ids"] = [diff_id]
    manifest["config"].update(added(layout, config))
    return str(added(layout, manifest)["digest"])


def added(layout: Layout, document: object) -> dict[str, str | int]:
    content = json.dumps(document).encode()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    layout.blob(digest).write_bytes(content)
    return {"digest": digest, "size": len(content)}


async def test_an_image_that_lies_about_its_layer_spoils_no_other_that_has_it(
    store: ImageStore, layout: Layout, tmp_path: Path
) -> None:
    """Both are built at the same time, and the part is named by the digest that one of them has for it."""
    tar = base(tmp_path)
    sound = layout.add("sound", tar, settings=SETTINGS)
    diff_id = f"sha256:{hashlib.sha256(tar.read_bytes()).hexdigest()}"
    large = write_layer(tmp_path / "large.tar", {"zeros": bytes(400 << 20)})
    liar = lying(layout, layout.add("large", large, settings=SETTINGS), diff_id)
    large.unlink()
    first = asyncio.create_task(built(store, layout, liar, tmp_path / "repository.git"))
    shared = digest_of({"kind": "oci-layer", "diff_id": diff_id, "format": "squashfs"})
    await eventually(lambda: shared in store.kept(), 30)
    key = await built(store, layout, sound, tmp_path / "repository.git")
    assert key in store.layers()
    with pytest.raises(BuildFailed, match="has the digest"):
        await first


async def test_ports_and_health_check_of_an_image_are_noted(
    store: ImageStore, layout: Layout, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "config.exposedports": ["8080/tcp"]}
    digest = layout.add("one", base(tmp_path), settings=settings)
    key = await built(store, layout, digest, tmp_path / "repository.git")
    contents = store.inventory.stored()[key].contents
    assert contents is not None
    assert (contents.digest, contents.exposed) == (digest, (ExposedPort(8080),))
