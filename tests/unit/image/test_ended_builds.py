"""A build that ends early, of each kind of input: its processes are gone with it, and nothing of it is left.

The programs are the real ones. Nothing is waited for after the end: what is there then would be there for a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.processes import processes_under
from reconciler.clock import SystemClock
from reconciler.config import ScriptConfig
from reconciler.image.build_site import Sources
from reconciler.image.store import ImageStore
from reconciler.image_references import parse_reference
from reconciler.image_registries import RegistryConfig
from reconciler.model.image import BuiltImage, DiskImage, KernelSpec, NixRunner
from reconciler.model.layer_kinds.debian_layer import DebianSource
from reconciler.model.layer_kinds.described_source import StoreFormat
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.model.layer_kinds.nix_layer import NixSource
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layer_kinds.script_layer import ScriptSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from tests import private_nix
from tests.contract.test_debian_builder import NEEDED, silent_mirror
from tests.contract.test_images import large_tree
from tests.eventually import eventually
from tests.registry.images import Entry, Layout, program, write_layer
from tests.unit.image.downloading import CONTENT, SHA256, hanging
from tests.unit.image.oci.hostile import hostile_registry, stalled
from tests.unit.image.stranger import head, serving
from tests.unit.image.trees import Repository

pytestmark = pytest.mark.shows(row=45)

ENDS = ("cancelled", "closed")
"""No VM needs it any more; or the daemon stops."""
LARGE = 64 << 20


@dataclass
class Bench:
    folder: Path
    repository: Repository
    sources: dict[str, Any]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[ImageStore]:
        store = ImageStore(self.folder / "state", SystemClock(), sources=Sources(**self.sources))
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    async def ended(
        self, spec: LayerSpec | KernelSpec, under_way: Callable[[], object], how: str
    ) -> None:
        """Begin a build, end it once it is under way, and look at what is left in that moment."""
        async with self.opened() as store:
            content = self.repository.content
            build: asyncio.Task[BuiltImage] = asyncio.create_task(
                store.build_layer(spec, content)
                if isinstance(spec, LayerSpec)
                else store.build_kernel(spec, content)
            )
            try:
                await eventually(lambda: build.done() or under_way(), 60)
                assert not build.done(), build.result()
            finally:
                await (store.close() if how == "closed" else self._cancel(build))
                left = (self.running(), self.left())
            with suppress(asyncio.CancelledError):
                await build
            assert left == ([], [])
            assert not store.layers()
            assert not store.kernels()

    async def _cancel(self, build: asyncio.Task[BuiltImage]) -> None:
        build.cancel()
        await asyncio.wait({build})

    def running(self) -> list[str]:
        """Processes of builds: what waits for the next one knows no path."""
        return [one.command for one in processes_under(self.folder / "state")]

    def runs(self, name: str) -> bool:
        return any(name in command for command in self.running())

    def left(self) -> list[str]:
        """What builds had written, in the store and where they worked."""
        state = self.folder / "state"
        found = [*state.glob("*/.*"), *state.glob("debian/*/work*"), *state.glob("runners/*")]
        return [str(path.relative_to(state)) for path in found if path.name != ".home"]


@pytest.fixture
def bench(tmp_path: Path, repository: Repository) -> Bench:
    return Bench(tmp_path, repository, {})


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311  # the same in each run


@pytest.mark.parametrize("how", ENDS)
async def test_a_pull_ends_with_skopeo(bench: Bench, how: str) -> None:
    program("skopeo")
    with hostile_registry({"layer": stalled}) as registry:
        bench.sources["registries"] = (RegistryConfig(name=registry.host, insecure=True),)
        named = parse_reference(registry.reference)
        assert named is not None
        spec = LayerSpec.of(OciSource("linux/amd64", named.repository, named.digest))
        layers = bench.folder / "state/composed"
        await bench.ended(
            spec,
            lambda: [
                p for p in layers.glob(".new-*/oci/skopeo/layout/oci-put*") if p.stat().st_size
            ],
            how,
        )


@pytest.mark.parametrize("how", ENDS)
async def test_the_packing_of_a_layer_ends_with_what_packs(bench: Bench, how: str) -> None:
    layout = Layout(bench.folder / "image")
    tar = write_layer(bench.folder / "a.tar", {"bin/": "", "bin/app": Entry(noise(LARGE))})
    digest = layout.add("one", tar, settings={"config.entrypoint": ["/bin/app"]})
    source = OciSource("linux/amd64", digest=digest, layout=str(layout.folder))
    await bench.ended(LayerSpec.of(source), lambda: bench.runs("mksquashfs"), how)


@pytest.mark.parametrize("how", ENDS)
async def test_the_unpacking_of_an_archive_ends(bench: Bench, how: str) -> None:
    archive = bench.folder / "archive.tar"
    names = (f"blobs/sha256/{number:064x}" for number in range(8))
    write_layer(archive, {name: Entry(noise(LARGE // 2)) for name in names})
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    source = OciSource("linux/amd64", archive=str(archive), sha256=sha256)
    await bench.ended(LayerSpec.of(source), lambda: bench.runs("unpack_archive"), how)


@NEEDED
@pytest.mark.parametrize("how", ENDS)
async def test_a_root_of_packages_ends_with_apt_and_leaves_no_root(bench: Bench, how: str) -> None:
    with silent_mirror() as (mirror, reached):
        source = DebianSource(suite="bookworm", mirror=mirror)
        await bench.ended(LayerSpec.of(source), reached, how)


WRITES_ON = """
i=0
while :; do i=$((i+1)); mkdir -p "$1/more-$i"; echo x >"$1/more-$i/file"; done
"""


@pytest.mark.parametrize("how", ENDS)
async def test_a_program_of_the_host_ends_with_sessions_of_its_own_that_write_on(
    bench: Bench, how: str
) -> None:
    make = bench.folder / "make"
    make.write_text(
        f"#!/bin/sh\nfor one in 1 2 3; do setsid sh -c '{WRITES_ON}' sh \"$OUT\" & done\n"
        "(setsid setsid sleep 600 &)\nexec sleep 600\n"
    )
    make.chmod(0o755)
    bench.sources["scripts"] = {"make": ScriptConfig(path=str(make))}
    source = ScriptSource("make", program=hashlib.sha256(make.read_bytes()).hexdigest())
    await bench.ended(
        LayerSpec.of(source, "squashfs"),
        lambda: [*(bench.folder / "state/layers").glob(".new-*/content/more-2*")],
        how,
    )


def flake_that_writes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> str:
    """For Nix itself: its builder has children that leave its session. Returns the folder's id."""
    environment = private_nix.settings(bench.folder / "nix")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    script, out = bench.folder / "state/write-on", bench.folder / "state/written"
    out.mkdir(parents=True)
    script.write_text(WRITES_ON)
    flake = (
        '{ outputs = _: { a = derivation { name = "a"; system = "x86_64-linux"; '
        'builder = "/bin/sh"; PATH = "/usr/bin:/bin"; args = [ "-c" '
        f'"setsid sh {script} {out} & exec sleep 600" ]; }}; }}; }}'
    )
    return bench.repository.tree({"flake.nix": flake})


@pytest.mark.parametrize("kind", ["layer", "runner"])
@pytest.mark.parametrize("how", ENDS)
async def test_a_build_by_nix_ends_with_builders_that_left_its_session(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str, kind: str
) -> None:
    tree = flake_that_writes_on(bench, monkeypatch)
    spec: LayerSpec | KernelSpec = LayerSpec.of(NixSource("./web", "a", tree=tree))
    if kind == "runner":
        spec = KernelSpec.of("./web#a", NixRunner("./web", "a", tree))
    written = bench.folder / "state/written"
    await bench.ended(spec, lambda: [*written.glob("more-2*")], how)


@pytest.mark.parametrize("how", ENDS)
async def test_a_download_ends_and_keeps_only_what_came(bench: Bench, how: str) -> None:
    with serving(hanging(head("200 OK"), CONTENT[:5000])) as stranger:
        bench.sources["image_urls"] = (stranger.pattern,)
        partial = bench.folder / f"state/downloads/image-{SHA256}.partial"
        spec = LayerSpec.of(ImageSource(SHA256, url=stranger.url()))
        await bench.ended(spec, lambda: partial.exists() and partial.stat().st_size, how)
        assert partial.read_bytes() == CONTENT[:5000]


@pytest.mark.parametrize("how", ENDS)
async def test_the_copy_of_a_file_of_the_host_ends(bench: Bench, how: str) -> None:
    image = bench.folder / "image"
    with image.open("wb") as file:
        file.truncate(8 << 30)
    spec = LayerSpec.of(ImageSource("0" * 64, str(image)))
    layers = bench.folder / "state/layers"
    await bench.ended(
        spec, lambda: [p for p in layers.glob(".new-*/image") if p.stat().st_size], how
    )


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("form", ["erofs", "squashfs"])
async def test_the_copy_of_a_folder_of_the_repository_ends(
    bench: Bench, how: str, form: StoreFormat
) -> None:
    spec = LayerSpec.of(TreeSource(large_tree(bench.repository), "./large"), form)
    begun = ".new-*/*" if form == "erofs" else ".new-*/content/0"
    await bench.ended(spec, lambda: [*(bench.folder / "state/layers").glob(begun)], how)


@pytest.mark.parametrize("how", ENDS)
async def test_the_packing_of_a_folder_ends(bench: Bench, how: str) -> None:
    tree = bench.repository.tree({str(n): noise(LARGE // 8 + n) for n in range(8)})
    spec = LayerSpec.of(TreeSource(tree, "./large"), "squashfs")
    await bench.ended(spec, lambda: bench.runs("mksquashfs"), how)


@pytest.mark.parametrize("how", ENDS)
async def test_the_conversion_of_a_disk_ends_with_qemu_img(bench: Bench, how: str) -> None:
    program("qemu-img")
    disk = bench.folder / "disk.raw"
    disk.write_bytes(noise(2 * LARGE))
    sha256 = hashlib.sha256(disk.read_bytes()).hexdigest()
    source = DiskImage(ImageSource(sha256, str(disk)), "raw")
    await bench.ended(KernelSpec.of("disk", source), lambda: bench.runs("qemu-img convert"), how)
