"""Packages of the distribution: found and checked by apt, unpacked in a folder, never installed."""

from __future__ import annotations

import os
import pwd
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import BuildUnavailable
from reconciler.image import children

LOOK_SECONDS = 60.0
FETCH_SECONDS = 600.0
"""For lists or packages over a slow line."""
UNPACK_SECONDS = 120.0
MOST_PACKAGES = 8
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
    """Apt of this host, for reading: it downloads, and never installs."""

    def __init__(self) -> None:
        self._lists_are_fresh = False

    async def unpack(self, packages: Sequence[Package], folder: Path) -> None:
        """Download packages and unpack them all into a folder. Raises BuildUnavailable."""
        async with _download_folder() as downloads:
            await self._download(packages, downloads)
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

    async def _stanza(self, package: Package) -> str:
        argv = ("apt-cache", "show", "--no-all-versions", str(package))
        shown = await children.run(argv, seconds=LOOK_SECONDS)
        if shown.status != 0 and await self._update():
            shown = await children.run(argv, seconds=LOOK_SECONDS)
        if shown.status != 0:
            raise BuildUnavailable(
                f"apt knows no package {package}",
                kind="missing-package",
                hint="set `package` and `version` in [kernels.debian] to what this release has",
            )
        return shown.output.decode(errors="replace").split("\n\n", 1)[0]

    async def _download(self, packages: Sequence[Package], folder: Path) -> None:
        argv = ("apt-get", "-q", "-o", "Acquire::Retries=2", "download", *map(str, packages))
        ended = await children.run(argv, seconds=FETCH_SECONDS, cwd=folder)
        # Lists of last month name packages that the mirror has replaced since.
        if ended.status != 0 and await self._update():
            ended = await children.run(argv, seconds=FETCH_SECONDS, cwd=folder)
        if ended.status != 0:
            names = " ".join(map(str, packages))
            raise BuildUnavailable(f"apt-get download {names}: {ended.tail}", hint=NETWORK_HINT)

    async def _update(self) -> bool:
        """Look for newer lists, at most once; False when there is nothing new to hope for."""
        if self._lists_are_fresh:
            return False
        argv = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=60", "update")
        ended = await children.run(argv, seconds=FETCH_SECONDS)
        if ended.status != 0:
            hint = NETWORK_HINT if os.geteuid() == 0 else "run `apt-get update` as root"
            raise BuildUnavailable(f"apt-get update: {ended.tail}", hint=hint)
        self._lists_are_fresh = True
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
