"""The initrd: a cpio archive of our init, a static busybox and modules; same input, same bytes.

It is not compressed: a guest under emulation unpacks slower than a VMM copies.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from reconciler.image.modules import Module

FOLDERS = ("bin", "dev", "lib", "lib/modules", "modules", "proc", "run", "sys")
SCRIPT = b"#!"
PROGRAM = b"\x7fELF"
ALIGNMENT = 4
TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Node:
    """One entry of the archive; `device` is (major, minor) of a character device."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def newc(nodes: Iterable[Node]) -> bytes:
    """A cpio archive in the `newc` form that Linux unpacks: all of root, of 1970."""
    archive = bytearray()
    for number, node in enumerate((*nodes, Node(TRAILER, 0)), 1):
        name = node.name.encode()
        links, seconds, no_device, checksum = 1, 0, (0, 0), 0
        # fmt: off
        fields = (
            number, node.mode, 0, 0, links, seconds, len(node.content),
            *no_device, *node.device, len(name) + 1, checksum,
        )
        # fmt: on
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name + b"\0"
        archive += bytes(-len(archive) % ALIGNMENT)
        archive += node.content
        archive += bytes(-len(archive) % ALIGNMENT)
    return bytes(archive)


def initrd(
    files: Mapping[str, bytes], busybox: bytes, modules: Iterable[Module], release: str
) -> bytes:
    """The whole initrd. `files`: `init` and what it hands to guests, by path.

    `modules/WHEN` names what init then loads, in loading order.
    """
    modules = list(modules)
    home = f"lib/modules/{release}"
    # No dependencies are listed: our order has settled them. One modprobe for all modules spares
    # the guest a program start, 6 ms under emulation, for each.
    index = "".join(f"{module.name}.ko:\n" for module in modules)
    lists: dict[str, list[str]] = {}
    for module in modules:
        lists.setdefault(module.when, []).append(module.name)
    return newc(
        [
            *(Node(name, stat.S_IFDIR | 0o755) for name in (*FOLDERS, home, *_parents(files))),
            # Before devtmpfs is mounted: where init prints, and where it says that it failed.
            Node("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Node("dev/kmsg", stat.S_IFCHR | 0o600, device=(1, 11)),
            Node("dev/null", stat.S_IFCHR | 0o666, device=(1, 3)),
            Node("bin/busybox", stat.S_IFREG | 0o755, busybox),
            *(_file(name, content) for name, content in files.items()),
            _file(f"{home}/modules.dep", index.encode()),
            *(_file(f"{home}/{module.name}.ko", module.content) for module in modules),
            *(_file(f"modules/{when}", " ".join(n).encode()) for when, n in lists.items()),
        ]
    )


def _parents(files: Iterable[str]) -> list[str]:
    """The folders of files, each after the one that it is in."""
    found = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    return sorted(found - {"."})


def _file(name: str, content: bytes) -> Node:
    # By content: an archive or an installer may have lost the mode.
    mode = 0o755 if content.startswith((SCRIPT, PROGRAM)) else 0o644
    return Node(name, stat.S_IFREG | mode, content)
