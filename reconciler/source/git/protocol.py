"""Messages between the daemon and its fetch worker: one JSON object a line, over pipes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

Want = Literal["head", "branch", "tag", "commit", "any"]
Verify = Literal["off", "head", "since-last"]
MOST_LINE = 1024 * 1024
"""Bytes of one line. The daemon treats a longer answer as a broken worker."""


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """Fetch a revision into the mirror and return its commit id."""

    mirror: str
    url: str
    want: Want
    name: str
    ref: str
    """The ref in the mirror that is set to it, which also keeps it from being collected."""
    deadline: float
    """Seconds. The daemon kills the worker after them; the worker also ends itself, a little later."""
    repository_bytes: int
    ssh_key: str = ""
    known_hosts: str = ""
    """Path of a known_hosts file; empty: the files that ssh reads by default."""
    user: str = ""
    token_file: str = ""
    """Path of a file with a token for https. The token itself never passes through the pipe."""
    reclone: bool = False
    """Clone again although the mirror looks intact: the reader found it corrupt."""


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """Ask whether a fetched revision may be followed: its ancestry and its signatures."""

    mirror: str
    revision: str
    followed: list[str]
    """Commits that were verified and followed before."""
    rewritten: str
    """A commit that a person allowed although it descends from none of them; empty: none."""
    must_continue: bool
    """Whether the revision must descend from every commit in `followed`."""
    verify: Verify
    allowed_signers: str
    keyring: str
    deadline: float


Task = WorkerRequest | VerifyRequest
KINDS: dict[str, type[Task]] = {"fetch": WorkerRequest, "verify": VerifyRequest}


def line_of(task: Task) -> bytes:
    """A task as one line of JSON, ended by a newline."""
    kind = next(kind for kind, shape in KINDS.items() if isinstance(task, shape))
    return json.dumps({"task": kind, **asdict(task)}).encode() + b"\n"


def task_of(line: bytes) -> Task:
    """The task that `line_of` encoded. Raises KeyError, TypeError or ValueError."""
    fields = json.loads(line)
    return KINDS[fields.pop("task")](**fields)


@dataclass(frozen=True, slots=True)
class WorkerAnswer:
    """A revision, or with a non-empty `kind` the error (see SourceError)."""

    revision: str = ""
    cloned: bool = False
    """The mirror was replaced by a new clone."""
    kind: str = ""
    message: str = ""
    hint: str = ""

    def line(self) -> bytes:
        """As one line of JSON, ended by a newline."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def of(line: bytes) -> WorkerAnswer:
        """Parse an answer. Raises ValueError or TypeError if the line is not one."""
        found: dict[str, Any] = json.loads(line)
        return WorkerAnswer(**found)
