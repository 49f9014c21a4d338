"""Asks registries what tags of images mean: the same way, by the same settings and bounds as a pull."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from reconciler.errors import BuildUnavailable
from reconciler.image.build_site import BuildTools
from reconciler.image.oci import image_manifest as forms
from reconciler.image.oci.origins import skopeo_for
from reconciler.image.oci.registry_pull import PATIENCE, shown
from reconciler.model.image_tags import Tag


class RegistryTags:
    """`folder` is for what each lookup writes; what a killed daemon left in it goes."""

    def __init__(
        self, folder: Path, tools: BuildTools, answer_seconds: float = PATIENCE.answer
    ) -> None:
        self._folder = folder
        self._tools = tools
        self._seconds = answer_seconds
        shutil.rmtree(folder, ignore_errors=True)

    async def look_up(self, tag: Tag) -> str:
        """The digest of the image that the registry means by a tag now.

        Raises BuildUnavailable, or BuildFailed for what is no image.
        """
        try:
            workspace = await asyncio.to_thread(self._workspace)
        except OSError as error:
            raise BuildUnavailable(
                f"{self._folder}: {error.strerror}", kind="disk-full", hint="free some space"
            ) from error
        try:
            skopeo = await skopeo_for(tag.repository, self._tools, workspace / "skopeo")
            content = await shown(skopeo, tag.reference, self._seconds)
        except OSError as error:
            raise BuildUnavailable(f"{tag.reference}: {error.strerror}") from error
        finally:
            await asyncio.to_thread(shutil.rmtree, workspace, ignore_errors=True)
        if forms.parse_index(content) is None:
            forms.parse_manifest(content)
        # Of the bytes that came, whatever digest the registry claims for them.
        return forms.sha256_of(content)

    def _workspace(self) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self._folder))
