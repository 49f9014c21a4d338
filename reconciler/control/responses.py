"""The short answers of the control API; apart, because every command loads them."""

from __future__ import annotations

from dataclasses import dataclass, field

PACKAGE = "microvm-reconciler"


@dataclass(frozen=True, slots=True)
class DoneAnswer:
    """What was done, in words."""

    done: str


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What the TCP listener takes for reading all of it, and for reading metrics alone."""

    read: str
    metrics: str


@dataclass(frozen=True, slots=True)
class VersionAnswer:
    """The daemon's version, and that of its API."""

    version: str
    api: str = "v1"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request failed: a kind for scripts, a message and a hint for people."""

    kind: str
    message: str
    hint: str = ""
    problems: tuple[str, ...] = ()
    more: int = 0
    """Problems beside those, at least."""


@dataclass(frozen=True, slots=True)
class FailureAnswer:
    """The body of every answer with an HTTP status of 400 or more."""

    error: Failure = field(default_factory=lambda: Failure("internal", "no reason was given"))


def version() -> str:
    """The version of the installed package; `unknown` when it runs from a tree that is not installed."""
    import importlib.metadata  # noqa: PLC0415 - slow to load, and most commands do not ask

    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
