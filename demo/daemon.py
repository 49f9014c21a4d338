"""The daemon as a foreground process: started, queried, killed and restarted."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from demo.client import ControlClient, DaemonAway, Fleet

START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
LONGEST_SOCKET_PATH = 107
GUEST_SOCKET = "vms/" + "n" * 40 + "/run/qmp.sock"


PORTS = range(20_000, 32_768)
"""Below the kernel's ephemeral ports, so that no other process gets one by chance while a guest is
down."""


def free_port() -> int:
    """A TCP port of the loopback without a listener at this moment."""
    chance = random.SystemRandom()
    while True:
        port = chance.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a trial daemon that differ from the defaults."""

    repository: Path
    state: Path
    socket: Path
    http_port: int
    prune: bool = True
    bridges: tuple[str, ...] = ()
    allowed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """More keys of `policy`, each a list."""
    more: str = ""
    """Further tables of the config, as text."""

    def toml(self) -> str:
        tables: dict[str, dict[str, str | int | bool | list[str]]] = {
            "": {"state_dir": str(self.state), "control_socket": str(self.socket)},
            "source": {"url": str(self.repository), "prune": self.prune},
            "http": {"port": self.http_port},
            # A trial must not fail on a host that is nearly full.
            "policy": {
                "memory_reserve_mib": 64,
                "disk_reserve_mib": 64,
                "bridges": list(self.bridges),
                **{key: list(values) for key, values in self.allowed.items()},
            },
        }
        lines = []
        for table, keys in tables.items():
            lines += [f"\n[{table}]"] if table else []
            # JSON's strings, numbers, booleans and lists of them are TOML's too.
            lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        return "\n".join([*lines, self.more]) + "\n"


class Daemon:
    """`reconciler run` on settings of its own, with its log in a file."""

    def __init__(self, folder: Path, settings: Settings, within: Sequence[str] = ()) -> None:
        """`within` is a command that runs another, as nsenter(1) does in a namespace."""
        longest = len(os.fsencode(settings.state / GUEST_SOCKET))
        if longest > LONGEST_SOCKET_PATH:
            raise RuntimeError(
                f"{folder} is too long a path for unix sockets: set a shorter TMPDIR"
            )
        self.settings = settings
        self.within = tuple(within)
        self.config = folder / "config.toml"
        self.log = folder / "daemon.log"
        self.control = ControlClient(settings.socket)
        self.process: subprocess.Popen[bytes] | None = None
        self.config.write_text(settings.toml(), encoding="utf-8")

    def spawn(self) -> None:
        """Start it, and do not wait."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.within,
                    *(sys.executable, "-m", "reconciler", "run", "--config", str(self.config)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C reaches our parent, which then stops the daemon in good order.
                start_new_session=True,
            )

    def start(self) -> Fleet:
        """Start it, and wait for its first pass. Raises RuntimeError if that fails."""
        self.spawn()
        until = time.monotonic() + START_TIMEOUT
        while time.monotonic() < until:
            with suppress(DaemonAway):
                fleet = self.fleet()
                if all(vm.state != "unknown" for vm in fleet.vms.values()):
                    return fleet
            if (code := self.exit_code(timeout=0.05)) is not None:
                raise RuntimeError(f"the daemon ended with exit code {code}:\n{self.log_tail()}")
        raise RuntimeError(
            f"the daemon does not answer on {self.settings.socket}:\n{self.log_tail()}"
        )

    def fleet(self) -> Fleet:
        return self.control.fleet()

    def exit_code(self, timeout: float) -> int | None:
        """How it ended, if it did so within `timeout` seconds."""
        if self.process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout)
        return None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.poll() is None else None

    def kill(self) -> None:
        """`kill -9`, as the out-of-memory killer would."""
        self.signal(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM; after 20 s SIGKILL, because then it hangs."""
        self.signal(signal.SIGTERM)
        if self.pid is not None:
            self.kill()

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.exit_code(STOP_TIMEOUT)

    def cli(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """A command of an operator: `reconciler ARGUMENT... --socket S`."""
        return run_cli([*arguments, "--socket", str(self.settings.socket)], timeout)

    def log_tail(self, lines: int = 15) -> str:
        with suppress(OSError):
            text = self.log.read_text(encoding="utf-8", errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""


def run_cli(arguments: Sequence[str], timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reconciler", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
