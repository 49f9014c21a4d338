"""All expected errors, as one tree; and hints for misspelled names.

ReconcilerError              has a `kind` (a metric label) and a `hint` (what the reader can do)
├── ConfigError              the daemon's own settings; exit 78
├── ManifestErrors           one or more problems in a commit's manifests
├── SourceError              a repository could not be fetched or read; kind is the reason
│   └── RevisionRefused      a commit was fetched, but must not be followed
├── ImageError               a layer or kernel bundle could not be made or verified
│   ├── BuildFailed          the input is bad: building again gives the same
│   └── BuildUnavailable     the environment failed: building again may help
├── DriverError              a VMM refused, or did not answer in time
├── ProxyError               the proxy does not answer, or another process has a port
├── SupervisorError          a process could not be started or found
│   └── GuestConflict        another process holds our lock or socket; never killed
├── LedgerError              the record cannot be read or written
│   ├── LedgerTooNew         written by a newer version; refuse, never downgrade
│   └── LedgerUnwritable     the disk is full or broken; no new side effects
├── DeliveryError            a sink did not accept a notification
├── StateDirLocked           another daemon runs on this state directory
└── RequestRefused           a person's request does not fit the current state
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

ALL_NAMES = "see `reconciler status` for all names"
MOST_COMPARED = 2_000
"""Names that are compared; each takes about 10 microseconds."""
MOST_CHARACTERS = 64
"""Characters of the wrong name that are compared: the time grows with them."""


SourceErrorKind = Literal[
    "auth", "network", "timeout", "verify", "ancestry", "corrupt", "limit", "missing", "empty", "unsupported", "unknown",
]  # fmt: skip
GuestErrorKind = Literal[
    "auth", "build-failed", "build-unavailable", "bus", "capability", "changed-file", "conflict", "corrupt", "deadline",
    "disk", "disk-full", "driver", "folder", "group", "growth", "host", "hypervisor", "image", "limit", "machine", "missing", "missing-package",
    "missing-program", "network", "nix", "occupied", "port", "protocol", "refused", "runner", "spawn", "stuck", "systemd",
    "timeout", "volume",
]  # fmt: skip
"""Of errors about guests and images. Sources and deliveries share some of the words."""
LedgerErrorKind = Literal[
    "corrupt", "full", "io", "ledger", "ledger-too-new", "ledger-unwritable", "locked", "moved", "read-only",
]  # fmt: skip
DeliveryErrorKind = Literal["network", "timeout", "answer", "refused", "secret", "unforeseen"]


class ReconcilerError(Exception):
    """Root of all expected failures.

    `kind` is a short label from a closed set, usable in metrics. The message is for people, and `hint`
    says in one line what to do.
    """

    default_kind = "error"

    def __init__(self, message: str, *, kind: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind or self.default_kind
        self.hint = hint


class ConfigError(ReconcilerError):
    """The config is missing or invalid."""

    default_kind = "config"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One problem at a place in a manifest: `file:line:col: message (hint)`."""

    file: str
    line: int
    col: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        tail = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.col}: {self.message}{tail}"


class ManifestErrors(ReconcilerError):
    """The problems of one commit, which is rejected as a whole.

    A bounded number are listed; `more` is a lower bound on the number of others.
    """

    default_kind = "parse"

    def __init__(self, problems: list[Problem], *, revision: str = "", more: int = 0) -> None:
        self.problems = tuple(sorted(problems))
        self.revision = revision
        self.more = more
        first = str(self.problems[0]) if self.problems else "no problem was listed"
        others = len(self.problems) + more - 1
        beside = f" (and {others} more)" if others > 0 else ""
        super().__init__(first + beside, hint="run `reconciler validate` to see all of them")


class SourceError(ReconcilerError):
    """A repository could not be fetched or read."""

    default_kind = "network"

    def __init__(
        self, message: str, *, kind: SourceErrorKind | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, kind=kind, hint=hint)


def source_error_kind(word: str) -> SourceErrorKind:
    """The kind that a child process or an error gave; `unknown` for any other word."""
    known: SourceErrorKind
    for known in get_args(SourceErrorKind):
        if known == word:
            return known
    return "unknown"


class RevisionRefused(SourceError):
    """A commit that was fetched and is not followed.

    kind: ancestry (it does not descend from what was followed), verify (its signature), limit (too
    large to read) or timeout (reading it took too long).
    """

    more = 0
    """Problems beside those that are named; a refusal has one."""

    def __init__(self, message: str, *, kind: SourceErrorKind, revision: str, hint: str) -> None:
        super().__init__(message, kind=kind, hint=hint)
        self.revision = revision
        self.problems = (f"{message} ({hint})" if hint else message,)


class ImageError(ReconcilerError):
    """A layer or kernel bundle could not be made or verified."""

    default_kind = "image"

    def __init__(self, message: str, *, kind: GuestErrorKind | None = None, hint: str = "") -> None:
        super().__init__(message, kind=kind, hint=hint)


class BuildFailed(ImageError):
    """The input is bad: building it again would fail again."""

    default_kind = "build-failed"


class BuildUnavailable(ImageError):
    """The environment failed: building again may succeed."""

    default_kind = "build-unavailable"


class DriverError(ReconcilerError):
    """A VMM refused a command, or did not answer in time."""

    default_kind = "driver"

    def __init__(self, message: str, *, kind: GuestErrorKind | None = None, hint: str = "") -> None:
        super().__init__(message, kind=kind, hint=hint)


class ProxyError(ReconcilerError):
    """kind: front (the proxy does not answer), or port (another process has a port)."""

    default_kind = "front"


class SupervisorError(ReconcilerError):
    """A VMM process could not be started, found or signalled."""

    default_kind = "supervisor"

    def __init__(self, message: str, *, kind: GuestErrorKind | None = None, hint: str = "") -> None:
        super().__init__(message, kind=kind, hint=hint)


class GuestConflict(SupervisorError):
    """Another process holds a VM's lock or socket."""

    default_kind = "conflict"


class LedgerError(ReconcilerError):
    """The record cannot be read or written."""

    default_kind = "ledger"

    def __init__(
        self, message: str, *, kind: LedgerErrorKind | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, kind=kind, hint=hint)


class LedgerTooNew(LedgerError):
    """A newer version wrote the ledger, which is left unchanged."""

    default_kind = "ledger-too-new"


class LedgerUnwritable(LedgerError):
    """Nothing can be stored at present, so no new side effects may begin."""

    default_kind = "ledger-unwritable"


class DeliveryError(ReconcilerError):
    """A sink did not accept a notification. kind: network, timeout, answer, refused, secret, unforeseen."""

    default_kind = "network"

    def __init__(
        self, message: str, *, kind: DeliveryErrorKind | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, kind=kind, hint=hint)


class StateDirLocked(ReconcilerError):
    """Another daemon uses the state directory."""

    default_kind = "locked"


class RequestRefused(ReconcilerError):
    """A person's request does not fit the current state; `hint` says what does."""

    default_kind = "refused"


def did_you_mean(name: str, known: Iterable[str], otherwise: str, most: int = 1) -> str:
    """A hint such as `did you mean web?`, with up to `most` similar names; else `otherwise`."""
    names = sorted(known)[:MOST_COMPARED]
    same = [one for one in names if one.casefold() == name.casefold()]
    close = same or difflib.get_close_matches(name[:MOST_CHARACTERS], names, n=most)
    return f"did you mean {' or '.join(close)}?" if close else otherwise
