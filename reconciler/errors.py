"""Everything that can go wrong, as one tree.

ReconcilerError              has a `kind` (a metric label) and a `hint` (what the reader can do)
├── ConfigError              the daemon's own settings; exit 78
├── ManifestErrors           one or more problems in a commit's manifests
├── SourceError              a repository could not be fetched or read; kind is the reason
│   └── RevisionRefused      a commit was fetched, and is not to be trusted
├── ImageError               a layer or kernel bundle could not be made or verified
│   ├── BuildFailed          the input is bad: building again gives the same
│   └── BuildUnavailable     the surroundings are bad: building again may help
├── DriverError              a VMM refused, or did not answer in time
├── ProxyError               the proxy cannot be asked, or a port is somebody else's
├── SupervisorError          a process could not be started or found
│   └── GuestConflict        somebody else holds our lock or socket; never ours to kill
├── LedgerError              what must be remembered cannot be
│   ├── LedgerTooNew         written by a newer version; refuse, never downgrade
│   └── LedgerUnwritable     the disk is full or broken; no new side effects
├── DeliveryError            a notification was not taken by its sink
├── StateDirLocked           another daemon runs on this state directory
└── RequestRefused           a person's request does not fit the state of things
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

ALL_NAMES = "see `reconciler status` for all names"
MOST_COMPARED = 2_000
"""Names; comparing costs about 10 microseconds for each."""
MOST_CHARACTERS = 64
"""Of the wrong name: comparing grows with its length."""


class ReconcilerError(Exception):
    """Root of all expected failures.

    `kind` is a short label from a closed set, fit for a metric; the message is for people,
    and `hint` says in one line what to do about it.
    """

    default_kind = "error"

    def __init__(self, message: str, *, kind: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind or self.default_kind
        self.hint = hint


class ConfigError(ReconcilerError):
    default_kind = "config"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a manifest, at a place: `file:line:col: message (hint)`."""

    file: str
    line: int
    col: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        tail = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.col}: {self.message}{tail}"


class ManifestErrors(ReconcilerError):
    """The problems of one commit, which is rejected whole.

    A reader names a bounded number of them; `more` counts the others, at least.
    """

    default_kind = "parse"

    def __init__(self, problems: list[Problem], *, revision: str = "", more: int = 0) -> None:
        self.problems = tuple(sorted(problems))
        self.revision = revision
        self.more = more
        first = str(self.problems[0]) if self.problems else "no problem was named"
        others = len(self.problems) + more - 1
        beside = f" (and {others} more)" if others > 0 else ""
        super().__init__(first + beside, hint="run `reconciler validate` to see all of them")


class SourceError(ReconcilerError):
    """kind: auth, network, timeout, verify, ancestry, corrupt, limit, missing, empty, unsupported, unknown."""

    default_kind = "network"


class RevisionRefused(SourceError):
    """A commit that was fetched and is not followed.

    kind: ancestry (it does not continue what was followed), verify (its signature), limit (it is too
    large to be read) or timeout (reading it took too long).
    """

    more = 0
    """Problems beside those that are named; a refusal has one."""

    def __init__(self, message: str, *, kind: str, revision: str, hint: str) -> None:
        super().__init__(message, kind=kind, hint=hint)
        self.revision = revision
        self.problems = (f"{message} ({hint})" if hint else message,)


class ImageError(ReconcilerError):
    default_kind = "image"


class BuildFailed(ImageError):
    default_kind = "build-failed"


class BuildUnavailable(ImageError):
    default_kind = "build-unavailable"


class DriverError(ReconcilerError):
    default_kind = "driver"


class ProxyError(ReconcilerError):
    """kind: front (it cannot be asked), or port (somebody else has a port)."""

    default_kind = "front"


class SupervisorError(ReconcilerError):
    default_kind = "supervisor"


class GuestConflict(SupervisorError):
    default_kind = "conflict"


class LedgerError(ReconcilerError):
    default_kind = "ledger"


class LedgerTooNew(LedgerError):
    default_kind = "ledger-too-new"


class LedgerUnwritable(LedgerError):
    default_kind = "ledger-unwritable"


class DeliveryError(ReconcilerError):
    """A notification was not taken. kind: network, timeout, answer, refused, secret, unforeseen."""

    default_kind = "network"


class StateDirLocked(ReconcilerError):
    default_kind = "locked"


class RequestRefused(ReconcilerError):
    default_kind = "refused"


def did_you_mean(name: str, known: Iterable[str], otherwise: str, most: int = 1) -> str:
    """`did you mean web?`, with up to `most` names that are spelled alike, or else `otherwise`."""
    names = sorted(known)[:MOST_COMPARED]
    same = [one for one in names if one.casefold() == name.casefold()]
    close = same or difflib.get_close_matches(name[:MOST_CHARACTERS], names, n=most)
    return f"did you mean {' or '.join(close)}?" if close else otherwise
