"""Row 4 on real processes: a daemon that stands still keeps its state to itself, and looks again.

The lock on the state directory cannot be lost while its holder lives. What a daemon was about to do
when it was stopped names whom it means, so that nobody else is hit when it goes on.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.client import DaemonAway, Fleet
from demo.daemon import run_cli
from demo.processes import alive, end, guests_under
from demo.screen import in_words
from demo.stage import Stage
from tests.fault import vmm_child
from tests.wait import wait_until

pytestmark = pytest.mark.timeout(120)

SOON = 30.0
VM = "web"
MANIFEST = """\
apiVersion: reconciler/v1
kind: MicroVM
metadata: {name: web}
spec:
  vcpu: 1
  memory: 64MiB
  kernel: {path: %(kernel)s, initrd: %(initrd)s}
  store: {format: squashfs, layers: [{tree: ./tree}]}
  health: {startupDeadline: 2s, minHealthyTime: 100ms}
  update: {stopTimeout: 1s}
"""
CONFIG = """
[qemu]
binary = "%(vmm)s"
accel = "tcg"
"""


class Host:
    """A state directory, a repository with one VM, and a VMM that costs next to nothing."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.daemon = stage.daemon
        vmm = stage.root / "vmm"
        vmm.write_text(f'#!/bin/sh\nexec {sys.executable} -SE {vmm_child.__file__} "$@"\n')
        vmm.chmod(0o755)
        files = {name: stage.root / name for name in ("kernel", "initrd")}
        for path in files.values():
            path.write_text(path.name)
        config = self.daemon.config.read_text()
        allowed = f'[policy]\nhost_paths = ["{stage.root}"]\n'
        self.daemon.config.write_text(config.replace("[policy]\n", allowed) + CONFIG % {"vmm": vmm})
        stage.repository.write("web.yaml", MANIFEST % files)

    def push(self, text: str) -> str:
        self.stage.repository.write("tree/text", text)
        return self.stage.repository.push(text)

    def until(self, what: str, condition: object) -> Fleet:
        assert callable(condition)

        def look() -> Fleet | None:
            try:
                fleet = self.daemon.fleet()
            except DaemonAway:
                return None
            return fleet if condition(fleet) else None

        try:
            return wait_until(look, SOON, what)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{self.daemon.log_tail()}\n{in_words(self.daemon.fleet())}"
            ) from None

    def settled(self, revision: str) -> Fleet:
        return self.until(f"settled at {revision[:8]}", lambda now: now.settled(revision, VM))

    def guest(self) -> int:
        (guest,) = guests_under(self.stage.root)
        return guest.pid

    def stand_still(self) -> int:
        """SIGSTOP, and the daemon's pid once it has taken effect."""
        pid = self.daemon.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        stat = Path(f"/proc/{pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", 5)
        return pid

    def go_on(self) -> None:
        assert self.daemon.pid is not None
        os.kill(self.daemon.pid, signal.SIGCONT)

    def another(self) -> subprocess.CompletedProcess[str]:
        """A second daemon on the same config."""
        return run_cli(["run", "--config", str(self.daemon.config)], timeout=SOON)

    def written(self) -> dict[str, tuple[int, int]]:
        """Size and time of all that stands in the state directory."""
        files = (path for path in self.stage.state.rglob("*") if path.is_file())
        found = ((path, path.stat()) for path in files)
        return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in found}

    def events(self, kind: str) -> int:
        events = self.daemon.control.get("/v1/events?limit=1000")["events"]
        return sum(event["kind"] == kind for event in events)

    def presses(self, pid: int) -> int:
        try:
            noted = (self.stage.state / "vms" / VM / f"pressed.{pid}").read_text()
        except FileNotFoundError:
            return 0
        return len(noted.splitlines())


@pytest.fixture
def host() -> Iterator[Host]:
    """With one guest that runs."""
    stage = Stage.open()
    try:
        host = Host(stage)
        revision = host.push("one")
        host.daemon.start()
        host.settled(revision)
        yield host
    finally:
        if host.daemon.pid is not None:
            host.daemon.kill()  # it may stand still
        left = stage.end_processes()
        shutil.rmtree(stage.root)  # and not `close`: these are no images to keep for others
    assert left == []


@pytest.mark.shows(row=4)
def test_row_04_while_a_daemon_stands_still_another_is_refused_and_touches_nothing(
    host: Host,
) -> None:
    guest, holder = host.guest(), host.daemon.pid
    running = host.another()
    assert running.returncode == 1
    assert f"another daemon runs on {host.stage.state}: process {holder}" in running.stderr
    assert f"hint: end it with `kill {holder}`" in running.stderr

    host.stand_still()
    host.push("two")
    before = host.written()
    stopped = host.another()
    assert stopped.returncode == 1
    (error, hint) = stopped.stderr.splitlines()[-2:]
    assert f"process {holder} was stopped by a signal; this one has touched nothing" in error
    assert f"`kill -CONT {holder}` lets it go on" in hint
    assert host.written() == before
    assert host.guest() == guest


@pytest.mark.shows(row=4)
def test_row_04_a_daemon_that_stood_still_looks_again_before_it_acts(host: Host) -> None:
    guest = host.guest()
    host.stand_still()
    host.push("overtaken while nobody looked")
    newest = host.push("newest")
    assert end([guest]) == []
    host.go_on()
    after = host.settled(newest)
    assert host.guest() == after.vms[VM].pid != guest
    assert host.events("guest-crashed") == 1, "what happened meanwhile is seen"
    assert after.vms[VM].running == 2, "what was overtaken never ran"


@pytest.mark.shows(row=4)
def test_row_04_a_daemon_killed_while_it_stands_still_leaves_its_guest_to_the_next(
    host: Host,
) -> None:
    guest = host.guest()
    first = host.stand_still()
    host.daemon.kill()
    fleet = host.daemon.start()
    assert host.daemon.pid != first
    assert fleet.vms[VM].pid == guest == host.guest()
    host.settled(host.stage.repository.head())
    assert host.guest() == guest


@pytest.mark.shows(row=4)
def test_row_04_what_a_daemon_was_about_to_do_hits_nobody_who_came_meanwhile(host: Host) -> None:
    guest = host.guest()
    patient = host.stage.repository.read("web.yaml").replace("stopTimeout: 1s", "stopTimeout: 60s")
    host.stage.repository.write("web.yaml", patient)
    host.settled(host.push("one"))
    assert host.guest() == guest
    host.push("two")
    wait_until(lambda: host.presses(guest) > 0, SOON, "the power button is pressed")
    host.stand_still()
    assert end([guest]) == []
    runner = host.stage.state / "vms" / VM / "booted/bin/microvm-run"
    socket = host.stage.state / "vms" / VM / "run/qmp.sock"
    socket.unlink(missing_ok=True)  # the dead guest's
    by_hand = subprocess.Popen([runner], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(socket.exists, SOON, "a person's own guest is up")
        host.go_on()
        host.until("the stranger is told", lambda now: f"process {by_hand.pid}" in now.vms[VM].why)
        assert alive(by_hand.pid)
        assert host.presses(by_hand.pid) == 0
        assert guests_under(host.stage.root) == []
    finally:
        by_hand.kill()
        by_hand.wait()
    host.settled(host.stage.repository.head())
