"""A machine with systemd as PID 1, over the files of a fresh Debian; what is written goes with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.systemd import enter
from tests.systemd.terminal import converse
from tests.wait import wait_until

CGROUPS = Path("/sys/fs/cgroup")
BOOT = 60.0
"""Seconds; it takes two on a machine that does nothing else."""
OFF = 60.0
COMMAND = 180.0
ENVIRONMENT = (
    *("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"),
    *("LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "PYTHONDONTWRITEBYTECODE=1"),
)
UNIFIED = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
"""As a Debian host has its cgroups; with bpf(2), systemd counts in them what a unit receives and sends."""
UP = {"running", "degraded"}


def missing() -> str:
    """What keeps this machine from having such containers; empty if nothing does."""
    if os.geteuid() != 0:
        return "a container takes root"
    for program, package in (("systemd-nspawn", "systemd-container"), ("debootstrap",) * 2):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install {package}"
    if not os.access(_hierarchies()[0], os.W_OK) or not _may_mount():
        return "no cgroups and mounts of our own here"
    return ""


class Container:
    """Booted by `boot()`; whatever happens, `close()` leaves nothing behind. `below` is only read."""

    def __init__(self, below: Path, binds: Sequence[str] = ()) -> None:
        self._below = below
        self.folder = Path(tempfile.mkdtemp(prefix="rc-systemd-"))
        self.name = self.folder.name[-8:].replace("_", "x")
        self._binds = binds
        self._process: subprocess.Popen[bytes] | None = None
        self.leader = 0

    @property
    def root(self) -> Path:
        """Its files, seen from outside; mounts that it made are under `live`."""
        return self.folder / "root"

    @property
    def live(self) -> Path:
        return Path(f"/proc/{self.leader}/root")

    def mount(self) -> None:
        """A copy of the files below that forgets all that is written."""
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self.folder))
        for name in ("written", "work", "root"):
            (self.folder / name).mkdir()
        layers = f"lowerdir={self._below},upperdir={self.folder}/written,workdir={self.folder}/work"
        _mount("-t", "overlay", "-o", layers, "overlay", str(self.root))

    def boot(self, *options: str) -> None:
        """`options` are systemd-nspawn's, for this time."""
        cgroups = [str(hierarchy / f"rc-{self.name}") for hierarchy in _hierarchies()]
        with (self.folder / "boot.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, enter.__file__, *cgroups, "--"),
                    *("systemd-nspawn", "--quiet", "--boot", "-D", str(self.root)),
                    *("--register=no", "--keep-unit", f"--machine={self.name}"),
                    *(
                        "--capability=all",
                        "--console=pipe",
                        "--system-call-filter=bpf",
                        *(*self._binds, *options),
                    ),
                ],
                env={**os.environ, **UNIFIED},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(self._up, BOOT, "the container is up")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._said()}") from error

    def run(
        self, *argv: str, check: bool = True, timeout: float = COMMAND
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside. Raises AssertionError with what it said if it failed."""
        done = subprocess.run(
            [*self._inside(), *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        said = f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert not check or done.returncode == 0, said
        return done

    def converse(self, *argv: str, answers: Sequence[tuple[str, str]]) -> str:
        """Run a program at a terminal; what a person sees of it who answers each of these prompts."""
        asked = ("env", "-u", "DEBIAN_FRONTEND", "TERM=xterm", *argv)
        return converse([*self._inside(), *asked], answers, COMMAND)

    def _inside(self) -> list[str]:
        entered = ("nsenter", "-t", str(self.leader), "-a", "--root", "--wd", "--")
        return [*entered, "env", "-i", *ENVIRONMENT]

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        out = self.run("systemctl", "show", unit, f"--property={','.join(names)}").stdout
        return dict(line.split("=", 1) for line in out.splitlines())

    def power_off(self) -> None:
        """As a host is shut down: systemd stops what runs."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self.leader or self._process.pid, signal.SIGRTMIN + 4)
        try:
            self._process.wait(OFF)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(OFF)
        self._process, self.leader = None, 0

    def close(self) -> None:
        """As by a power cut: nothing in it is needed any more."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.leader or self._process.pid, signal.SIGKILL)
            self._process.wait(OFF)
        for target in (self.root, self.folder):
            subprocess.run(["umount", "--lazy", str(target)], capture_output=True, check=False)
        with suppress(OSError):
            self.folder.rmdir()
        for hierarchy in _hierarchies():
            top = hierarchy / f"rc-{self.name}"
            for folder in sorted(top.rglob("*"), reverse=True):
                if folder.is_dir():
                    with suppress(OSError):
                        folder.rmdir()
            with suppress(OSError):
                top.rmdir()

    def _said(self) -> str:
        return (self.folder / "boot.log").read_text(errors="replace")

    def _up(self) -> bool:
        process = self._process
        assert process is not None
        assert process.poll() is None, self._said()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if not children:
            return False
        self.leader = int(children[0])
        try:
            state = self.run("systemctl", "is-system-running", check=False, timeout=10).stdout
        except subprocess.TimeoutExpired:
            return False
        return state.strip() in UP


def _hierarchies() -> list[Path]:
    """Where processes are put: the unified hierarchy, or systemd's two of a hybrid host."""
    hybrid = [CGROUPS / name for name in ("systemd", "unified") if (CGROUPS / name).is_dir()]
    return hybrid or [CGROUPS]


def _may_mount() -> bool:
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True, check=False,
    )  # fmt: skip
    return tried.returncode == 0


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, timeout=COMMAND)
