"""Secrets: in files or credentials of the service, read anew for every message, never in the config."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from reconciler import secret_file
from reconciler.errors import ConfigError, DeliveryError

GIVEN = "CREDENTIALS_DIRECTORY"
OF_THE_SERVICE = Path("/run/credentials/reconciler.service")
"""Where systemd keeps them; for a person's command, who has no such variable and is root."""
LONGEST = 16 * 1024
"""Characters."""
HINT = "write it there, readable for the daemon"


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
    """The text of a secret, without the space around it. Raises DeliveryError that names the file."""
    try:
        return secret_file.read_secret("secret", place_of(name), 1, LONGEST, hint=HINT)
    except ConfigError as error:
        # What keeps us from reading it, for `look_for`.
        raise DeliveryError(str(error), kind="secret", hint=error.hint) from error.__cause__
