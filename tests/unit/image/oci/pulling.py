"""Pulls as the store makes them, of images that a test pushed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from reconciler.children.spare import ConfinedPrograms
from reconciler.image.oci.image_fetch import FetchedImage, fetch
from reconciler.image.oci.registry_pull import PATIENCE, Patience, RegistryPull
from reconciler.image.oci.shared_blobs import SharedBlobs
from reconciler.image.oci.skopeo import Skopeo
from reconciler.image_references import parse_reference
from reconciler.image_registries import RegistryConfig


class Puller:
    """A host that pulls; each pull has a workspace of its own."""

    def __init__(self, folder: Path, programs: ConfinedPrograms) -> None:
        self._folder = folder
        self._programs = programs
        self._shared = SharedBlobs()
        self._pulls = 0

    async def pull(
        self,
        reference: str,
        settings: RegistryConfig | None,
        *,
        known: Collection[str] = (),
        platform: str = "linux/amd64",
        patience: Patience = PATIENCE,
    ) -> FetchedImage:
        self._pulls += 1
        workspace = self._folder / f"pull-{self._pulls}"
        workspace.mkdir()
        named = parse_reference(reference)
        assert named is not None
        skopeo = Skopeo(self._programs, workspace / "skopeo", settings)
        await skopeo.prepare()
        origin = RegistryPull(skopeo, named.repository, workspace / "blobs", self._shared, patience)
        return await fetch(origin, named.digest, platform, lambda one: one in known, workspace)


@asynccontextmanager
async def pulling(folder: Path) -> AsyncIterator[Puller]:
    programs = ConfinedPrograms()
    try:
        yield Puller(folder, programs)
    finally:
        await programs.close()
