"""A place to make images of tars in, with the programs of this host."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.children.spare import ConfinedPrograms
from reconciler.clock import SystemClock
from reconciler.image.build_site import BuildSite, BuildTools
from reconciler.image.debian_packages import Debian
from reconciler.image.downloads import Downloads
from reconciler.image.nix_program import Nix
from reconciler.model.layer_kinds.described_source import StoreFormat

if shutil.which("unsquashfs") is None:
    pytest.skip("squashfs-tools are missing", allow_module_level=True)


def reads_tars() -> bool:
    """Whether this host's mkfs.erofs is new enough."""
    said = subprocess.run(("mkfs.erofs", "--help"), capture_output=True, check=False)
    return b"--tar" in said.stdout + said.stderr


@dataclass(frozen=True)
class Sites:
    """Makes sites below one folder; each has a workspace of its own."""

    root: Path
    tools: BuildTools

    def site(self, name: str = "site", store_format: StoreFormat = "squashfs") -> BuildSite:
        workspace = self.root / name
        workspace.mkdir()
        nothing: Any = None
        return BuildSite(store_format, workspace, nothing, self.tools, nothing)


@pytest.fixture
async def sites(tmp_path: Path) -> AsyncIterator[Sites]:
    programs = ConfinedPrograms()
    yield Sites(
        tmp_path,
        BuildTools(
            programs,
            Debian(),
            Downloads(tmp_path / "downloads", SystemClock()),
            Nix(tmp_path / "home"),
        ),
    )
    await programs.close()


Pack = Callable[..., Awaitable[BuildSite]]


@pytest.fixture
def pack(sites: Sites, tmp_path: Path) -> Pack:
    """Makes an image of a tar."""
    made = iter(range(100))

    async def packed(tar: bytes, store_format: StoreFormat = "squashfs") -> BuildSite:
        number = next(made)
        path = tmp_path / f"{number}.tar"
        path.write_bytes(tar)
        site = sites.site(f"site-{number}", store_format)
        await site.make_image_of_tar(path)
        return site

    return packed
