"""Secrets: in files or credentials of the service, read anew for every message, never in the config."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import DeliveryError

GIVEN = "CREDENTIALS_DIRECTORY"
OF_THE_SERVICE = Path("/run/credentials/reconciler.service")
"""Where systemd keeps them; for a person's command, who has no such variable and is root."""
MOST_BYTES = 16 * 1024


def place_of(name: str) -> Path:
    """A path as it is; a bare name is one of the service's credentials."""
    if "/" in name:
        return Path(name)
    return Path(os.environ.get(GIVEN) or OF_THE_SERVICE) / name


@dataclass(frozen=True, slots=True)
class Missing:
    """A secret that this process cannot read."""

    words: str
    sure: bool
    """Whether the daemon cannot either: it has credentials of its own, and may be another user."""


def look_for(name: str) -> Missing | None:
    try:
        read_secret(name)
    except DeliveryError as error:
        place = place_of(name)
        sure = "/" in name or place.parent.is_dir()
        return Missing(str(error), sure and not isinstance(error.__cause__, PermissionError))
    return None


def read_secret(name: str) -> str:
    """The text of a secret, without its last newline. Raises DeliveryError that names the file."""
    path = place_of(name)
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES)
        text = raw.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "is not text"
        raise DeliveryError(
            f"secret {path}: {words}", kind="secret", hint="write it there, readable for the daemon"
        ) from error
    if not text:
        raise DeliveryError(f"secret {path} is empty", kind="secret", hint="write it there")
    return text
