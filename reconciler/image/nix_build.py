"""Runners that Nix makes: built by `nix build` of a locked flake, and kept by roots of its collector.

    STATE/runners/KEY -> /nix/store/...-microvm-VMM-web    made by Nix itself, which thereby knows it

The link is a root as long as it is there, so what a generation needs outlives every
`nix-collect-garbage`, and what nobody pins is Nix's to collect.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from reconciler.content_store import ContentStore
from reconciler.errors import BuildFailed
from reconciler.image import build_record as made
from reconciler.image.counted_dict import CountedDict
from reconciler.image.image_directory import KEY
from reconciler.image.nix_program import Nix
from reconciler.model.image import BuiltImage, NixRunner
from reconciler.safe_text import clean

RUN = "bin/microvm-run"
HELPERS = {
    "bin/tap-up": "tap interfaces", "bin/macvtap-up": "macvtap interfaces",
    "bin/pci-setup": "PCI devices", "bin/virtiofsd-run": "virtiofs shares",
}  # fmt: skip
"""What a runner wants done for it as root before it starts; nobody does it here."""
DECLARED = {
    "tap-interfaces": "tap interfaces", "macvtap-interfaces": "macvtap interfaces",
    "pci-devices": "PCI devices", "usb-devices": "USB devices", "vsock-cid": "a vsock with CID",
}  # fmt: skip
"""The same as files below share/microvm, which releases up to v0.5.0 have instead of the programs. Those
that do not apply are not there, or empty."""
SHARE = "share/microvm"
MOST_WORDS = 200
MOST_DECLARED = 4096
"""Bytes of such a file that are read."""


class NixRunners:
    """The links under `root`, and how they come there."""

    def __init__(self, root: Path, nix: Nix) -> None:
        self._root = root
        self._nix = nix
        self.broken: CountedDict[str, BuiltImage] = CountedDict()
        """None ever is: Nix keeps the bytes."""

    def scan(self) -> dict[str, BuiltImage]:
        """What is there and whole. Blocks; raises OSError."""
        if not self._root.is_dir():
            return {}
        for leftover in self._root.glob(".*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        keys = (path.name for path in self._root.iterdir() if KEY.fullmatch(path.name))
        return {key: _image(self._root / key) for key in keys if not self._faulty(key)}

    def altered(self, keys: Iterable[str]) -> list[str]:
        """Those that are not there any more. Blocks."""
        return [key for key in keys if self._faulty(key)]

    def remove(self, key: str) -> int:
        """From then on Nix may collect it; how much that frees, it knows. Blocks; raises OSError."""
        for link in self._root.glob(f"{key}*"):  # outputs beside the first have `-NAME` after it
            if link.is_symlink():
                link.unlink(missing_ok=True)
        return 0

    def forget(self, pinned: frozenset[str]) -> None:
        made.forget(self._root, pinned)

    async def build(
        self, key: str, title: str, source: NixRunner, content: ContentStore
    ) -> BuiltImage:
        """Build a flake's output, and see that it is a runner. Raises BuildFailed or BuildUnavailable."""
        self._root.mkdir(parents=True, exist_ok=True)
        workspace = Path(tempfile.mkdtemp(prefix=f".{key[:12]}.", suffix=".tmp", dir=self._root))
        try:
            await self._nix.build(
                source.flake, source.attribute, tree=source.tree, content=content,
                folder=workspace / "content", link=self._root / key, title=title,
            )  # fmt: skip
        finally:
            await asyncio.to_thread(shutil.rmtree, workspace, ignore_errors=True)
        if fault := self._faulty(key):
            self.remove(key)
            raise BuildFailed(f"{title}: {fault}", hint="change the flake and push")
        image = _image(self._root / key)
        differs = made.note(self._root, key, title, image.sha256)
        return replace(image, differs=differs)

    def _faulty(self, key: str) -> str:
        """What keeps this from being a runner that can be started here; empty: nothing."""
        place = (self._root / key).resolve()
        if not os.access(place / RUN, os.X_OK):
            return f"what was built has no executable {RUN}"
        for name, what in (*_declared(place), *HELPERS.items()):
            if (place / name).exists():
                return f"the runner wants {what} ({name}), which are not set up here"
        return ""


def _declared(place: Path) -> Iterator[tuple[str, str]]:
    """What a runner says that it needs of the host, by file, with the names that it gives it."""
    for name, what in DECLARED.items():
        if said := _words(place / SHARE / name):
            yield f"{SHARE}/{name}", f"{what} {said}"
    shares = place / SHARE / "virtiofs"
    for share in sorted(shares.iterdir()) if shares.is_dir() else ():
        source = _words(share / "source")
        yield f"{SHARE}/virtiofs/{share.name}", f"the virtiofs share {share.name} of {source}"


def _words(path: Path) -> str:
    """Its content in one line, fit for people; empty where there is nothing."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_DECLARED).decode("utf-8", "replace")
    except OSError:
        return ""
    words = " ".join(text.split())[:MOST_WORDS]
    return words and (clean(words) or "of an unreadable name")


def _image(link: Path) -> BuiltImage:
    """Nix has its own count of bytes, and names a path by what it was made of."""
    path = link.readlink()
    title = path.name.partition("-")[2] or path.name
    sha256 = hashlib.sha256(os.fsencode(path)).hexdigest()
    return BuiltImage(
        link.name, 0, sha256, 0.0, title=f"runner {title}", made_wall=link.lstat().st_mtime
    )
