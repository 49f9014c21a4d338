"""Strangers' bytes where git's are read: trees, whole walks, commits, known_hosts, addresses, messages.

`python -m tests.fuzz.git_objects RUNS [SEED]` tries so many inputs, spread over the kinds. The same
seed is the same inputs. It ends with 1, and the input, when one is read wrongly, brings an exception
that is not the module's own, takes longer than SLOW, or memory grows without end.
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pygit2
from pygit2.enums import ObjectType

from reconciler import git_url
from reconciler.errors import SourceError
from reconciler.git_objects import (
    FILE,
    LINK,
    PROGRAM,
    SUBMODULE,
    TREE,
    UNKNOWN,
    MalformedObject,
    commit_of,
    entries_of,
    target_of,
)
from reconciler.model.names import Revision
from reconciler.source.git import known_hosts, tree_objects
from reconciler.source.git.error_kinds import HINTS, sorted_failure
from reconciler.source.git.mirror import Commit, Incomplete, Mirror, ReadLimits
from reconciler.source.manifests.revision_files import FileRefused

Target = Callable[[random.Random], object]

SLOW = 5.0
"""Seconds for one input; each takes some microseconds, and a machine may stall."""
GROWTH_MIB = 256
"""By how much the process may grow over all inputs."""
MODES = (b"40000", b"040000", b"40755", b"100644", b"100755", b"100664", b"120000", b"160000", b"0",
         b"60000", b"20000", b"170000", b"1000000", b"", b"9", b"-1", b" 40000")  # fmt: skip
NAMES = (b"a.yaml", b"b.yml", b"C.YAML", b"c.yaml", b"vms", b"x", b".git", b"..", b".", b"a/b", b"a\\b",
         b"\xff.yaml", b"new\nline.yaml", b"", "\u202ex.yaml".encode(), b"d" * 300)  # fmt: skip
KINDS = {0o040000: TREE, 0o120000: LINK, 0o160000: SUBMODULE}


class Wrong(AssertionError):
    """An input that was not read as it should be."""


def ensure(condition: object, *what: object) -> None:
    if not condition:
        raise Wrong(*what)


def mutated(draw: random.Random, raw: bytes) -> bytes:
    """The bytes with a few of them changed, cut or doubled; one time in two as they are."""
    for _ in range(draw.choice((0, 0, 0, 1, 1, 3))):
        at = draw.randrange(len(raw) + 1)
        match draw.randrange(4):
            case 0:
                raw = raw[:at] + draw.randbytes(1) + raw[at + 1 :]
            case 1:
                raw = raw[:at]
            case 2:
                raw = raw[:at] + draw.randbytes(draw.randrange(8)) + raw[at:]
            case _:
                raw = raw[:at] + raw[at // 2 :]
    return raw


def mode_in(draw: random.Random) -> bytes:
    if draw.random() < 0.8:
        return draw.choice(MODES[:8] if draw.random() < 0.7 else MODES)
    return b"%o" % draw.randrange(1 << draw.randrange(1, 34))


def tree_in(draw: random.Random, ids: list[bytes]) -> bytes:
    entries = (
        mode_in(draw) + b" " + draw.choice(NAMES) + b"\0" + draw.choice(ids)
        for _ in range(draw.randrange(6))
    )
    return b"".join(entries)


def reference_entries(raw: bytes) -> list[tuple[bytes, bytes, bytes]] | None:
    """What git's own loop over a tree gives (tree-walk.c), byte by byte; None: it dies."""
    found, at = [], 0
    while at < len(raw):
        mode, start = 0, at
        while at < len(raw) and raw[at : at + 1] != b" ":
            if not b"0" <= raw[at : at + 1] <= b"7" or at - start >= 11:
                return None
            mode = mode * 8 + raw[at] - ord("0")
            at += 1
        if at == start or at >= len(raw):
            return None
        end = raw.find(b"\0", at + 1)
        if end <= at + 1 or end + 21 > len(raw):
            return None
        kind = KINDS.get(mode & 0o170000, UNKNOWN)
        if mode & 0o170000 == 0o100000:
            kind = PROGRAM if mode & 0o100 else FILE
        found.append(
            (kind if mode < 1 << 16 else UNKNOWN, raw[at + 1 : end], raw[end + 1 : end + 21])
        )
        at = end + 21
    return found


def fuzz_tree(draw: random.Random) -> bytes:
    """Every entry is read as git reads it; each has its place, or is named."""
    raw = mutated(draw, tree_in(draw, [draw.randbytes(20)]))
    expected = reference_entries(raw)
    try:
        entries = entries_of(raw)
    except MalformedObject:
        ensure(expected is None, raw)
        return raw
    ensure(entries == expected, raw, entries, expected)
    listing = tree_objects.listing_of(raw)
    placed = [name for part in (listing.files, listing.folders, listing.links) for name, _ in part]
    named = {name for name, _, _ in listing.odd}
    for mode, raw_name, _ in entries:
        name = raw_name.decode("utf-8", "backslashreplace")
        harmless = mode in (FILE, PROGRAM) and not name.lower().endswith(
            tree_objects.MANIFEST_SUFFIXES
        )
        is_named = bool({name, tree_objects.printable(name)} & named)
        ensure(harmless or name in placed or is_named, raw, name)
        ensure(mode not in (UNKNOWN, SUBMODULE) or is_named, raw, name)
    return raw


class Objects:
    """As much of a repository as a walk asks for; its objects need not fit each other."""

    def __init__(self) -> None:
        self.held: dict[bytes, tuple[int, bytes]] = {}

    @property
    def odb(self) -> Objects:
        return self

    def put(self, kind: int, raw: bytes) -> bytes:
        oid = hashlib.sha1(raw, usedforsecurity=False).digest()
        self.held[oid] = (kind, raw)
        return oid

    def exists(self, oid: pygit2.Oid) -> bool:
        return oid.raw in self.held

    def read_header(self, oid: pygit2.Oid) -> tuple[int, int]:
        kind, raw = self.read(oid)
        return kind, len(raw)

    def read(self, oid: pygit2.Oid) -> tuple[int, bytes]:
        if oid.raw not in self.held:
            raise pygit2.GitError("object not found")
        return self.held[oid.raw]


def fuzz_walk(draw: random.Random) -> bytes:
    """A walk over folders in folders ends, says what it read, and names what it did not."""
    objects = Objects()
    ids = [objects.put(ObjectType.BLOB, draw.choice((b"", b"../x", b"vms", b"/", b"a: 1")))]
    for _ in range(draw.randrange(1, 9)):
        raw = mutated(draw, tree_in(draw, ids)) if draw.random() < 0.3 else tree_in(draw, ids)
        ids.append(objects.put(ObjectType.TREE, raw))
    if draw.random() < 0.1:
        ids.append(draw.randbytes(20))
    root = draw.choice(ids[-2:]).hex()
    raw = mutated(draw, f"tree {root}\nauthor x\n\nm".encode())
    revision = Revision(objects.put(ObjectType.COMMIT, raw).hex())
    mirror = Mirror(Path("/nowhere"), draw.choice(("", "vms", "vms/x")), ReadLimits(50, 64))
    repository: Any = objects
    try:
        commit = Commit(mirror, repository, revision)
        for file in commit.files:
            ensure(not file.path.startswith(("/", "..")), raw)
            try:
                commit.read(file)
                commit.tree(file.path.rpartition("/")[0])
            except FileRefused as refused:
                ensure(refused.hint, raw)
    except (SourceError, pygit2.GitError, Incomplete):  # as `Mirror.open` takes them
        return raw
    for oddity in commit.oddities:
        ensure(oddity.message and oddity.hint and oddity.path.isprintable(), raw, oddity)
    return raw


def fuzz_commit(draw: random.Random) -> bytes:
    lines = [b"tree " + b"ab" * 20, *(b"parent " + b"cd" * 20 for _ in range(draw.randrange(3)))]
    people = (b"A <a@b> 12 +0000", b"A a@b> 9" * 9, b"", b"\xff")
    lines += [
        who + b" " + draw.choice(people)
        for who in (b"author", b"committer", b"author", b"gpgsig")
        if draw.random() < 0.7
    ]
    raw = mutated(draw, b"\n".join([*lines, b"", b"words"]))
    for read in (commit_of, target_of):
        try:
            read(raw)
        except MalformedObject:
            continue
        ensure(raw.startswith((b"tree ", b"object ")), raw)
    return raw


def fuzz_known_hosts(draw: random.Random) -> bytes:
    kind = draw.choice((b"ssh-ed25519", b"ssh-rsa", b"x"))
    blob = len(kind).to_bytes(4) + kind + b"\0\0\0\x03key"
    fields = [draw.choice((b"", b"@revoked", b"@cert-authority", b"#", b"@x")),
              draw.choice((b"h", b"|1|a|b", b"|1|", b"[h]:22,*", b"!h")), kind, base64.b64encode(blob)]  # fmt: skip
    raw = mutated(draw, b" ".join(fields))
    try:
        line = known_hosts.line_of(raw.decode("latin-1"))
    except known_hosts.MalformedHostLine as error:
        ensure(str(error), raw)
        return raw
    if line is None:
        ensure(not raw.strip(b" \t\r") or raw.lstrip(b" \t").startswith(b"#"), raw)
    else:
        ensure(line.marker in ("", known_hosts.REVOKED, known_hosts.AUTHORITY), raw)
        ensure(base64.b64decode(line.key, validate=True), raw)
    return raw


def fuzz_address(draw: random.Random) -> bytes:
    parts = ("https", "ssh", "git+ssh", "://", "user", ":", "s3cret", "@", "host", "[::1]", "/", "x", "..", "\n",
             "22", "99999", "%2f", "?", "#", "-oProxyCommand=x", "~", " ")  # fmt: skip
    url = "".join(draw.choice(parts) for _ in range(draw.randrange(10)))
    if draw.random() < 0.5:
        url = draw.choice(("https://", "ssh://git@", "git@host:", "http://bob:s3cret@")) + url
    fault = git_url.fault_of(url, "", "", plain=draw.random() < 0.5)
    shown = git_url.redacted_url(url)
    if fault is None and "://" in url and not url.lower().startswith(git_url.SSH):
        ensure("s3cret@" not in shown.partition("/")[0], url)
    git_url.local_path(url)
    git_url.origin_of(url)
    try:
        server = known_hosts.server_of(url)
    except SourceError as error:
        ensure("s3cret" not in str(error), url)
        return url.encode()
    if server is not None:
        ensure(not server.host.startswith("-") and server.host.isprintable(), url)
        ensure(0 < server.port < 1 << 16, url)
    return url.encode()


def fuzz_message(draw: random.Random) -> bytes:
    words = (
        "failed to",
        "connect",
        "'/srv/ssl/x'",
        "404",
        "object",
        "not found",
        "\0",
        "extension",
        "hash",
        "\u202e",
    )
    text = " ".join(draw.choice(words) for _ in range(draw.randrange(12)))
    found = sorted_failure(pygit2.GitError(text))
    ensure(found.kind in HINTS and found.hint, text)
    return text.encode()


TARGETS: dict[str, tuple[Target, int]] = {
    "trees": (fuzz_tree, 50), "walks": (fuzz_walk, 20), "commits": (fuzz_commit, 10),
    "known_hosts": (fuzz_known_hosts, 10), "addresses": (fuzz_address, 5), "messages": (fuzz_message, 5),
}  # fmt: skip
"""Each with its share of the inputs, in percent."""


def main(runs: int, seed: int) -> int:
    """Try so many inputs; 0 when all were well."""
    began, before = time.monotonic(), memory_mib()
    for name, (target, share) in TARGETS.items():
        count = max(1, runs * share // 100)
        start, slowest = time.monotonic(), 0.0
        for number in range(count):
            draw = random.Random(f"{name} {seed} {number}")  # noqa: S311 - the same seed, the same inputs
            at = time.monotonic()
            try:
                target(draw)
            except BaseException:
                say(f"{name}: input {number} of seed {seed} broke it")
                raise
            slowest = max(slowest, time.monotonic() - at)
        if slowest > SLOW:
            say(f"{name}: one input took {slowest:.1f} s")
            return 1
        say(
            f"{name}: {count} inputs, {time.monotonic() - start:.1f} s, the slowest {slowest * 1000:.1f} ms"
        )
    grown = memory_mib() - before
    say(f"{runs} inputs in {time.monotonic() - began:.0f} s; memory grew by {grown:.0f} MiB")
    return 0 if grown <= GROWTH_MIB else 1


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def memory_mib() -> float:
    """The most that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    os.nice(10)
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
