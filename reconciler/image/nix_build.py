"""Runners that Nix makes: built by `nix build` of a locked flake, and kept by roots of its collector.

    STATE/runners/KEY -> /nix/store/...-microvm-VMM-web    made by Nix itself, which thereby knows it

The link is a root as long as it is there, so what a generation needs outlives every
`nix-collect-garbage`, and what nobody pins is Nix's to collect. A build is the host's Nix at work: its
sandbox, its builders, its caches, as /etc/nix/nix.conf has them; what a flake says about Nix itself
(`nixConfig`) counts for nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from reconciler.children import program as children
from reconciler.content_store import ContentStore, named
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image import build_record as made
from reconciler.image.image_directory import KEY
from reconciler.model.image import BuiltImage, NixRunner
from reconciler.safe_text import clean

BUILD_SECONDS = 3600.0
"""A NixOS of a cold cache takes its time; what Nix has finished by then need not be done again."""
OPENING_SECONDS = 60.0
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
SETTINGS = """
experimental-features = nix-command flakes
accept-flake-config = false
use-registries = false
eval-cache = false
warn-dirty = false
"""
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "NIX_REMOTE", "NIX_CONF_DIR", "NIX_SSL_CERT_FILE",
                  "NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_CONFIG")  # fmt: skip
"""What Nix sees of the daemon's environment, which may hold secrets."""

SURROUNDINGS = re.compile(
    r"cannot connect to|unable to download|[Cc]ould not resolve|[Nn]o space left|[Pp]ermission denied"
    r"|[Cc]annot allocate memory|[Rr]ead-only file system|database .* is (locked|busy)|timed out"
    r"|is corrupt|creating (symlink|directory)|build-users-group|build-remote|interrupted by the user"
    r"|unexpected end-of-file|unexpected EOF|[Tt]oo many open files"
)
"""What Nix says of a host in trouble; all else that it says is about the flake."""


class NixRunners:
    """The links under `root`, and how they come there."""

    def __init__(self, root: Path, seconds: float = BUILD_SECONDS) -> None:
        self._root = root
        self._seconds = seconds
        self._opening = asyncio.Lock()
        self._store_is_open = False
        self.broken: dict[str, BuiltImage] = {}
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
            flake, staged = source.flake, ""
            if source.tree:
                folder = workspace / "content"
                with named(f"tree {source.flake}"):
                    await content.export(source.tree, folder)
                await asyncio.to_thread(age, folder)
                staged = str(folder)
                flake = f"path:{quote(staged)}"
            await self._open_store(title)
            ended = await self._run(key, f"{flake}#{source.attribute}")
            _judge(ended, title, (staged or flake, source.flake))
        finally:
            await asyncio.to_thread(shutil.rmtree, workspace, ignore_errors=True)
        if fault := self._faulty(key):
            self.remove(key)
            raise BuildFailed(f"{title}: {fault}", hint="change the flake and push")
        image = _image(self._root / key)
        differs = made.note(self._root, key, title, image.sha256)
        return replace(image, differs=differs)

    async def _open_store(self, title: str) -> None:
        """Open Nix's store alone, once. Raises BuildUnavailable.

        The first who opens a new store makes it, and of two at once one fails: Nix holds only a shared
        lock meanwhile (2.8, `LocalStore`; seen as "schema is corrupt" and "creating symlink: File exists").
        """
        async with self._opening:
            if self._store_is_open:
                return
            ended = await children.run(
                ("nix", "store", "ping"), seconds=OPENING_SECONDS, env=self._environment()
            )
            if ended.status != 0:
                raise _unavailable(title, "nix store ping", _said(ended))
            self._store_is_open = True

    async def _run(self, key: str, installable: str) -> children.Ended:
        argv = (
            "nix", "build", "--no-write-lock-file", "--no-update-lock-file",
            "--out-link", str(self._root / key), "--", installable,
        )  # fmt: skip
        return await children.run(argv, seconds=self._seconds, env=self._environment())

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        home = self._root / ".home"
        home.mkdir(mode=0o700, exist_ok=True)
        return {**kept, "HOME": str(home), "NIX_CONFIG": kept.get("NIX_CONFIG", "") + SETTINGS}

    def _faulty(self, key: str) -> str:
        """What keeps this from being a runner that can be started here; empty: nothing."""
        place = (self._root / key).resolve()
        if not os.access(place / RUN, os.X_OK):
            return f"what was built has no executable {RUN}"
        for name, what in (*_declared(place), *HELPERS.items()):
            if (place / name).exists():
                return f"the runner wants {what} ({name}), which are not set up here"
        return ""


def age(folder: Path) -> None:
    """Give everything the same time: a flake is told the newest of its files. Blocks."""
    for place, _, names in os.walk(folder):
        for path in (*(Path(place, name) for name in names), Path(place)):
            os.utime(path, (1, 1), follow_symlinks=False)


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


def _judge(ended: children.Ended, title: str, called: tuple[str, str]) -> None:
    """`called`: what Nix calls the flake, and what people do. Raises BuildFailed or BuildUnavailable."""
    if ended.status == 0:
        return
    said = _said(ended).replace(*called)
    # What a builder printed is indented, and says nothing of this host.
    own = "\n".join(line for line in said.splitlines() if not line.startswith(" "))
    if ended.status < 0 or SURROUNDINGS.search(own):
        raise _unavailable(title, "nix build", said)
    raise BuildFailed(f"{title}: nix build: {said}", hint="mend the flake and push")


def _said(ended: children.Ended) -> str:
    return ended.tail or f"status {ended.status}"


def _unavailable(title: str, command: str, said: str) -> BuildUnavailable:
    return BuildUnavailable(
        f"{title}: {command}: {said}", kind="nix",
        hint="is the Nix daemon running, the network up, space left? it is tried again",
    )  # fmt: skip


def _image(link: Path) -> BuiltImage:
    """Nix has its own count of bytes, and names a path by what it was made of."""
    path = link.readlink()
    title = path.name.partition("-")[2] or path.name
    sha256 = hashlib.sha256(os.fsencode(path)).hexdigest()
    return BuiltImage(
        link.name, 0, sha256, 0.0, title=f"runner {title}", made_wall=link.lstat().st_mtime
    )
