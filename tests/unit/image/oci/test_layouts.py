"""Images in OCI layouts and archives, of the repository and of the host."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.children.program import Ended
from reconciler.children.spare import ConfinedPrograms
from reconciler.clock import SystemClock
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.build_site import BuildSite, BuildTools, MakePart
from reconciler.image.debian_packages import Debian
from reconciler.image.downloads import Downloads
from reconciler.image.nix_program import Nix
from reconciler.image.oci.image_fetch import FetchedImage
from reconciler.image.oci.origins import fetch_image
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.names import LayerKey
from tests.registry.images import Layout, program, skopeo_copy, write_layer
from tests.unit.image.trees import LINK, TREE, Content, Repository

HERE = OciSource("linux/amd64", layout="./app")


class NoParts:
    """For what is had before any part is made."""

    def has(self, key: LayerKey) -> bool:
        raise AssertionError(key)

    def image(self, key: LayerKey) -> Path:
        raise AssertionError(key)

    def contents(self, key: LayerKey) -> Path:
        raise AssertionError(key)

    async def make(self, key: LayerKey, title: str, make: MakePart) -> None:
        raise AssertionError(key, title, make)


@pytest.fixture
async def site(tmp_path: Path, repository: Repository) -> AsyncIterator[BuildSite]:
    programs = ConfinedPrograms()
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    tools = BuildTools(
        programs, Debian(), Downloads(tmp_path / "downloads", SystemClock()), Nix(tmp_path / "home")
    )
    yield BuildSite("erofs", workspace, repository.content, tools, NoParts())
    await programs.close()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "layout")
    tar = write_layer(tmp_path / "layer.tar", {"etc/": "", "etc/motd": "hello\n"})
    layout.add("one", tar, settings={"config.entrypoint": "/bin/one"})
    return layout


def content_of(folder: Path) -> dict[str, Content]:
    return {
        path.name: content_of(path) if path.is_dir() else path.read_bytes()
        for path in folder.iterdir()
    }


def of_the_host(layout: Layout, digest: str) -> OciSource:
    return OciSource("linux/amd64", layout=str(layout.folder), digest=digest)


async def had(source: OciSource, site: BuildSite) -> FetchedImage:
    return await fetch_image(source, site, lambda _: False)


async def test_an_image_is_had_from_a_layout_in_the_repository(
    site: BuildSite, repository: Repository, layout: Layout, tmp_path: Path
) -> None:
    tree = repository.tree(content_of(layout.folder))
    image = await had(HERE.resolved((tree,)), site)
    assert image.digest == layout.digest("one")
    assert image.config.entrypoint == ("/bin/one",)
    (layer,) = image.layers
    assert layer.blob is not None
    assert gzip.decompress(layer.blob.read_bytes()) == (tmp_path / "layer.tar").read_bytes()


async def test_an_image_is_had_from_a_layout_of_the_host_by_its_digest(
    site: BuildSite, layout: Layout, tmp_path: Path
) -> None:
    one = layout.digest("one")
    other = write_layer(tmp_path / "other.tar", {"a": "b"})
    layout.add("two", other, settings={"config.entrypoint": "/bin/two"})
    image = await had(of_the_host(layout, one), site)
    assert (image.digest, image.config.entrypoint) == (one, ("/bin/one",))
    (layer,) = image.layers
    assert layer.blob is not None
    assert layer.blob.is_relative_to(layout.folder)


async def test_of_several_images_one_has_to_be_named(
    site: BuildSite, layout: Layout, repository: Repository, tmp_path: Path
) -> None:
    layout.add("two", write_layer(tmp_path / "other.tar", {"a": "b"}))
    tree = repository.tree(content_of(layout.folder))
    with pytest.raises(BuildFailed, match="names 2 images") as refused:
        await had(HERE.resolved((tree,)), site)
    assert "digest" in refused.value.hint


async def test_a_changed_blob_is_refused(
    site: BuildSite, layout: Layout, repository: Repository, tmp_path: Path
) -> None:
    digest = layout.digest("one")
    manifest = layout.manifest(digest)
    for part in (digest, manifest["config"]["digest"], manifest["layers"][0]["digest"]):
        blob = layout.blob(part)
        sound = blob.read_bytes()
        blob.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])
        folder = tmp_path / part[-8:]
        folder.mkdir()
        with pytest.raises(BuildUnavailable, match="has other bytes than its digest") as refused:
            await had(of_the_host(layout, digest), replace(site, workspace=folder))
        assert refused.value.kind == "corrupt"
        tree = repository.tree(content_of(layout.folder))
        folder = folder / "again"
        folder.mkdir()
        source = replace(HERE.resolved((tree,)), digest=digest)
        with pytest.raises(BuildFailed, match="has other bytes than its digest"):
            await had(source, replace(site, workspace=folder))
        blob.write_bytes(sound)


async def test_a_link_in_the_place_of_a_blob_is_not_followed(
    site: BuildSite, layout: Layout, repository: Repository
) -> None:
    index = repository.blob(layout.folder.joinpath("index.json").read_bytes())
    digest = layout.digest("one").removeprefix("sha256:")
    target = repository.blob(str(layout.blob(digest)))
    blobs = repository.raw_tree(
        (TREE, b"sha256", repository.raw_tree((LINK, digest.encode(), target)))
    )
    tree = repository.raw_tree((TREE, b"blobs", blobs), (0o100644, b"index.json", index))
    with pytest.raises(BuildFailed, match="the layout's blob"):
        await had(HERE.resolved((tree,)), site)


@pytest.mark.parametrize("linked", ["blobs", "sha256"])
async def test_a_layout_of_the_repository_has_no_file_of_the_host(
    site: BuildSite, layout: Layout, repository: Repository, linked: str
) -> None:
    """Whoever knows a digest would have content of the host that no policy allows."""
    index = repository.blob(layout.folder.joinpath("index.json").read_bytes())
    if linked == "blobs":
        blobs = (LINK, b"blobs", repository.blob(str(layout.folder / "blobs")))
    else:
        inner = (LINK, b"sha256", repository.blob(str(layout.folder / "blobs/sha256")))
        blobs = (TREE, b"blobs", repository.raw_tree(inner))
    tree = repository.raw_tree(blobs, (0o100644, b"index.json", index))
    with pytest.raises(BuildFailed, match="the layout's blob"):
        await had(HERE.resolved((tree,)), site)


async def test_a_layout_of_the_host_behind_a_link_is_not_had(
    site: BuildSite, layout: Layout, tmp_path: Path
) -> None:
    """Its owner could lead the way out of the folders that the policy allows."""
    (tmp_path / "allowed").symlink_to(layout.folder)
    source = replace(of_the_host(layout, layout.digest("one")), layout=str(tmp_path / "allowed"))
    with pytest.raises(BuildUnavailable, match="the layout's blob"):
        await had(source, site)


async def test_a_folder_that_is_no_layout_is_said_so(
    site: BuildSite, repository: Repository
) -> None:
    tree = repository.tree({"Dockerfile": "FROM scratch\n"})
    with pytest.raises(BuildFailed, match=r"the layout's index.json: No such file"):
        await had(HERE.resolved((tree,)), site)


def archived(layout: Layout, form: str) -> Path:
    """The image `one` as an archive of its own."""
    path = layout.folder.with_name(f"{form}.tar")
    target = f"{form}:{path}" + (":acme/app:one" if form == "docker-archive" else "")
    skopeo_copy(f"oci:{layout.folder}:one", target)
    return path


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
async def test_an_image_is_had_from_an_archive_of_the_host(
    site: BuildSite, layout: Layout, tmp_path: Path, form: str
) -> None:
    archive = archived(layout, form)
    source = OciSource("linux/amd64", archive=str(archive), sha256=sha256_of(archive))
    image = await had(source, site)
    assert image.config.entrypoint == ("/bin/one",)
    (layer,) = image.layers
    assert layer.blob is not None
    assert layer.layer.diff_id == f"sha256:{sha256_of(tmp_path / 'layer.tar')}"
    blob = layer.blob.read_bytes()
    tar = gzip.decompress(blob) if form == "oci-archive" else blob
    assert tar == (tmp_path / "layer.tar").read_bytes()


async def test_an_archive_that_was_compressed_is_read(site: BuildSite, layout: Layout) -> None:
    """`docker save | gzip`, as most people keep them."""
    for form in ("oci-archive", "docker-archive"):
        archive = archived(layout, form)
        archive.write_bytes(gzip.compress(archive.read_bytes()))
        workspace = site.workspace / form
        workspace.mkdir()
        source = OciSource("linux/amd64", archive=str(archive), sha256=sha256_of(archive))
        image = await had(source, replace(site, workspace=workspace))
        assert image.config.entrypoint == ("/bin/one",)


async def test_an_image_is_had_from_an_archive_in_the_repository(
    site: BuildSite, repository: Repository, layout: Layout
) -> None:
    tree = repository.tree({"app.tar": archived(layout, "oci-archive").read_bytes()})
    source = OciSource("linux/amd64", archive="./app/app.tar").resolved((tree,))
    assert (await had(source, site)).digest == layout.digest("one")


async def test_an_archive_of_another_sha256_is_not_read(site: BuildSite, layout: Layout) -> None:
    archive = archived(layout, "oci-archive")
    source = OciSource("linux/amd64", archive=str(archive), sha256="0" * 64)
    with pytest.raises(
        BuildUnavailable, match="has another sha256 than the manifest says"
    ) as refused:
        await had(source, site)
    assert refused.value.kind == "changed-file"


def tar_of(entries: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member, content in entries:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def entry(name: str, content: bytes = b"{}", link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    if link:
        member.type, member.linkname = tarfile.SYMTYPE, link
        content = b""
    return member, content


HOSTILE = {
    "no tar": (b"x" * 10_000, "no tar"),
    "empty": (b"", "neither index.json nor manifest.json"),
    "cut off": (tar_of([entry("index.json", b"x" * 2000)])[:1500], "cut off"),
    "something else": (tar_of([entry("etc/passwd")]), "neither index.json nor manifest.json"),
    "twice": (tar_of([entry("index.json"), entry("./index.json")]), "has index.json twice"),
    "out of the folder": (
        tar_of([entry("../index.json"), entry("/index.json"), entry("blobs/sha256/../../../x")]),
        "neither index.json nor manifest.json",
    ),
    "a link": (tar_of([entry("index.json", link="/etc/passwd")]), "neither index.json"),
    "a linked folder": (
        tar_of([entry("blobs", link="/tmp"), entry("index.json", b'{"manifests": []}')]),
        "names 0 images",
    ),
    "too many": (tar_of([entry(f"blobs/{n}") for n in range(10_001)]), "more than 10000 entries"),
    "a large index": (tar_of([entry("index.json", b" " * (5 << 20))]), "larger than"),
    "docker's, broken": (tar_of([entry("manifest.json", b"[]")]), "no image that skopeo can read"),
    "docker's, out of itself": (
        tar_of([entry("manifest.json", b'[{"Config": "../../../../etc/hostname", "Layers": []}]')]),
        "no image that skopeo can read",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_an_archive_that_is_no_image_is_refused_and_writes_nothing_elsewhere(
    site: BuildSite, repository: Repository, tmp_path: Path, case: str
) -> None:
    program("skopeo")
    content, words = HOSTILE[case]
    source = OciSource("linux/amd64", archive="./app/app.tar")
    before = {path for path in tmp_path.iterdir() if path != site.workspace}
    with pytest.raises(BuildFailed, match=words):
        await had(source.resolved((repository.tree({"app.tar": content}),)), site)
    assert {path for path in tmp_path.iterdir() if path != site.workspace} == before
    assert not (site.workspace / "oci/index.json").exists()


async def test_a_link_in_the_place_of_an_archive_is_not_followed(
    site: BuildSite, repository: Repository, layout: Layout
) -> None:
    target = repository.blob(str(archived(layout, "oci-archive")))
    tree = repository.raw_tree((LINK, b"app.tar", target))
    with pytest.raises(BuildFailed, match=r"app\.tar: Too many levels of symbolic links"):
        await had(OciSource("linux/amd64", archive="./app/app.tar").resolved((tree,)), site)


class Replacing(ConfinedPrograms):
    """Replaces an archive of the host once it was looked at, as another user may."""

    def __init__(self, archive: Path, other: bytes) -> None:
        super().__init__()
        self._archive, self._other = archive, other

    async def run(self, argv: Sequence[str], **rest: Any) -> Ended:
        self._archive.write_bytes(self._other)
        return await super().run(argv, **rest)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
async def test_an_archive_that_is_replaced_after_it_was_digested_is_not_believed(
    site: BuildSite, layout: Layout, tmp_path: Path, form: str
) -> None:
    archive = archived(layout, form)
    sha256 = sha256_of(archive)
    evil = Layout(tmp_path / "other/layout")
    tar = write_layer(tmp_path / "other.tar", {"a": "b"})
    evil.add("one", tar, settings={"config.entrypoint": "/bin/evil"})
    programs = Replacing(archive, archived(evil, form).read_bytes())
    source = OciSource("linux/amd64", archive=str(archive), sha256=sha256)
    image = await had(source, replace(site, tools=replace(site.tools, programs=programs)))
    assert image.config.entrypoint == ("/bin/one",)
