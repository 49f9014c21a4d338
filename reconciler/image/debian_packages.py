"""Packages of the distribution: found and checked by apt, unpacked in a folder, never installed."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.children import program as children
from reconciler.errors import BuildUnavailable
from reconciler.image.debian_roots.builder_client import DebianRoots
from reconciler.image.progress_board import Progress

FETCH_SECONDS = 600.0
"""For lists or packages over a slow line."""
UNPACK_SECONDS = 120.0
FRESH_SECONDS = 3600.0
"""How long lists are not looked for again."""
MOST_PACKAGES, MOST_DEPENDENCIES = 8, 32
APT_USER = "_apt"
"""apt downloads as this user when it is root, and complains when it cannot reach the folder."""

KERNEL_PART = re.compile(r"linux-(image|modules)-\d[a-z0-9.+~-]*")
DEPENDENCY = re.compile(r"([a-z0-9][a-z0-9.+-]*)(?::\w+)?(?:\s*\((<<|<=|=|>=|>>)\s*([^)\s]+)\))?")
NETWORK_HINT = "is the network up? are apt's sources right? see /etc/apt"


@dataclass(frozen=True, slots=True)
class Package:
    """A binary package; without a version: apt's candidate."""

    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}={self.version}" if self.version else self.name


class Debian:
    """Apt of this host, for reading: it downloads, and never installs; and builders of whole roots."""

    def __init__(self, roots: DebianRoots | None = None) -> None:
        self._roots = roots
        self._updating = asyncio.Lock()
        self._updated_at: float | None = None

    @property
    def roots(self) -> DebianRoots:
        """What makes root file systems of packages. Raises BuildUnavailable where nothing does."""
        if self._roots is None:
            raise BuildUnavailable(
                "no builder of Debian packages was set up", kind="missing-program"
            )
        return self._roots

    async def unpack(
        self, packages: Sequence[Package], folder: Path, progress: Progress | None = None
    ) -> None:
        """Download packages and unpack them all into a folder. Raises BuildUnavailable."""
        progress = progress or Progress()
        async with _download_folder() as downloads:
            progress.begin("fetching packages", downloads)
            await self._download(packages, downloads)
            progress.begin("unpacking packages", folder)
            for archive in sorted(downloads.glob("*.deb")):
                await children.check(
                    ("dpkg-deb", "--extract", str(archive), str(folder)), seconds=UNPACK_SECONDS
                )

    async def kernel_packages(self, wanted: Package) -> list[Package]:
        """A kernel package with its modules; a metapackage is followed to the real one."""
        found = [wanted]
        for package in found:
            for name, operator, version in _dependencies(await self._stanza(package)):
                if KERNEL_PART.fullmatch(name) and name not in {p.name for p in found}:
                    found.append(Package(name, version if operator == "=" else ""))
            if len(found) > MOST_PACKAGES:
                raise BuildUnavailable(f"{wanted}: needs more than {MOST_PACKAGES} packages")
        return [package for package in found if KERNEL_PART.fullmatch(package.name)] or found

    async def with_dependencies(self, wanted: Package) -> list[Package]:
        """A package and all that it depends on, whatever of it the host has. Raises BuildUnavailable."""
        found = [wanted]
        for package in found:
            for name, _, _ in _dependencies(await self._stanza(package)):
                if name not in {p.name for p in found}:
                    found.append(Package(name))
            if len(found) > MOST_DEPENDENCIES:
                raise BuildUnavailable(f"{wanted}: needs more than {MOST_DEPENDENCIES} packages")
        return found

    async def _stanza(self, package: Package) -> str:
        shown = await self._ask(("apt-cache", "show", "--no-all-versions", str(package)))
        if shown.status != 0:
            raise BuildUnavailable(
                f"apt knows no package {package}",
                kind="missing-package",
                hint="set `package` and `version` in [kernels.debian] to what this release has",
            )
        return shown.output.decode(errors="replace").split("\n\n", 1)[0]

    async def _download(self, packages: Sequence[Package], folder: Path) -> None:
        argv = ("apt-get", "-q", "-o", "Acquire::Retries=2", "download", *map(str, packages))
        ended = await self._ask(argv, folder)
        if ended.status != 0:
            names = " ".join(map(str, packages))
            raise BuildUnavailable(f"apt-get download {names}: {ended.tail}", hint=NETWORK_HINT)

    async def _ask(self, argv: Sequence[str], cwd: Path | None = None) -> children.Ended:
        """Ask apt; where it fails, once more with newer lists: old ones name what is gone."""
        asked_at = asyncio.get_running_loop().time()
        ended = await children.run(argv, seconds=FETCH_SECONDS, cwd=cwd)
        if ended.status != 0 and await self._update(asked_at):
            ended = await children.run(argv, seconds=FETCH_SECONDS, cwd=cwd)
        return ended

    async def _update(self, asked_at: float) -> bool:
        """Make the lists newer than a question; False when they were new when it was asked."""
        async with self._updating:
            if self._updated_at is not None and asked_at < self._updated_at + FRESH_SECONDS:
                return asked_at < self._updated_at
            argv = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=60", "update")
            ended = await children.run(argv, seconds=FETCH_SECONDS)
            if ended.status != 0:
                hint = NETWORK_HINT if os.geteuid() == 0 else "run `apt-get update` as root"
                raise BuildUnavailable(f"apt-get update: {ended.tail}", hint=hint)
            self._updated_at = asyncio.get_running_loop().time()
            return True


def _dependencies(stanza: str) -> list[tuple[str, str, str]]:
    """(name, operator, version) of each dependency; of alternatives the first."""
    for line in stanza.splitlines():
        if line.startswith("Depends:"):
            parts = [part.split("|")[0].strip() for part in line[8:].split(",")]
            return [m.groups("") for part in parts if (m := DEPENDENCY.fullmatch(part))]  # type: ignore[misc]
    return []


@asynccontextmanager
async def _download_folder() -> AsyncIterator[Path]:
    """A folder that apt's own user can write to, so that downloads stay in apt's sandbox."""
    with tempfile.TemporaryDirectory(prefix="reconciler-apt-") as name:
        if os.geteuid() == 0:
            try:
                user = pwd.getpwnam(APT_USER)
                os.chown(name, user.pw_uid, user.pw_gid)
            except (KeyError, OSError):
                pass  # apt then downloads as root, after a warning
        yield Path(name)
