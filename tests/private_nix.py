"""Debian's Nix with a store of its own in a folder, whether it is installed or only unpacked by `./dev`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

UNPACKED = Path(__file__).resolve().parents[1] / ".cache/nix/usr"
SETTINGS = """\
sandbox = false
build-users-group =
substituters =
"""
"""What a test may do without: nobody else builds in this store."""


def settings(folder: Path) -> dict[str, str]:
    """The environment in which `nix` has its store under `folder`. Skips where there is no Nix."""
    program = shutil.which("nix") or shutil.which("nix", path=str(UNPACKED / "bin"))
    if program is None:
        pytest.skip("Nix is neither installed nor unpacked: ./dev setup unpacks it")
    (folder / "etc").mkdir(parents=True)
    usr = Path(program).parents[1]
    hook = f"build-hook = {usr}/libexec/nix/build-remote\n"
    (folder / "etc/nix.conf").write_text(SETTINGS + hook, encoding="utf-8")
    libraries = [*usr.glob("lib/*-linux-gnu"), usr / "lib/nix", usr / "lib"]
    unpacked = {} if usr == Path("/usr") else {"LD_LIBRARY_PATH": ":".join(map(str, libraries))}
    return {
        **unpacked,
        "PATH": f"{usr}/bin:{os.environ['PATH']}",
        "NIX_CONF_DIR": str(folder / "etc"),
        "NIX_STORE_DIR": str(folder / "store"),
        "NIX_STATE_DIR": str(folder / "var"),
        "NIX_LOG_DIR": str(folder / "log"),
    }


def collect_garbage(environment: dict[str, str]) -> None:
    """What a host's owner runs every week."""
    subprocess.run(
        ["nix-collect-garbage"], env=environment, check=True, capture_output=True, timeout=60
    )
