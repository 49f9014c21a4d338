"""Repositories whose objects real git wrote, also ones that only `--literally` writes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.wait import wait_until

PERSON = "A Person <person@example.org> 1795970300 +0000"
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@localhost",
    "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@localhost",
}  # fmt: skip


class RealGit:
    """A bare repository; every object is put there by the git program."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        if not path.exists():
            run("init", "-q", "--bare", "-b", "main", *options, str(path))

    def git(self, *arguments: str, given: bytes | None = None) -> str:
        return run("-C", str(self.path), *arguments, given=given).decode().strip()

    def put(self, kind: str, raw: bytes) -> str:
        """An object whatever its form, by its id."""
        return self.git("hash-object", "-t", kind, "-w", "--literally", "--stdin", given=raw)

    def tree(self, entries: Mapping[str, tuple[str, str]]) -> str:
        """A tree with these modes and ids, byte for byte."""
        return self.put("tree", raw_tree(entries))

    def files(self, files: Mapping[str, str]) -> str:
        """A tree of plain files."""
        return self.tree({n: ("100644", self.put("blob", t.encode())) for n, t in files.items()})

    def commit(
        self, tree: str, *parents: str, author: str = PERSON, committer: str = PERSON
    ) -> str:
        lines = [f"tree {tree}", *(f"parent {p}" for p in parents)]
        lines += [f"author {author}", f"committer {committer}", "", "imported", ""]
        return self.put("commit", "\n".join(lines).encode())

    def point(self, commit: str, ref: str = "refs/heads/main") -> str:
        self.git("update-ref", ref, commit)
        return commit


def raw_tree(entries: Mapping[str, tuple[str, str]]) -> bytes:
    return b"".join(
        mode.encode() + b" " + name.encode() + b"\0" + bytes.fromhex(oid)
        for name, (mode, oid) in entries.items()
    )


def run(*arguments: str, given: bytes | None = None) -> bytes:
    done = subprocess.run(
        ["git", *arguments], input=given, capture_output=True, timeout=30, check=False,
        env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """`git daemon` over the repositories of a folder; gives the address to put their names behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    daemon = subprocess.Popen(
        ["git", "daemon", "--reuseaddr", f"--port={port}", "--listen=127.0.0.1", "--export-all",
         f"--base-path={folder}"],
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: answers(port), 20, "git daemon listens")
        yield f"git://127.0.0.1:{port}/"
    finally:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait(10)


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
