"""`status --watch` in a real pseudo-terminal of 80x24."""

import asyncio
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cli import watch
from reconciler.cli.daemon_client import Daemon
from reconciler.cli.host_view import header
from reconciler.cli.progress import MOST_LINES, work_lines
from reconciler.cli.terminal import build_lines
from reconciler.cli.watch import screen
from reconciler.model.build_progress import BuildStatus
from reconciler.model.names import VMName
from reconciler.model.status import HostStatus
from tests.unit.control.fake_operator import WALL, FakeOperator, fleet, vm

ROWS, COLUMNS = 24, 80
HOME = b"\x1b[H"
FRAMES = 2
DEADLINE = 50.0


def crowd(size: int, **changes: object) -> HostStatus:
    return fleet(*(vm(f"vm-{index:03}", **changes) for index in range(size)))


def watch_in_terminal(socket: Path) -> tuple[bytes, int]:
    """What it draws until some frames were seen, and its exit code after Ctrl-C."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    child = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "status", "--watch", "--socket", str(socket)],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"},
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    drawn, until = b"", time.monotonic() + DEADLINE
    try:
        while drawn.count(b"Ctrl-C ends") <= FRAMES and time.monotonic() < until:
            if select.select([ours], [], [], 0.1)[0]:
                drawn += os.read(ours, 65536)
        child.send_signal(2)
        while select.select([ours], [], [], 5)[0]:
            try:
                drawn += os.read(ours, 65536)
            except OSError:  # EIO: the other side is closed
                break
        return drawn, child.wait(10)
    finally:
        child.kill()
        child.wait()
        os.close(ours)


async def test_it_redraws_in_place_without_clearing_and_leaves_the_terminal_as_it_was(
    operator: FakeOperator, socket: Path
) -> None:
    operator.fleet = crowd(50, why="waits: \x1b[2J 1 of 1 may be down")
    drawn, code = await asyncio.to_thread(watch_in_terminal, socket)
    assert code == 130
    assert drawn.startswith(b"\x1b[?1049h")
    assert drawn.rstrip().endswith(b"\x1b[?1049l")
    assert b"\x1b[2J" not in drawn
    frames = [frame for frame in drawn.split(HOME) if b"Ctrl-C ends" in frame]
    assert len(frames) >= FRAMES
    for frame in frames[:FRAMES]:  # the interrupt may have cut a later one
        lines = re.sub(rb"\x1b\[[0-9;?]*[a-z]", b"", frame).decode().split("\r\n")
        assert len(lines) == ROWS
        assert max(len(line) for line in lines) <= COLUMNS


@pytest.mark.parametrize("size", [0, 1, 15, 1000])
@pytest.mark.parametrize(
    "why", ["", "waits for a reason that is longer than one line of the terminal is"]
)
def test_the_screen_is_never_taller_or_wider_than_the_terminal(size: int, why: str) -> None:
    lines = screen(crowd(size, why=why), COLUMNS, ROWS)
    assert len(lines) <= ROWS
    assert max(len(line) for line in lines) <= COLUMNS


def test_what_needs_a_look_comes_first_when_not_all_fits() -> None:
    whole = fleet(*crowd(100).vms, vm("zz-sick", healthy=False, why="its checks fail"))
    text = "\n".join(line.plain for line in screen(whole, COLUMNS, ROWS))
    assert "zz-sick" in text
    assert "more lines" in text


def test_a_daemon_that_went_away_is_said_above_the_last_known_state() -> None:
    lines = screen(crowd(3), COLUMNS, ROWS, "no daemon listens")
    assert lines[0].plain == "no daemon listens"
    assert any("vm-001" in line.plain for line in lines)


def test_progress_shows_vms_in_motion_first_and_never_too_many() -> None:
    waiting = [vm(f"w-{i}", sync="out-of-sync", why="waits") for i in range(20)]
    lines = work_lines(fleet(*waiting, vm("moving", state="starting", healthy=False), vm("done")))
    assert len(lines) == MOST_LINES
    assert lines[0].plain.split() == ["moving", "starting"]
    assert lines[-1].plain == "  and 12 VMs more"


def test_builds_are_shown_above_the_vms_and_while_reconcile_waits() -> None:
    build = BuildStatus(
        "a" * 64, "oci app", "fetching", 34 << 20, 0, WALL - 12, (VMName("web"),), 2
    )
    shown = [line.plain for line in header(replace(crowd(3), builds=(build,)), 200, WALL)]
    assert shown[-1] == "oci app: fetching, 34 MiB so far, for 12 s (web and 2 more)"
    many = tuple(replace(build, key=str(number)) for number in range(20))
    assert build_lines(many, WALL)[-1] == "and 15 more are built"
    assert len(screen(replace(crowd(50), builds=many), COLUMNS, ROWS)) <= ROWS


class Enough(Exception):
    """The test has seen enough."""


def test_in_a_pipe_bytes_alone_are_news_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = [0.0]

    def sleep(given: float) -> None:
        seconds[0] += given
        if seconds[0] > 60:
            raise Enough

    def ask(*_: object) -> HostStatus:
        far = int(seconds[0]) << 20
        build = BuildStatus("a" * 64, "oci app", "fetching", far, 0, WALL)
        return replace(crowd(1), builds=(build,))

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(watch, "ask", ask)
    with pytest.raises(Enough):
        watch.watch_status(Daemon(Path("/nowhere")), None, json_lines=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
