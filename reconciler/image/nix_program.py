"""Nix, as this host has it: `nix build` of a locked flake, and what an output needs.

A build is the host's Nix at work: its sandbox, its builders, its caches, as /etc/nix/nix.conf has them;
what a flake says about Nix itself (`nixConfig`) counts for nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reconciler.children import program as children
from reconciler.children.process_tree import BY_SIGNAL, GRACE, TREE
from reconciler.children.spare import ConfinedPrograms
from reconciler.content_store import ContentStore, named
from reconciler.errors import BuildFailed, BuildUnavailable

BUILD_SECONDS = 3600.0
"""A NixOS of a cold cache takes its time; what Nix has finished by then need not be done again."""
OPENING_SECONDS = 60.0
QUERY_SECONDS = 120.0
MOST_PATHS = 10_000
MOST_LISTING_BYTES = 64 << 20
IMPORTS = "PYTHONPATH"
AS_A_TREE = (sys.executable, "-P", "-m", TREE, "env", "-u", IMPORTS)
"""A builder that is not in a sandbox, and what it starts, leave Nix's session and outlive it."""
WITH_NIX = "building with Nix"
"""Of which no bytes are known: its store is its own."""
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


class _Info(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    path: str = ""
    size: int = Field(alias="narSize")
    references: list[str]


_CLOSURE: TypeAdapter[list[_Info] | dict[str, _Info | None]] = TypeAdapter(
    list[_Info] | dict[str, _Info | None]
)


class Nix:
    """The programs of Nix, run with a home of their own."""

    def __init__(self, home: Path, seconds: float = BUILD_SECONDS) -> None:
        self._home = home
        self._seconds = seconds
        self._opening = asyncio.Lock()
        self._store_is_open = False

    async def build(
        self,
        flake: str,
        attribute: str,
        *,
        tree: str,
        content: ContentStore,
        folder: Path,
        link: Path,
        title: str,
    ) -> None:
        """Have an output of a flake built, and `link` lead to it and keep it.

        tree: the id of the flake's content, which is staged in `folder`; empty: `flake` is a locked
        reference. Raises BuildFailed or BuildUnavailable.
        """
        called, staged = flake, ""
        if tree:
            with named(f"tree {flake}"):
                await content.export(tree, folder)
            await asyncio.to_thread(age, folder)
            staged = str(folder)
            called = f"path:{quote(staged)}"
        await self._open_store(title)
        argv = (
            "nix", "build", "--no-write-lock-file", "--no-update-lock-file",
            "--out-link", str(link), "--", f"{called}#{attribute}",
        )  # fmt: skip
        if shutil.which("nix") is None:
            raise children.missing_program("nix", "no such program")
        ended = await children.run(
            (*AS_A_TREE, *argv), seconds=self._seconds, env=self._beside_python(), grace=GRACE
        )
        _judge(ended, title, (staged or called, flake))

    async def _open_store(self, title: str) -> None:
        """Open Nix's store alone, once. Raises BuildUnavailable.

        The first who opens a new store makes it, and of two at once one fails: Nix holds only a shared
        lock meanwhile (2.8, `LocalStore`; seen as "schema is corrupt" and "creating symlink: File exists").
        """
        async with self._opening:
            if self._store_is_open:
                return
            ended = await children.run(
                ("nix", "store", "ping"), seconds=OPENING_SECONDS, env=self.environment()
            )
            if ended.status != 0:
                raise _unavailable(title, "nix store ping", _said(ended))
            self._store_is_open = True

    def _beside_python(self) -> Mapping[str, str]:
        """What its programs see, and where the guard around them is imported from."""
        ours = {name: os.environ[name] for name in (IMPORTS,) if name in os.environ}
        return {**self.environment(), **ours}

    def environment(self) -> Mapping[str, str]:
        """What its programs see."""
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {
            **kept,
            "HOME": str(self._home),
            "NIX_CONFIG": kept.get("NIX_CONFIG", "") + SETTINGS,
        }


def age(folder: Path) -> None:
    """Give everything the same time: a flake is told the newest of its files. Blocks."""
    for place, folders, names in os.walk(folder):
        # A link to a folder is among the folders, and is not walked into.
        for path in (Path(place), *(Path(place, name) for name in (*folders, *names))):
            os.utime(path, (1, 1), follow_symlinks=False)


def _judge(ended: children.Ended, title: str, called: tuple[str, str]) -> None:
    """`called`: what Nix calls the flake, and what people do. Raises BuildFailed or BuildUnavailable."""
    if ended.status == 0:
        return
    said = _said(ended).replace(*called)
    # What a builder printed is indented, and says nothing of this host.
    own = "\n".join(line for line in said.splitlines() if not line.startswith(" "))
    if ended.status < 0 or ended.status > BY_SIGNAL or SURROUNDINGS.search(own):
        raise _unavailable(title, "nix build", said)
    raise BuildFailed(f"{title}: nix build: {said}", hint="mend the flake and push")


def _said(ended: children.Ended) -> str:
    return ended.tail or f"status {ended.status}"


def _unavailable(title: str, command: str, said: str) -> BuildUnavailable:
    return BuildUnavailable(
        f"{title}: {command}: {said}", kind="nix",
        hint="is the Nix daemon running, the network up, space left? it is tried again",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class StorePath:
    """A path of Nix's store."""

    path: str
    size: int
    """Of its files, in bytes, as Nix counts them."""
    referrers: int
    """How many other paths of the same closure name it."""

    @property
    def name(self) -> str:
        """With the hash of all that went into it."""
        return self.path.rpartition("/")[2]


async def closure(
    nix: Nix, programs: ConfinedPrograms, output: str, listing: Path
) -> tuple[StorePath, ...]:
    """What an output needs, itself included, by name; `listing` is a file that does not exist yet.

    Raises BuildUnavailable, and BuildFailed for more than a layer may have.
    """
    argv = ("nix", "path-info", "--json", "--recursive", "--", output)
    ended = await programs.run(argv, seconds=QUERY_SECONDS, env=nix.environment(), stdout=listing)
    if ended.status != 0:
        raise _unavailable(output, "nix path-info", _said(ended))
    return parse_closure(await asyncio.to_thread(_read, listing))


def _read(listing: Path) -> bytes:
    with listing.open("rb") as file:
        text = file.read(MOST_LISTING_BYTES + 1)
    if len(text) > MOST_LISTING_BYTES:
        raise BuildFailed(f"a closure of more than {MOST_PATHS} paths")
    return text


def parse_closure(text: bytes) -> tuple[StorePath, ...]:
    """The answer of `nix path-info --json`: a list until 2.18, by path since. Raises BuildFailed."""
    try:
        found = _CLOSURE.validate_json(text)
    except ValidationError as error:
        raise BuildUnavailable(
            "nix path-info: an answer of another form", hint="is this Nix of a later version?"
        ) from error
    if isinstance(found, list):
        infos = {info.path: info for info in found}
    else:
        infos = {path: info for path, info in found.items() if info is not None}
    if len(infos) > MOST_PATHS:
        raise BuildFailed(f"the closure has {len(infos)} paths, more than {MOST_PATHS}")
    counts = Counter(
        name for path, info in infos.items() for name in {*info.references} if name != path
    )
    return tuple(StorePath(path, infos[path].size, counts[path]) for path in sorted(infos))
