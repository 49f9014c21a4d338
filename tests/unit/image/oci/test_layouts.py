"""Images in OCI layouts, of the repository and of the host."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.children.spare import ConfinedPrograms
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.build_site import BuildSite, BuildTools, MakePart
from reconciler.image.debian_packages import Debian
from reconciler.image.oci.image_fetch import FetchedImage
from reconciler.image.oci.origins import fetch_image
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.names import LayerKey
from tests.registry.images import Layout, write_layer
from tests.unit.image.trees import LINK, TREE, Content, Repository

HERE = OciSource("linux/amd64", layout="./app")


class NoParts:
    """For what is had before any part is made."""

    def has(self, key: LayerKey) -> bool:
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
    tools = BuildTools(programs, Debian())
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


async def test_a_folder_that_is_no_layout_is_said_so(
    site: BuildSite, repository: Repository
) -> None:
    tree = repository.tree({"Dockerfile": "FROM scratch\n"})
    with pytest.raises(BuildFailed, match=r"the layout's index.json: No such file"):
        await had(HERE.resolved((tree,)), site)
