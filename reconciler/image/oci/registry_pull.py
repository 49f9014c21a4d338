"""An image's origin: a registry, asked by skopeo."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import BuildUnavailable
from reconciler.image.oci.image_manifest import ImageLayer
from reconciler.image.oci.shared_blobs import SharedBlobs, name_of
from reconciler.image.oci.skopeo import Skopeo
from reconciler.image.progress_board import Progress, bytes_in

LOOK_SECONDS = 0.5
"""How often the growth of what is fetched is looked at."""
SPARE_BYTES = 16 << 20
"""For the manifest, the config and skopeo's own files."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds of the wall clock."""

    answer: float = 90.0
    """For a manifest or config, with the questions for credentials and mirrors before it."""
    stalled: float = 90.0
    """How long no byte of a layer may come."""
    all: float = 3600.0


PATIENCE = Patience()


class RegistryPull:
    """The image `repository` of a registry; `blobs` is a new folder for what is fetched of it."""

    def __init__(
        self,
        skopeo: Skopeo,
        repository: str,
        blobs: Path,
        shared: SharedBlobs,
        patience: Patience = PATIENCE,
        progress: Progress | None = None,
    ) -> None:
        self._skopeo = skopeo
        self._repository = repository
        self._blobs = blobs
        self._shared = shared
        self._progress = progress or Progress()
        self._patience = patience
        self._configs: dict[str, bytes | BuildUnavailable] = {}

    async def manifest(self, digest: str) -> bytes:
        # Most digests name no index: the config is asked for at the same time, since each answer
        # costs the start of a program. Of an index it is a wrong one, which is not used.
        config = asyncio.create_task(self._config_of(digest))
        try:
            content = await self._show(digest, config=False)
            self._configs[digest] = await config
        finally:
            config.cancel()
            await asyncio.wait({config})
        return content

    async def config(self, digest: str, config: str) -> bytes:
        del config  # named by the manifest
        found = self._configs[digest]
        if isinstance(found, BuildUnavailable):
            raise found
        return found

    async def _config_of(self, digest: str) -> bytes | BuildUnavailable:
        try:
            return await self._show(digest, config=True)
        except BuildUnavailable as error:
            return error

    async def blobs(
        self, digest: str, wanted: Iterable[ImageLayer], known: Iterable[ImageLayer]
    ) -> Path:
        """Fetch what is wanted. Not a byte of what is known, or of what another build fetches, is asked for."""
        missing = {layer.digest: layer for layer in wanted}
        everything = {*missing, *(layer.digest for layer in known)}
        folder = self._blobs / "sha256"
        await asyncio.to_thread(folder.mkdir, parents=True)
        size = sum(layer.size for layer in missing.values())
        self._progress.begin("fetching", self._blobs, self._skopeo.unfinished, total=size)
        while missing:
            with self._shared.claim(missing, folder) as (mine, coming):
                if mine:
                    await asyncio.to_thread(_spare, folder, everything - {*mine}, mine)
                    # Others may link theirs meanwhile.
                    most = self._size() + sum(layer.size for layer in missing.values())
                    largest = max(missing[one].size for one in mine)
                    await self._fetch(digest, largest, most + SPARE_BYTES)
            # What another build failed to fetch is ours in the next round.
            missing = {one: missing[one] for one, linked in coming.items() if not await linked}
        return self._blobs

    async def _fetch(self, digest: str, largest: int, most: int) -> None:
        """`largest`: bytes of a file; `most`: of all that is here then."""
        copying = self._skopeo.copy(
            f"docker://{self._repository}@{digest}",
            self._blobs,
            seconds=self._patience.all,
            file_bytes=largest + SPARE_BYTES,
        )
        await self._watched(copying, most)

    async def _show(self, digest: str, *, config: bool) -> bytes:
        reference, seconds = f"{self._repository}@{digest}", self._patience.answer
        return await shown(self._skopeo, reference, seconds, config=config)

    def _size(self) -> int:
        return bytes_in(self._blobs, self._skopeo.unfinished)

    async def _watched(self, copying: Coroutine[None, None, None], most: int) -> None:
        """Wait for a copy; end one that brings nothing any more, or more than was declared."""
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(copying)
        grown, since = 0, loop.time()
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LOOK_SECONDS)
                size = await asyncio.to_thread(self._size)
                if size != grown:
                    grown, since = size, loop.time()
                if grown > most:
                    raise BuildUnavailable(
                        "the registry sends more than the manifest says", kind="limit",
                        hint="is it the right registry? it is tried again",
                    )  # fmt: skip
                if not task.done() and loop.time() - since > self._patience.stalled:
                    raise _silent(self._patience.stalled)
            task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})


async def shown(skopeo: Skopeo, reference: str, seconds: float, *, config: bool = False) -> bytes:
    """The manifest or config of an image, not yet verified. Raises BuildUnavailable."""
    try:
        return await skopeo.show(f"docker://{reference}", config=config, seconds=seconds)
    except BuildUnavailable as error:
        if error.kind != "deadline":
            raise
        raise _silent(seconds) from error


def _silent(seconds: float) -> BuildUnavailable:
    return BuildUnavailable(
        f"the registry sent nothing for {seconds:g} s",
        kind="timeout",
        hint="is it overloaded, or the route to it broken? it is tried again",
    )


def _spare(folder: Path, spared: Iterable[str], wanted: Iterable[str]) -> None:
    """Have an empty file in the place of each blob that is not wanted: skopeo then does not ask for it."""
    for digest in spared:
        (folder / name_of(digest)).touch()
    for digest in wanted:  # it may have been spared before
        (folder / name_of(digest)).unlink(missing_ok=True)
