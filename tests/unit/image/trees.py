"""Git trees for tests, hostile ones too: written object by object, checked by nobody."""

from __future__ import annotations

from pathlib import Path

import pygit2
from pygit2.enums import ObjectType

from reconciler.source.git.clients import TreeExporter

FILE, EXECUTABLE, LINK, TREE, COMMIT = 0o100644, 0o100755, 0o120000, 0o40000, 0o160000
Content = bytes | str | dict[str, "Content"]


class Repository:
    """A bare repository at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = TreeExporter(path)
        self.bare = pygit2.init_repository(path, bare=True)

    def blob(self, content: bytes | str) -> str:
        return str(self.bare.create_blob(content.encode() if isinstance(content, str) else content))

    def raw_tree(self, *entries: tuple[int, bytes, str]) -> str:
        """A tree of exactly these entries, in this order, whatever they are."""
        raw = b"".join(b"%o %s\0%s" % (m, name, bytes.fromhex(oid)) for m, name, oid in entries)
        return str(self.bare.write(ObjectType.TREE, raw))

    def tree(self, content: dict[str, Content], *executables: str) -> str:
        """A proper tree of nested dicts."""
        entries = []
        for name, value in sorted(content.items()):
            if isinstance(value, dict):
                entries.append((TREE, name.encode(), self.tree(value, *executables)))
            else:
                mode = EXECUTABLE if name in executables else FILE
                entries.append((mode, name.encode(), self.blob(value)))
        return self.raw_tree(*entries)
