"""What the daemon asks of its fetching child, as JSON lines over pipes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

Want = Literal["head", "branch", "tag", "commit", "any"]
Verify = Literal["off", "head", "since-last"]
MOST_LINE = 1024 * 1024
"""Bytes of one line; a longer one is a fault of the child."""


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """Bring a revision into the mirror and say which it is."""

    mirror: str
    url: str
    want: Want
    name: str
    ref: str
    """Where the mirror remembers it."""
    deadline: float
    """Seconds; past them the child ends itself, should nobody else."""
    repository_bytes: int
    ssh_key: str = ""
    known_hosts: str = ""
    """Path of the file with the keys of ssh servers; empty for those that ssh itself takes."""
    user: str = ""
    token_file: str = ""
    """Path of the file with the token for https; the token itself passes through no pipe."""
    anew: bool = False
    """Clone again even though the mirror looks well."""


@dataclass(frozen=True, slots=True)
class Scrutiny:
    """Whether a revision in the mirror may be followed: what it continues, and who signed it."""

    mirror: str
    revision: str
    followed: list[str]
    """Commits that were followed, and verified, before."""
    rewritten: str
    """A commit that may be followed though it continues none of them; empty: none."""
    must_continue: bool
    """Whether it must descend from all that were followed."""
    verify: Verify
    allowed_signers: str
    keyring: str
    deadline: float


Task = WorkerRequest | Scrutiny
KINDS: dict[str, type[Task]] = {"fetch": WorkerRequest, "scrutinise": Scrutiny}


def line_of(task: Task) -> bytes:
    kind = next(kind for kind, shape in KINDS.items() if isinstance(task, shape))
    return json.dumps({"task": kind, **asdict(task)}).encode() + b"\n"


def task_of(line: bytes) -> Task:
    fields = json.loads(line)
    return KINDS[fields.pop("task")](**fields)


@dataclass(frozen=True, slots=True)
class WorkerAnswer:
    """A revision, or why there is none."""

    revision: str = ""
    cloned: bool = False
    """The mirror is another one than before."""
    kind: str = ""
    message: str = ""
    hint: str = ""

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def of(line: bytes) -> WorkerAnswer:
        """Raises ValueError or TypeError for what is no answer."""
        found: dict[str, Any] = json.loads(line)
        return WorkerAnswer(**found)
