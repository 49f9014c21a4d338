"""Tars for tests, hostile ones too, and what is seen in the images that become of them."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Item = tuple[tarfile.TarInfo, bytes]
THEN = 1_600_000_000
LINE = re.compile(
    rb"^(\S{10}) (\d+)/(\d+) +([\d, ]+?) (\d{4}-\d\d-\d\d \d\d:\d\d) /?(.*)$", re.DOTALL
)
LISTED_ROOT = "/"


def item(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", xattrs: Mapping[str, str] | None = None, **values: object
) -> Item:  # fmt: skip
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, len(content), THEN
    info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
    for key, value in values.items():
        setattr(info, key, value)
    return info, content


def file(name: str, content: bytes | str = b"", **values: object) -> Item:
    raw = content.encode() if isinstance(content, str) else content
    return item(name, content=raw, **values)  # type: ignore[arg-type]  # values are of `item`


def folder(name: str, mode: int = 0o755, **values: object) -> Item:
    return item(name, tarfile.DIRTYPE, mode=mode, **values)  # type: ignore[arg-type]  # as above


def symlink(name: str, target: str) -> Item:
    return item(name, tarfile.SYMTYPE, linkname=target)


def link(name: str, target: str) -> Item:
    return item(name, tarfile.LNKTYPE, linkname=target)


def device(name: str, major: int, minor: int, kind: bytes = tarfile.CHRTYPE) -> Item:
    return item(name, kind, devmajor=major, devminor=minor)


def tar_of(*items: Item, tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as tar:
        for info, content in items:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@dataclass(frozen=True)
class Seen:
    """An entry of an image, as a program that is not ours lists it."""

    mode: str
    uid: int
    gid: int
    size: str
    """Of files; major and minor of devices."""
    target: str = ""


def listed(image: Path) -> dict[str, Seen]:
    """All entries of a squashfs image; its root is `/`."""
    ran = subprocess.run(
        ["unsquashfs", "-d", "", "-lln", image], capture_output=True, check=True, env={"TZ": "UTC", "PATH": "/usr/bin"}
    )  # fmt: skip
    found = {}
    for line in ran.stdout.removesuffix(b"\n").split(b"\n"):
        match = LINE.match(line)
        assert match, line
        mode, uid, gid, size, _, rest = match.groups()
        path, _, target = rest.partition(b" -> ") if mode.startswith(b"l") else (rest, b"", b"")
        seen = Seen(
            mode.decode(), int(uid), int(gid), size.decode().replace(" ", ""), target.decode()
        )
        found[path.decode("utf-8", "backslashreplace") or LISTED_ROOT] = seen
    return found


def unpacked(image: Path, folder: Path) -> Path:
    """Its files, as well as the one who tests may write them."""
    subprocess.run(["unsquashfs", "-q", "-n", "-no-exit-code", "-d", folder, image], capture_output=True, check=True)  # fmt: skip
    return folder
