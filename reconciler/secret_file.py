"""Secrets, read from files that the config names: never waited for, never more than their bound."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from reconciler.durable import sync
from reconciler.errors import ConfigError

OWN_BYTES = 32
"""Of a secret that the daemon makes."""
SHORTEST_CHOSEN, LONGEST_CHOSEN = 16, 512
"""Characters of a secret that people make for us. A shorter one could be guessed; a longer one is
some other file."""
MAKE_ONE = "make one with: umask 077; openssl rand -hex 32 >FILE"


def read_secret(
    key: str, path: Path, shortest: int = SHORTEST_CHOSEN, longest: int = LONGEST_CHOSEN,
    *, hint: str = MAKE_ONE, private: bool = False,
) -> str:  # fmt: skip
    """The text of a file, without the space around it. `key` names what it is for.

    With `private` it may not be readable by everybody on the host. Raises ConfigError.
    """
    try:
        # A FIFO that nobody writes to is empty, and not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(4 * longest + 1) or b""  # characters have up to four bytes
        text = raw.decode("utf-8", "strict" if len(raw) <= 4 * longest else "replace").strip()
    except OSError as error:
        raise ConfigError(f"{key} {path}: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key} {path}: is not text", hint=hint) from error
    if private and stat.S_IMODE(mode) & 0o007:
        raise ConfigError(
            f"{key} {path} can be read by everybody on this host", hint=f"chmod o= {path}"
        )
    if not text:
        raise ConfigError(f"{key} {path} is empty", hint=hint)
    if not shortest <= len(text) <= longest:
        raise ConfigError(
            f"{key} {path}: {shortest} to {longest} characters are wanted, and it has"
            f" {len(text) if len(text) <= longest else 'more'}",
            hint=hint,
        )
    return text


def own_secret(path: Path) -> bytes:
    """A secret of the daemon's own, made when it is not there. Raises ConfigError."""
    try:
        found = _own(path)
        if found is None:
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(secrets.token_bytes(OWN_BYTES))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync(path.parent)
            found = _own(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}", hint="is the state directory ours, and is there space?"
        ) from error
    if found is None:
        raise ConfigError(f"{path} changes while it is read", hint="start the daemon again")
    return found


def _own(path: Path) -> bytes | None:
    """None when it is missing, not whole, or open to others."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        raw = file.read(OWN_BYTES + 1) or b""
    closed = stat.S_ISREG(status.st_mode) and not stat.S_IMODE(status.st_mode) & 0o077
    return raw if closed and len(raw) == OWN_BYTES else None
