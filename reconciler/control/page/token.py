"""The token that allows acting on the page, read from a file once."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

from reconciler.errors import ConfigError

SHORTEST, LONGEST = 16, 512
"""Characters. A shorter one could be guessed; a longer one is some other file."""
HINT = "make one with: umask 077; openssl rand -hex 32 >FILE"


class Token:
    """Only its hash is kept."""

    def __init__(self, text: str) -> None:
        self._digest = _digest(text)

    def matches(self, given: str) -> bool:
        """In a time that tells nothing."""
        return hmac.compare_digest(self._digest, _digest(given))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def read_token(path: Path) -> Token:
    """Raises ConfigError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            raw = file.read(LONGEST + 2)
    except OSError as error:
        raise ConfigError(f"http.token_file {path}: {error.strerror}", hint=HINT) from error
    if stat.S_IMODE(found.st_mode) & 0o007:
        raise ConfigError(
            f"http.token_file {path} can be read by everybody on this host", hint=f"chmod o= {path}"
        )
    text = raw.decode("utf-8", "replace").strip()
    if not SHORTEST <= len(text) <= LONGEST:
        raise ConfigError(
            f"http.token_file {path}: a token has {SHORTEST} to {LONGEST} characters", hint=HINT
        )
    return Token(text)
