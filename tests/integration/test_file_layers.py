"""One guest from files of others: ready images in each format, one of them downloaded, a script, and a tree with owners."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.config import ScriptConfig
from reconciler.image.build_site import Sources
from reconciler.image.store import ImageStore
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.model.layer_kinds.script_layer import ScriptSource
from reconciler.model.layer_kinds.tree_layer import OwnedTree, TreeSource, source_of
from reconciler.model.layers import LayerSource, LayerSpec
from reconciler.source.git.clients import TreeExporter
from tests.integration.test_image_boot import MANIFESTS, Guest, Images, folder_tree
from tests.unit.image import ready
from tests.unit.image.stranger import serving, whole
from tests.unit.image.trees import Content, Repository

pytestmark = [
    pytest.mark.integration,
    pytest.mark.stacks,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None or shutil.which("apt-get") is None,
        reason="qemu-system-x86_64 or apt-get is missing",
    ),
]

LOOK = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
cd / && cat from-erofs from-squashfs from-ext4 from-script which
stat -c '%a %u:%g %F %n' srv/secret srv/empty srv/su from-script from-ext4
[ -e srv/empty/.keep ] || echo no keeper
"""
SEEN = """erofs
squashfs
ext4
script one
script one
640 0:33 regular file srv/secret
755 1000:70000 directory srv/empty
4755 0:0 regular file srv/su
644 0:0 regular file from-script
644 0:0 regular file from-ext4
no keeper
"""
OWNED: dict[str, Content] = {
    "srv": {"secret": "s", "su": "program", "empty": {".keep": ""}},
    "www": {"cgi-bin": {"look": LOOK}},
}
OWNERS = {"/srv/secret": "0:33 0640", "/srv/empty": "1000:70000", "/srv/su": "0:0 4755"}
SCRIPT = '#!/bin/sh\nprintf "script %s\\n" "$1" | tee "$OUT/from-script" >"$OUT/which"\n'


def image_of(folder: Path, kind: str) -> Path:
    files = {f"from-{kind}": f"{kind}\n", "which": f"{kind}\n"}
    content = ready.folder_with(folder / kind, **files)
    return ready.make(kind, content, folder / f"{kind}.img")


async def build(folder: Path, url: str, erofs: Path) -> Images:
    squashfs, ext4 = (image_of(folder, kind) for kind in ("squashfs", "ext4"))
    program = folder / "make"
    program.write_text(SCRIPT)
    program.chmod(0o755)
    repository = Repository(folder / "repository.git")
    tree = repository.tree(OWNED, "look")
    wanted: dict[str, LayerSource] = {
        "base": BusyboxSource(),
        "web": TreeSource(folder_tree(repository, MANIFESTS / "web-a"), "web-a"),
        "squashfs": ImageSource(ready.sha256(squashfs), str(squashfs)),
        "erofs": ImageSource(ready.sha256(erofs), url=url, size=erofs.stat().st_size),
        "ext4": ImageSource(ready.sha256(ext4), str(ext4), format="ext4"),
        "script": ScriptSource(
            "make", ("one",), program=hashlib.sha256(SCRIPT.encode()).hexdigest()
        ),
        "owned": source_of(OwnedTree(path="./owned", owners=OWNERS)).resolved((tree,)),
    }
    sources = Sources(image_urls=(url,), scripts={"make": ScriptConfig(path=str(program))})
    store = ImageStore(folder / "state", SystemClock(), sources=sources)
    await store.open()
    try:
        contract = max(source.needs_contract for source in wanted.values())
        kernel = KernelSpec.of("debian", DebianKernel(contract=contract))
        await store.build_kernel(kernel, TreeExporter(Path("/nowhere")))
        layers = {}
        for name, source in wanted.items():
            spec = LayerSpec.of(source)
            await store.build_layer(spec, repository.content)
            layers[name] = store.layer_path(spec.key)
        return Images(*store.kernel_paths(kernel.key), layers)
    finally:
        await store.close()


def test_ready_images_scripts_and_owners_come_together_in_one_guest(tmp_path: Path) -> None:
    erofs = image_of(tmp_path, "erofs")
    with serving(lambda _stranger: whole(erofs.read_bytes())) as stranger:
        images = asyncio.run(build(tmp_path, stranger.url("/web.erofs"), erofs))
    guest = Guest(images, tmp_path, layers=tuple(images.layers))
    with guest.running() as process:
        guest.wait_healthy()
        assert guest.ask("/cgi-bin/look") == (200, SEEN)
        guest.press_power_button()
        assert process.wait(20) == 0
