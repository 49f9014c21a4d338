"""The manifest loader under strangers' bytes: files in, a desired state or bounded problems out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from reconciler.config import KernelsConfig, PolicyConfig
from reconciler.errors import ManifestErrors, SourceError
from reconciler.model.names import Revision
from reconciler.model.record import MOST_PROBLEMS
from reconciler.source.manifests.resolve import Resolver
from reconciler.source.manifests.revision_files import FileRefused, Kind, ManifestFile, Oddity
from reconciler.source.manifests.transfer import Header, Receiver, Sender

ROOT = Path(__file__).resolve().parents[2]
BETWEEN = b"\n=== file\n"
"""What ends a file of an input, and begins the next."""
MOST_FILES = 4
LONGEST_PROBLEM = 2_000
FOLDERS = frozenset({"web", "tree", ""})
POLICY = PolicyConfig(runners=True, flakes=["*"], bridges=["br0"], forward_addresses=["127.0.0.1"])
WORDS = (
    "apiVersion: reconciler/v1", "kind: MicroVM", "kind: Group", "metadata: {name: ", "movedFrom: ",
    "spec:", "store: {layers: [{busybox: {}}]}", "tree: ./web", "interfaces: [{type: user, forward: [",
    "{host: 8080, guest: 80}", "health: {checks: [{http: {port: 8080}}]}", "update: {after: [",
    "canary: [", 'windows: [{allow: {cron: "0 2 * * *", duration: 2h, timeZone: UTC}}]',
    'maxUnavailable: "50%"', "runner: {flake: ", "volumes: [{name: a, mountPoint: /a, size: 1GiB}]",
    "---\n", "&a ", "*a", "!!str ", "<<: ", "? ", "|\n ", "0x", "1e999", "\\u0000", "\xfe", "%TAG",
)  # fmt: skip
"""Pieces that a fuzzer puts together."""


class Files:
    """A Snapshot in memory."""

    revision = Revision("0" * 40)
    hidden: Sequence[ManifestFile] = ()
    oddities: Sequence[Oddity] = ()

    def __init__(self, contents: Sequence[bytes]) -> None:
        self._contents = {f"{number}.yaml": content for number, content in enumerate(contents)}
        self.files = [
            ManifestFile(path, hashlib.sha1(content, usedforsecurity=False).digest())
            for path, content in self._contents.items()
        ]

    def read(self, file: ManifestFile) -> bytes:
        return self._contents[file.path]

    def entry(self, path: str) -> Kind | None:
        return "program" if path.endswith("init") else None

    def link(self, _path: str) -> str:
        return ""

    def tree(self, path: str) -> str:
        if path not in FOLDERS:
            raise FileRefused(f"{path} does not exist", "commit it")
        return hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()


def load(data: bytes) -> None:
    """Raises AssertionError, or whatever the loader should not have raised."""
    snapshot = Files(data.split(BETWEEN, MOST_FILES - 1))
    resolver = Resolver(POLICY, KernelsConfig())
    try:
        state = resolver.resolve(snapshot)
    except SourceError:
        return
    except ManifestErrors as error:
        judge(error)
        return
    assert resolver.resolve(snapshot) == state
    header, *lines = Sender().lines(state, 0, 0)
    receiver = Receiver()
    for line in lines:
        receiver.take(line)
    assert receiver.state(Header.of(header), state.revision) == state


def judge(refused: ManifestErrors) -> None:
    told = [str(problem) for problem in refused.problems]
    assert 0 < len(told) <= MOST_PROBLEMS
    assert max(map(len, told)) <= LONGEST_PROBLEM
    assert all(p.line >= 1 and p.col >= 1 for p in refused.problems)


def seeds() -> list[bytes]:
    folders = (ROOT / "manifests", ROOT / "tests/unit/source/golden")
    files = [path.read_bytes() for folder in folders for path in sorted(folder.rglob("*.yaml"))]
    return [*files, BETWEEN.join(files[:2]), BETWEEN.join(files[-2:])]
