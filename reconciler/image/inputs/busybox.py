"""The layer input `busybox`: a base with an init that honours the power button."""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath

from reconciler.children import program as programs
from reconciler.errors import BuildUnavailable
from reconciler.image.build_site import BuildSite
from reconciler.image.debian_packages import Debian, Package
from reconciler.image.layer_input import LayerInput
from reconciler.image.progress_board import Progress
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource

PACKAGE = Package("busybox-static")
GUEST = Path(__file__).parents[1] / "guest"
FOLDERS = (
    "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/sbin", "var/log",
    "var/spool/cron/crontabs", "var/tmp", "var/www",
)  # fmt: skip
MODES = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777, "var/spool/cron/crontabs": 0o1730}
SECRET = frozenset({"etc/shadow"})
"""Files that only root of the guest reads."""
LIST_SECONDS = 10.0
MOST_BUSYBOX_BYTES = 16 << 20


async def fetch_busybox(debian: Debian, scratch: Path, progress: Progress | None = None) -> Path:
    """The static busybox of the distribution. Raises BuildUnavailable."""
    await debian.unpack([PACKAGE], scratch, progress)
    found = await asyncio.to_thread(_find, scratch)
    if found is None:
        raise BuildUnavailable(f"the package {PACKAGE} has no busybox")
    return found


async def build_busybox(_source: BusyboxSource, site: BuildSite) -> None:
    packages = site.workspace / "packages"
    program = await fetch_busybox(site.tools.debian, packages, site.progress)
    listed = await programs.check((str(program), "--list-full"), seconds=LIST_SECONDS)
    applets = listed.decode("ascii").split()
    await asyncio.to_thread(write_base, site.folder, program, applets)
    await site.make_image(MOST_BUSYBOX_BYTES)


def write_base(root: Path, busybox: Path, applets: list[str]) -> None:
    """Lay out the base: busybox, a link for each applet, and the files of `guest/base`."""
    for name in ("bin", "sbin", *FOLDERS):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(MODES.get(name, 0o755))
    _write(root / "bin/busybox", busybox.read_bytes(), 0o755)
    for applet in map(PurePosixPath, applets):
        link = root / applet
        if applet.is_absolute() or ".." in applet.parts or link.name == "busybox":
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("/bin/busybox")
    recipes = GUEST / "base"
    for recipe in sorted(path for path in recipes.rglob("*") if path.is_file()):
        content = recipe.read_bytes()
        # By content: an archive or an installer may have lost the mode.
        mode = 0o755 if content.startswith(b"#!") else 0o644
        if recipe.relative_to(recipes).as_posix() in SECRET:
            mode = 0o600
        target = root / recipe.relative_to(recipes)
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, content, mode)


def _write(path: Path, content: bytes, mode: int) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def _find(folder: Path) -> Path | None:
    for place in ("bin/busybox", "usr/bin/busybox"):
        found = folder / place
        if found.is_file() and found.stat().st_size <= MOST_BUSYBOX_BYTES:
            return found
    return None


INPUT = LayerInput(build_busybox, seconds=3600.0)
"""It may have to wait for mirrors."""
