"""The state that the daemon of an earlier commit left, unpacked under another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.repository import BRANCH, Repository

HERE = Path(__file__).parent
ARCHIVE = HERE / "8d6cecf.tar.gz"
CHECKOUT = HERE.parents[1]
WEB, HAND = 18181, 18182
"""Ports of the host that its manifests forward."""
HELD, BAD = "plain", "web"
"""The VM that its held group keeps back, and the one whose newest generation is condemned."""


@dataclass(frozen=True, slots=True)
class KeptGuest:
    """A guest's process as /proc had it."""

    argv: tuple[str, ...]
    env: dict[str, str]
    folder: Path


@dataclass(frozen=True, slots=True)
class KeptProxy:
    """The process that held the ports of VMs that hand over."""

    argv: tuple[str, ...]
    socket: Path
    lock: Path
    table: dict[str, Any]
    """What it answered when it was asked where they lead."""


@dataclass(frozen=True, slots=True)
class Kept:
    state: Path
    commit: str
    guests: tuple[KeptGuest, ...]
    proxy: KeptProxy

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.db"

    @property
    def mirror(self) -> Path:
        return self.state / "git" / "main"


def unpack(root: Path) -> Kept:
    """Everything in `root/state`; texts name it there, and this checkout and its Python."""
    # By tar(1): the filter of Python's own came with some patch release of 3.11.
    subprocess.run(["tar", "-xzf", ARCHIVE, "-C", root], check=True, timeout=20)
    here = {
        b"@ROOT@": os.fsencode(root),
        b"@CHECKOUT@": os.fsencode(CHECKOUT),
        b"@PYTHON@": os.fsencode(sys.executable),
        b"@PATH@": os.fsencode(os.environ["PATH"]),
    }
    about = root / "fixture.json"
    for path in (about, *texts(root / "state" / "vms")):
        content = path.read_bytes()
        for there, name in here.items():
            content = content.replace(there, name)
        path.write_bytes(content)
    told = json.loads(about.read_text())
    about.unlink()
    guests = (
        KeptGuest(tuple(one["argv"]), one["env"], Path(one["cwd"])) for one in told["processes"]
    )
    proxy = told["proxy"]
    return Kept(
        root / "state", told["commit"], tuple(guests),
        KeptProxy(
            tuple(proxy["argv"]), root / proxy["socket"], root / proxy["lock"], proxy["table"]
        ),
    )  # fmt: skip


def texts(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix != ".raw":
            yield path


def upstream(kept: Kept, folder: Path) -> Repository:
    """The repository that was followed, as the mirror has it, with a working copy."""
    repository = Repository.create(folder)
    repository.git("fetch", "-q", str(kept.mirror), "refs/reconciler/target")
    repository.git("reset", "-q", "--hard", "FETCH_HEAD")
    repository.git("push", "-q", "origin", BRANCH)
    return repository


def mend(repository: Repository) -> str:
    """What was missing from the condemned generation is put back; the commit's id."""
    repository.write("web/www/healthz", "ok\n")
    repository.write("web/www/index.html", "web: three\n")
    return repository.push("the page passes its check again")
