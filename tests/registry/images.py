"""OCI images, made by umoci of tars or folders: real ones, in a layout that skopeo and registries read."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

SECONDS = 60


class Entry(NamedTuple):
    """A member of a layer's tar; a name that ends in `/` is a folder."""

    content: bytes | str = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    link: str = ""
    """The target of a symbolic link."""
    kind: bytes = b""
    """A type of `tarfile`, where it is none of the above."""
    xattrs: Mapping[str, str] = {}


def program(name: str) -> str:
    """Skips where it is missing."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        pytest.skip(f"{name} is missing: ./dev test installs it")
    return found


UNPACKED = Path(__file__).resolve().parents[2] / ".cache/registry/usr/bin"


def write_layer(tar: Path, entries: Mapping[str, Entry | bytes | str]) -> Path:
    """A layer's tar of exactly these members, in this order."""
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, given in entries.items():
            entry = given if isinstance(given, Entry) else Entry(given)
            content = entry.content.encode() if isinstance(entry.content, str) else entry.content
            member = tarfile.TarInfo(name.rstrip("/"))
            member.mode, member.uid, member.gid, member.size = (
                entry.mode,
                entry.uid,
                entry.gid,
                len(content),
            )
            member.pax_headers = {f"SCHILY.xattr.{k}": v for k, v in entry.xattrs.items()}
            if entry.kind:
                member.type, member.linkname = entry.kind, entry.link
            elif entry.link:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
            elif name.endswith("/"):
                member.type = tarfile.DIRTYPE
                member.mode = 0o755 if given == "" or entry.mode == 0o644 else entry.mode
            archive.addfile(member, io.BytesIO(content))
    return tar


def pack_folder(tar: Path, folder: Path) -> Path:
    """A layer's tar of a folder, with the owners that its files have."""
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, str(path.relative_to(folder)), recursive=False)
    return tar


class Layout:
    """An OCI layout in a folder of its own; each image in it has a tag."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._umoci("init", "--layout", str(folder))

    def add(
        self, tag: str, *layers: Path, settings: Mapping[str, Sequence[str] | str] | None = None
    ) -> str:
        """Make an image of layers, the lowest first; returns the digest of its manifest.

        `settings`: options of `umoci config` without their dashes, such as `config.entrypoint`: a list is
        given one by one.
        """
        image = f"{self.folder}:{tag}"
        self._umoci("new", "--image", image)
        for layer in layers:
            self._umoci("raw", "add-layer", "--image", image, str(layer))
        options = [
            part
            for name, values in (settings or {}).items()
            for value in ([values] if isinstance(values, str) else values)
            for part in (f"--{name}", value)
        ]
        if options:
            self._umoci("config", "--image", image, *options)
        return self.digest(tag)

    def digest(self, tag: str) -> str:
        index = _Index.model_validate_json((self.folder / "index.json").read_bytes())
        name = "org.opencontainers.image.ref.name"
        (found,) = (one.digest for one in index.manifests if one.annotations.get(name) == tag)
        return found

    def blob(self, digest: str) -> Path:
        return self.folder / "blobs/sha256" / digest.removeprefix("sha256:")

    def manifest(self, digest: str) -> dict[str, Any]:
        return _Any.model_validate_json(self.blob(digest).read_bytes()).model_dump()

    def _umoci(self, *arguments: str) -> None:
        run(program("umoci"), *arguments)


class _Any(BaseModel, extra="allow"):
    pass


class _Described(BaseModel):
    digest: str
    annotations: dict[str, str] = {}


class _Index(BaseModel):
    manifests: list[_Described]


def skopeo_copy(source: str, target: str, *options: str) -> None:
    """`skopeo copy`, as a person runs it, to and from loopback without TLS being asked for."""
    run(program("skopeo"), "--insecure-policy", "copy", "--quiet", *options, source, target)


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout
