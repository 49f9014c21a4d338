"""An image that rots on the disk below a guest that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demo.fleet import WEB
from tests.integration.harness import Harness, other_pids
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

MADE_AGAIN = 90.0
"""Seconds in which an image is made again that a running guest needs."""


def command(fleet: Harness, *arguments: str) -> tuple[int, str]:
    """What a command of `images` says, and its exit code."""
    socket = str(fleet.daemon.settings.socket)
    argv = (sys.executable, "-m", "reconciler", "images", *arguments, "--socket", socket)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


def images(fleet: Harness) -> list[dict[str, Any]]:
    code, said = command(fleet, "ls", "-o", "json")
    assert code == 0, said
    found: list[dict[str, Any]] = json.loads(said)["images"]
    return found


def flip_a_byte(image: Path) -> None:
    """As a disk does it: size, times and inode stay."""
    before = image.stat()
    image.chmod(0o644)
    with image.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        (last,) = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes((last ^ 0xFF,)))
    image.chmod(0o444)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_rotten_layer_is_found_and_made_again_and_its_guest_runs_on(fleet: Harness) -> None:
    before, served = fleet.fleet(), fleet.ask(WEB[0])
    (layer,) = [one for one in images(fleet) if one["title"].endswith(WEB[0]) and one["wanted"]]
    assert (layer["state"], layer["vms"]) == ("used", 1)
    path = fleet.stage.state / "layers" / layer["key"] / "image"
    sound, inode = path.read_bytes(), path.stat().st_ino
    assert command(fleet, "verify", layer["key"])[0] == 0
    flip_a_byte(path)
    code, said = command(fleet, "verify")
    assert code == 1, said
    assert [line.split()[1] for line in said.splitlines() if "rotten" in line] == [
        layer["key"][:12]
    ]

    def made_again() -> bool:
        try:
            return bool(path.stat().st_ino != inode and path.read_bytes() == sound)
        except FileNotFoundError:  # between the old entry and the new one
            return False

    wait_until(made_again, MADE_AGAIN, "it is made again, the same")
    assert command(fleet, "pull")[0] == 0
    assert command(fleet, "verify", layer["key"])[0] == 0
    assert other_pids(before, fleet.fleet()) == {}
    assert fleet.ask(WEB[0]) == served
    code, said = command(fleet, "why", layer["key"])
    assert f"{WEB[0]} generation" in said
    assert "runs, desired, last good" in said
