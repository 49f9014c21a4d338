"""dm-verity on a real guest of a container image: more images than its command line could name the trees of."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.hypervisors import QemuConfig
from reconciler.image.debian_packages import Debian
from reconciler.image.inputs.busybox import fetch_busybox
from reconciler.image.store import ImageStore
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import MOST_TREES_IN_LINE, Disk
from reconciler.vmm.qemu import argv
from tests.integration.test_image_boot import BOOT_SECONDS
from tests.integration.test_stacks import Bench, Stacked
from tests.integration.test_verity import Built
from tests.registry.images import Entry, Layout, write_layer
from tests.unit.image.trees import Repository

pytestmark = [
    pytest.mark.integration,
    pytest.mark.stacks,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        any(
            shutil.which(name) is None
            for name in ("qemu-system-x86_64", "apt-get", "veritysetup", "umoci", "mksquashfs")
        ),
        reason="qemu-system-x86_64, apt-get, veritysetup, umoci or mksquashfs is missing",
    ),
]

DATA_LAYERS = 26
READ = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
for n in $(busybox seq 0 25); do
    busybox cat /www/data$n >/dev/null 2>/tmp/error && echo "$n read" || echo "$n $(busybox cat /tmp/error)"
done
"""


def image_of(folder: Path, busybox: Path) -> tuple[Layout, str]:
    layout = Layout(folder / "layout")
    program: dict[str, Entry | bytes | str] = {
        "bin/": "",
        "bin/busybox": Entry(busybox.read_bytes(), 0o755),
        "bin/sh": Entry(link="busybox"),
        "www/": "",
        "www/healthz": "ok\n",
        "www/cgi-bin/": "",
        "www/cgi-bin/read": Entry(READ, 0o755),
    }
    layers = [write_layer(folder / "program.tar", program)]
    for number in range(DATA_LAYERS):
        entries: dict[str, Entry | bytes | str] = {"www/": "", f"www/data{number}": data(number)}
        layers.append(write_layer(folder / f"data{number}.tar", entries))
    start = {"config.entrypoint": ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"]}
    return layout, layout.add("one", *layers, settings=start)


def data(number: int) -> bytes:
    """A file that no compressor makes smaller, so that its own bytes are in the image."""
    return b"".join(hashlib.sha256(f"{number}:{n}".encode()).digest() for n in range(640))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    return asyncio.run(build(folder, Repository(folder / "repository.git")))


async def build(folder: Path, repository: Repository) -> Built:
    store = ImageStore(folder / "state", SystemClock())
    await store.open()
    try:
        kernel = KernelSpec.of("debian", DebianKernel(contract=3, verity=True))
        await store.build_kernel(kernel, repository.content)
        layout, digest = image_of(folder, await fetch_busybox(Debian(), folder / "packages"))
        source = OciSource("linux/amd64", digest=digest, layout=str(layout.folder))
        spec = LayerSpec.of(source, verity=True)
        await store.build_layer(spec, repository.content)
        trees = store.hash_trees()
        disks = tuple(
            Disk(str(store.layer_path(key)), f"layer{n}", read_only=True, hash_tree=trees[key])
            for n, key in enumerate(store.parts()[spec.key])
        )
        return Built(Bench(store.kernel_paths(kernel.key), Path(disks[0].path)), disks)
    finally:
        await store.close()


def guest_of(built: Built, folder: Path, change: Callable[[int, Disk], Disk]) -> Stacked:
    guest = Stacked(built.bench, folder, [])
    guest.use_layers(tuple(change(number, disk) for number, disk in enumerate(built.layers)))
    return guest


def test_a_byte_that_changed_in_any_image_of_a_container_cannot_be_read(
    built: Built, tmp_path: Path
) -> None:
    assert len(built.layers) == DATA_LAYERS + 2 > MOST_TREES_IN_LINE
    rotten = (0, 3, 21, 25)  # the last two are on PCI

    def change(number: int, disk: Disk) -> Disk:
        if number - 1 not in rotten:
            return disk
        content = bytearray(Path(disk.path).read_bytes())
        place = content.find(data(number - 1)[10_000:10_100])
        assert place > 2 * 4096, "what the file system itself needs is in other blocks"
        content[place] ^= 1
        copy = tmp_path / f"flipped{number}"
        copy.write_bytes(content)
        return replace(disk, path=str(copy))

    guest = guest_of(built, tmp_path / "guest", change)
    with guest.running():
        guest.wait_healthy()
        _, said = guest.ask("/cgi-bin/read")
        lines = said.splitlines()
    assert len(lines) == DATA_LAYERS
    for number, line in enumerate(lines):
        assert ("Input/output error" in line) == (number in rotten), line
        assert line.endswith(" read") == (number not in rotten), line


def test_another_list_of_trees_than_the_command_line_names_starts_no_guest(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = guest_of(built, tmp_path / "guest", lambda _, disk: disk)
    words = list(argv.argv(guest.machine, QemuConfig()))
    at = next(n for n, word in enumerate(words) if argv.TREES_KEY in word)
    words[at] = words[at][:-1] + ("0" if words[at][-1] != "0" else "1")
    monkeypatch.setattr("tests.integration.test_stacks.argv", lambda *_: words)
    with guest.running() as process:
        assert process.wait(BOOT_SECONDS) != 0
    assert "FAILED: the list of trees of hashes is not the one" in guest.said()
