"""Reads secrets from files, without blocking and within a size limit."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from reconciler.durable import sync
from reconciler.errors import ConfigError

OWN_BYTES = 32
"""Length of a secret that the daemon creates."""
SHORTEST_CHOSEN, LONGEST_CHOSEN = 16, 512
"""Characters of a secret that people create. A shorter one could be guessed; a longer file is something else."""
GIVEN = "CREDENTIALS_DIRECTORY"
OF_THE_SERVICE = Path("/run/credentials/reconciler.service")
"""Where systemd keeps credentials; used by commands that root runs outside of the service."""
MAKE_ONE = "make one with: umask 077; openssl rand -hex 32 >FILE"


def place_of(name: str) -> Path:
    """The path of a secret: a name without a slash is a credential of the service."""
    if "/" in name:
        return Path(name)
    return Path(os.environ.get(GIVEN) or OF_THE_SERVICE) / name


def read_secret(
    key: str, path: Path, shortest: int = SHORTEST_CHOSEN, longest: int = LONGEST_CHOSEN,
    *, hint: str = MAKE_ONE, private: bool = False,
) -> str:  # fmt: skip
    """The stripped text of a secret file. `key` is the config key for messages; lengths are in characters.

    `private`: refuse a file that everyone on the host can read. Raises ConfigError.
    """
    try:
        # With O_NONBLOCK a FIFO without a writer is empty and does not block.
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
            f"{key} {path} can be read by everyone on this host", hint=f"chmod o= {path}"
        )
    if not text:
        raise ConfigError(f"{key} {path} is empty", hint=hint)
    if not shortest <= len(text) <= longest:
        raise ConfigError(
            f"{key} {path}: {shortest} to {longest} characters are needed, but it has"
            f" {len(text) if len(text) <= longest else 'more'}",
            hint=hint,
        )
    return text


def own_secret(path: Path) -> bytes:
    """The daemon's own secret, OWN_BYTES long; created if missing. Raises ConfigError."""
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
            f"{path}: {error.strerror}", hint="check owner and free space of the state directory"
        ) from error
    if found is None:
        raise ConfigError(f"{path} changed while it was read", hint="start the daemon again")
    return found


def _own(path: Path) -> bytes | None:
    """The secret; None if it is missing, incomplete, or readable by others."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        raw = file.read(OWN_BYTES + 1) or b""
    closed = stat.S_ISREG(status.st_mode) and not stat.S_IMODE(status.st_mode) & 0o077
    return raw if closed and len(raw) == OWN_BYTES else None
