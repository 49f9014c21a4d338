"""What is asked of apt: the real package behind a name, newer lists where old ones fail, and no more."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from reconciler.errors import BuildUnavailable
from reconciler.image.debian_packages import Debian, Package, _dependencies

META = "Package: linux-image-cloud\nDepends: linux-image-6.1.0-1-cloud (= 6.1.1-1)\n"
IMAGE = "Package: linux-image-6.1.0-1-cloud\nDepends: kmod, linux-modules-6.1.0-1-cloud\n"
MODULES = "Package: linux-modules-6.1.0-1-cloud\nDepends: libc6\n"

CACHE = """#!/bin/sh
echo "cache $*" >>"$APT/calls"
[ -e "$APT/lists" ] || exit 100
cat "$APT/stanzas/$3"
"""
GET = """#!/bin/sh
echo "get $*" >>"$APT/calls"
case "$*" in
*update) [ ! -e "$APT/offline" ] || { echo "no route to host"; exit 100; }; touch "$APT/lists" ;;
*) [ -e "$APT/lists" ] || exit 100 ;;
esac
"""


class Apt:
    """A host's apt: programs of its own that write down what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "stanzas").mkdir(parents=True)
        for name, script in {"apt-cache": CACHE, "apt-get": GET}.items():
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)

    def calls(self, word: str) -> int:
        return sum(
            word in line.split() for line in (self.folder / "calls").read_text().splitlines()
        )


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    apt = Apt(tmp_path / "apt")
    monkeypatch.setenv("APT", str(apt.folder))
    monkeypatch.setenv("PATH", f"{apt.folder}:{os.environ['PATH']}")
    stanzas = {
        "linux-image-cloud": META,
        "linux-image-6.1.0-1-cloud=6.1.1-1": IMAGE,
        "linux-modules-6.1.0-1-cloud": MODULES,
    }
    for name, stanza in stanzas.items():
        (apt.folder / "stanzas" / name).write_text(stanza)
    return apt


async def test_a_metapackage_is_followed_to_the_kernel_and_its_modules(apt: Apt) -> None:
    (apt.folder / "lists").touch()
    assert await Debian().kernel_packages(Package("linux-image-cloud")) == [
        Package("linux-image-6.1.0-1-cloud", "6.1.1-1"),
        Package("linux-modules-6.1.0-1-cloud"),
    ]
    assert apt.calls("update") == 0


async def test_missing_lists_are_fetched_once_for_all_who_ask(apt: Apt, tmp_path: Path) -> None:
    debian = Debian()
    await asyncio.gather(*(debian.unpack([Package("busybox-static")], tmp_path) for _ in range(4)))
    assert apt.calls("update") == 1


async def test_a_package_that_newer_lists_lack_too_is_not_looked_for_again(apt: Apt) -> None:
    debian = Debian()
    for _ in range(3):
        with pytest.raises(BuildUnavailable) as failure:
            await debian.kernel_packages(Package("no-such-package"))
        assert failure.value.kind == "missing-package"
    assert apt.calls("update") == 1


async def test_a_host_without_network_says_what_apt_said(apt: Apt) -> None:
    (apt.folder / "offline").touch()
    with pytest.raises(BuildUnavailable, match="no route to host"):
        await Debian().kernel_packages(Package("linux-image-cloud"))


def test_dependencies_of_a_package_are_read_with_their_versions() -> None:
    stanza = (
        "Package: linux-image-cloud-amd64\n"
        "Depends: linux-image-6.1.0-1-cloud-amd64 (= 6.1.1-1), kmod | other, libc6:any (>= 2)\n"
    )
    assert _dependencies(stanza) == [
        ("linux-image-6.1.0-1-cloud-amd64", "=", "6.1.1-1"),
        ("kmod", "", ""),
        ("libc6", ">=", "2"),
    ]
