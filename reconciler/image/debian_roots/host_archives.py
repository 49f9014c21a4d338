"""Where packages come from: lines for apt, of the request or of this host's own apt."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.image.debian_roots.root_request import RootRequest
from reconciler.model.layer_kinds.debian_layer import SNAPSHOTS

INDEX_SECONDS = 30.0
POCKETS = ("", "-updates", "-security")
"""Of a release: its own, corrections before the next point release, and those of security."""
KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
)
SHOWN = "$(REPO_URI) $(RELEASE)"
CONNECTION = re.compile(r"Acquire::https?::[^\s]+ \".+\";")


class NoArchive(Exception):
    """Neither the request nor this host says where packages come from."""


@dataclass(frozen=True, slots=True)
class Pocket:
    uri: str
    release: str
    """As the archive names it: bookworm-security."""


def lines(request: RootRequest) -> list[str]:
    """Sources in apt's one-line form. Raises NoArchive."""
    keyring = request.keyring or next((path for path in KEYRINGS if Path(path).exists()), "")
    options = [f"signed-by={keyring}"] if keyring else []
    if request.snapshot:
        options.append("check-valid-until=no")  # old by intention
    bracket = f"[{' '.join(options)}] " if options else ""
    components = " ".join(request.components)
    return [f"deb {bracket}{p.uri} {p.release} {components}" for p in pockets(request)]


def pockets(request: RootRequest) -> list[Pocket]:
    """The archives of a suite. Raises NoArchive."""
    if request.mirror or request.snapshot:
        named = request.mirror or SNAPSHOTS
        at = f"/{request.snapshot}" if request.snapshot else ""
        return [Pocket(f"{named}{at}", request.suite)]
    return chosen(request.suite, _of_this_host())


def chosen(suite: str, known: Iterable[Pocket]) -> list[Pocket]:
    """The archives of this host for a suite; of another release than its own, by the same mirrors."""
    known = list(known)
    own = [pocket for pocket in known if pocket.release in {suite + one for one in POCKETS}]
    if any(pocket.release == suite for pocket in own):
        return own
    releases = {pocket.release for pocket in known}
    for base in sorted(releases):
        if f"{base}-security" in releases or f"{base}-updates" in releases:
            return [
                Pocket(pocket.uri, suite + pocket.release.removeprefix(base))
                for pocket in known
                if pocket.release in {base + one for one in POCKETS}
            ]
    raise NoArchive(f"this host's apt has no source of {suite}, and none to find it by")


def connections() -> list[str]:
    """Settings of this host's apt for proxies and certificates, a line each."""
    return [f"{line}\n" for line in _shown("apt-config", "dump") if CONNECTION.fullmatch(line)]


def _of_this_host() -> Iterator[Pocket]:
    asked = ("indextargets", "--no-release-info", "--format", SHOWN, "Created-By: Packages")
    for line in dict.fromkeys(_shown("apt-get", *asked)):
        uri, _, release = line.partition(" ")
        if uri.startswith(("http://", "https://", "mirror+")) and release:
            yield Pocket(uri.rstrip("/"), release)


def _shown(*argv: str) -> list[str]:
    """What a program of apt prints of this host's settings; nothing where there is no apt."""
    try:
        ended = subprocess.run(
            argv, capture_output=True, text=True, timeout=INDEX_SECONDS, check=False
        )
    except FileNotFoundError:
        return []
    return ended.stdout.splitlines()
