"""Secrets of sinks: read from files or service credentials for every message, never from the config."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler import secret_file
from reconciler.errors import ConfigError, DeliveryError
from reconciler.secret_file import place_of

LONGEST = 16 * 1024
"""Characters of a secret."""
HINT = "write it there, readable by the daemon"


@dataclass(frozen=True, slots=True)
class Missing:
    """A secret that this process cannot read."""

    words: str
    sure: bool
    """Whether the daemon certainly cannot read it either: it has credentials, and may be another user."""


def find_missing(name: str) -> Missing | None:
    """Why this process cannot read a secret; None if it can."""
    try:
        read_secret(name)
    except DeliveryError as error:
        place = place_of(name)
        sure = "/" in name or place.parent.is_dir()
        return Missing(str(error), sure and not isinstance(error.__cause__, PermissionError))
    return None


def read_secret(name: str) -> str:
    """The text of a secret, stripped. Raises DeliveryError (secret) that names the file."""
    try:
        return secret_file.read_secret("secret", place_of(name), 1, LONGEST, hint=HINT)
    except ConfigError as error:
        # The cause, which `find_missing` examines.
        raise DeliveryError(str(error), kind="secret", hint=error.hint) from error.__cause__
