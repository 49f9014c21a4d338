"""Real git repositories whose trees may hold anything, and manifests to put in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pygit2
from pygit2.enums import ObjectType

from reconciler.clock import Clock, SystemClock
from reconciler.config import GitSourceConfig, KernelsConfig, PolicyConfig
from reconciler.model.desired import DesiredState
from reconciler.model.names import Revision
from reconciler.source.git.libgit2_limits import MIB
from reconciler.source.git.mirror import Mirror, ReadLimits
from reconciler.source.git.source import GitSource
from reconciler.source.manifests.resolve import Resolver

AUTHOR = pygit2.Signature("a person", "person@example.org", 1_700_000_000, 0)


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(frozen=True)
class Program:
    text: str = "#!/bin/sh\n"


@dataclass(frozen=True)
class Submodule:
    commit: str = "1" * 40


class Repository:
    """A bare repository; `commit` replaces all of its content, and allows any name and mode."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.git = pygit2.init_repository(str(path), bare=True, initial_head="main")

    def commit(self, files: Mapping[Any, Any], branch: str = "main") -> str:
        nested: dict[bytes, Any] = {}
        for path, content in files.items():
            *folders, name = (
                path.split(b"/") if isinstance(path, bytes) else path.encode().split(b"/")
            )
            at = nested
            for folder in folders:
                at = at.setdefault(folder, {})
            at[name] = content
        ref = f"refs/heads/{branch}"
        parents = [self.git.references[ref].target] if ref in self.git.references else []
        tree = self._tree(nested)
        return str(self.git.create_commit(ref, AUTHOR, AUTHOR, "change", tree, parents))

    def _tree(self, entries: dict[bytes, Any]) -> pygit2.Oid:
        lines = []
        for name, content in entries.items():
            match content:
                case dict():
                    mode, oid = b"40000", self._tree(content)
                case Link():
                    mode, oid = b"120000", self.git.create_blob(content.target.encode())
                case Program():
                    mode, oid = b"100755", self.git.create_blob(content.text.encode())
                case Submodule():
                    mode, oid = b"160000", pygit2.Oid(hex=content.commit)
                case _:
                    raw = content if isinstance(content, bytes) else content.encode()
                    mode, oid = b"100644", self.git.create_blob(raw)
            lines.append((name + (b"/" if mode == b"40000" else b""), mode, name, oid.raw))
        raw = b"".join(mode + b" " + name + b"\0" + oid for _, mode, name, oid in sorted(lines))
        return self.git.odb.write(ObjectType.TREE, raw)


def source_of(
    url: object, state: Path, policy: PolicyConfig | None = None, clock: Clock | None = None,
    **config: Any,
) -> GitSource:  # fmt: skip
    settings = GitSourceConfig(url=str(url), **config)
    return GitSource(
        settings, policy or PolicyConfig(), KernelsConfig(), state / "git", clock or SystemClock()
    )


def vm(
    name: str = "web", *, spec: str = "", layers: str = "[busybox: {}]", group: str = "",
    moved_from: str = "",
) -> str:  # fmt: skip
    """One manifest; `spec` holds more of its fields, each on a line of its own."""
    more = f", group: {group}" if group else ""
    more += f", movedFrom: {moved_from}" if moved_from else ""
    lines = [
        "apiVersion: reconciler/v1",
        "kind: MicroVM",
        f"metadata: {{name: {name}{more}}}",
        "spec:",
        f"  store: {{layers: {layers}}}",
        *(f"  {line}" for line in spec.splitlines()),
    ]
    return "\n".join(lines) + "\n"


def forwarded(port: int, address: str = "127.0.0.1", protocol: str = "tcp") -> str:
    forward = f"{{host: {port}, guest: 80, address: {address}, protocol: {protocol}}}"
    return f"interfaces: [{{type: user, forward: [{forward}]}}]"


def group(name: str, spec: str = "{}") -> str:
    return f"apiVersion: reconciler/v1\nkind: Group\nmetadata: {{name: {name}}}\nspec: {spec}\n"


class InProcess:
    """Commits that are read right here and by no child: for tests of what one revision says."""

    def __init__(self, repository: Repository, policy: PolicyConfig | None = None) -> None:
        self._repository = repository
        self._mirror = Mirror(repository.path, "", ReadLimits(10_000, MIB))
        self._resolver = Resolver(policy or PolicyConfig(), KernelsConfig())

    def read(self, files: Mapping[Any, Any]) -> DesiredState:
        with self._mirror.open(Revision(self._repository.commit(files))) as commit:
            return self._resolver.resolve(commit)
