"""Where the image of a layer is had from, by what its source says."""

from __future__ import annotations

from pathlib import Path

from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.build_site import BuildSite, BuildTools
from reconciler.image.oci.archive_file import layout_of_archive
from reconciler.image.oci.image_fetch import FetchedImage, Known, Origin, fetch
from reconciler.image.oci.layout_folder import LocalLayout
from reconciler.image.oci.registry_pull import RegistryPull
from reconciler.image.oci.skopeo import Skopeo
from reconciler.image_references import registry_of
from reconciler.model.layer_kinds.oci_layer import OciSource


async def fetch_image(source: OciSource, site: BuildSite, known: Known) -> FetchedImage:
    """Have an image here, but for the layers that are known. Raises BuildFailed or BuildUnavailable."""
    folder = site.workspace.resolve() / "oci"
    folder.mkdir()
    try:
        origin = await _origin(source, site, folder)
        return await fetch(origin, source.digest, source.platform, known, folder)
    except BuildUnavailable as error:
        # A folder of the repository stays as it is.
        if source.tree and error.kind in ("corrupt", "missing"):
            raise BuildFailed(str(error), hint="correct the image and push") from error
        raise


async def skopeo_for(repository: str, tools: BuildTools, folder: Path) -> Skopeo:
    """What asks the registry of a repository, by the host's settings for it. Raises BuildUnavailable."""
    name = registry_of(repository)
    settings = next((one for one in tools.sources.registries if one.name == name), None)
    skopeo = Skopeo(tools.programs, folder, settings)
    await skopeo.prepare()
    return skopeo


async def _origin(source: OciSource, site: BuildSite, folder: Path) -> Origin:
    if source.repository:
        skopeo = await skopeo_for(source.repository, site.tools, folder / "skopeo")
        site.progress.begin("asking the registry")
        return RegistryPull(
            skopeo, source.repository, folder / "blobs", site.tools.blobs, progress=site.progress
        )
    place = Path(source.layout or source.archive)
    if source.tree:
        content = folder / "content"
        site.progress.begin("copying from the repository", content)
        await site.content.export(source.tree, content)
        place = content / place.name if source.archive else content
    if source.archive:
        site.progress.begin("reading the archive", folder / "layout", folder / "skopeo")
        place = await layout_of_archive(place, source.sha256, site.tools.programs, folder)
    return LocalLayout(place, source.platform)
