"""dm-verity on real guests: what was built is read, and a byte that changed on the host is not."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.image.store import ImageStore
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import Disk
from tests.integration.test_image_boot import BOOT_SECONDS
from tests.integration.test_stacks import Bench, Stacked
from tests.unit.image.trees import Content, Repository
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.stacks,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        any(
            shutil.which(name) is None for name in ("qemu-system-x86_64", "apt-get", "veritysetup")
        ),
        reason="qemu-system-x86_64, apt-get or veritysetup (cryptsetup-bin) is missing",
    ),
]

MARK = b"these bytes are in one block of the image"
READ = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
cat /www/data >/dev/null 2>/tmp/error && echo read || echo "not read: $(cat /tmp/error)"
"""
FILES: dict[str, Content] = {
    "etc": {"rc.local": "#!/bin/sh\nhttpd -p 80 -h /www\n"},
    "www": {"healthz": "ok\n", "data": MARK * 2000, "cgi-bin": {"read": READ}},
}


@dataclass(frozen=True)
class Built:
    bench: Bench
    layers: tuple[Disk, ...]
    """Bottom first, each with its tree."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    return asyncio.run(build(folder, Repository(folder / "repository.git")))


async def build(folder: Path, repository: Repository) -> Built:
    store = ImageStore(folder / "state", SystemClock())
    await store.open()
    try:
        kernel = KernelSpec.of("debian", DebianKernel(contract=2, verity=True))
        await store.build_kernel(kernel, repository.content)
        tree = TreeSource(repository.tree(FILES, "rc.local", "read"), "app")
        specs = [
            LayerSpec.of(BusyboxSource(), "squashfs", verity=True),
            LayerSpec.of(tree, "erofs", verity=True),
        ]
        for spec in specs:
            await store.build_layer(spec, repository.content)
        trees = store.hash_trees()
        disks = tuple(
            Disk(
                str(store.layer_path(spec.key)),
                f"layer{n}",
                read_only=True,
                hash_tree=trees[spec.key],
            )
            for n, spec in enumerate(specs)
        )
        return Built(Bench(store.kernel_paths(kernel.key), Path(disks[0].path)), disks)
    finally:
        await store.close()


def guest_of(built: Built, folder: Path, app: Path | None = None) -> Stacked:
    guest = Stacked(built.bench, folder, [])
    base, above = built.layers
    if app is not None:
        above = Disk(str(app), above.serial, read_only=True, hash_tree=above.hash_tree)
    guest.use_layers((base, above))
    return guest


def flipped(built: Built, at: int | None, target: Path) -> Path:
    """A copy of the upper layer with one byte changed: in the file that the guest reads, or at a place."""
    content = bytearray(Path(built.layers[1].path).read_bytes())
    place = content.find(MARK, len(content) // 4) if at is None else at
    assert place >= 0
    content[place + 5] ^= 1
    target.write_bytes(content)
    return target


def test_layers_are_read_as_they_were_built(built: Built, tmp_path: Path) -> None:
    guest = guest_of(built, tmp_path / "guest")
    assert guest.answers("cgi-bin/read") == ["read"]
    assert "corrupted" not in guest.said()


def test_a_block_that_changed_on_the_host_cannot_be_read_in_the_guest(
    built: Built, tmp_path: Path
) -> None:
    guest = guest_of(built, tmp_path / "guest", flipped(built, None, tmp_path / "flipped"))
    with guest.running():
        guest.wait_healthy()
        _, said = guest.ask("/cgi-bin/read")
        assert said.startswith("not read:")
        assert "Input/output error" in said
        corrupted = lambda: "is corrupted" in guest.said()  # noqa: E731
        wait_until(corrupted, 10, "the kernel says so on the console")


def test_a_layer_whose_first_block_changed_starts_no_guest(built: Built, tmp_path: Path) -> None:
    guest = guest_of(built, tmp_path / "guest", flipped(built, 1100, tmp_path / "flipped"))
    with guest.running() as process:
        assert process.wait(BOOT_SECONDS) != 0
    assert "reconciler-init: FAILED: layer layer1 is not a readable" in guest.said()
