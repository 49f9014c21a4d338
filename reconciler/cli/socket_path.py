"""Which socket the daemon listens on, found without loading the daemon's settings in full."""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.cli.daemon_client import Daemon
from reconciler.errors import ConfigError

# Twins of what reconciler.config says; importing that costs more than a whole `status`.
CONFIG_ENVIRONMENT = "RECONCILER_CONFIG"
DEFAULT_CONFIG = Path("/etc/reconciler/config.toml")
DEFAULT_SOCKET = Path("/run/reconciler/control.sock")


def find_daemon(given: Path | None, config: Path | None = None) -> Daemon:
    """`--socket`, RECONCILER_SOCKET, the config's control_socket, or the usual place."""
    return Daemon(given or _configured(config) or DEFAULT_SOCKET)


def _configured(config: Path | None) -> Path | None:
    import tomllib  # noqa: PLC0415 - not needed when a socket is named

    named = config or os.environ.get(CONFIG_ENVIRONMENT)
    path = Path(named or DEFAULT_CONFIG)
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if not named:
            return None
        words = error.strerror if isinstance(error, OSError) else f"not TOML: {error}"
        raise ConfigError(
            f"{path}: {words}", hint="mend it, or name the socket with --socket"
        ) from error
    socket = settings.get("control_socket")
    return path.absolute().parent / socket if isinstance(socket, str) else None
