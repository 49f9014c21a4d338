"""What the audience reads, with a terminal and without."""

import io
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from demo.client import DaemonAway, Fleet
from demo.daemon import Daemon, Settings
from demo.poller import Gap
from demo.screen import DemoFailed, Screen
from demo.show import Result, summary


def fleet(*, healthy: bool, why: str = "") -> Fleet:
    vm: dict[str, Any] = {
        "name": "web", "group": "front", "healthy": healthy, "sync": "synced", "pid": 7, "why": why,
        "state": "running" if healthy else "starting",
        "generation": {"running": 1, "desired": 1, "last_good": 1 if healthy else None},
    }  # fmt: skip
    return Fleet.of({"revision": {"observed": "abc", "applied": None}, "vms": [vm]})


class CannedDaemon(Daemon):
    """Tells these fleets one after the other, and the last one for ever; None: it is away."""

    def __init__(self, fleets: Sequence[Fleet | None], code: int | None = None) -> None:
        here = Path("/nowhere")
        self.settings = Settings(here, here, here, 0)
        self.log = here / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.fleets = list(fleets)
        self.code = code

    def fleet(self) -> Fleet:
        told = self.fleets.pop(0) if len(self.fleets) > 1 else self.fleets[0]
        if told is None:
            raise DaemonAway
        return told

    def exit_code(self, timeout: float) -> int | None:
        assert timeout < 1
        return self.code


def screen(*, terminal: bool) -> tuple[Screen, io.StringIO]:
    text = io.StringIO()
    return Screen(Console(file=text, force_terminal=terminal, width=160), 3), text


def test_without_a_terminal_each_change_is_one_line() -> None:
    shown, text = screen(terminal=False)
    story = [fleet(healthy=False, why="[on] trial"), None, fleet(healthy=False, why="[on] trial")]
    daemon = CannedDaemon([*story, fleet(healthy=True)])
    with shown.open():
        shown.until(daemon, "it is healthy", 5, lambda now: now.vms["web"].healthy)
    lines = [line.strip() for line in text.getvalue().splitlines()]
    assert lines == [
        "web      starting, not healthy, synced, generation 1: [on] trial",
        "web      running, healthy, synced, generation 1",
    ]


def test_on_a_terminal_the_table_says_what_is_waited_for() -> None:
    shown, text = screen(terminal=True)
    daemon = CannedDaemon([fleet(healthy=False, why="[on] trial"), None, fleet(healthy=True)])
    with shown.open():
        shown.heading(1, "the first step")
        shown.until(daemon, "it is healthy", 5, lambda now: now.vms["web"].healthy)
        shown.say("[done]")
    assert "it is healthy" in text.getvalue()
    assert "[done]" in text.getvalue()


def test_a_wait_that_is_too_long_fails_with_the_fleet_in_words() -> None:
    shown, _ = screen(terminal=False)
    daemon = CannedDaemon([fleet(healthy=False, why="waiting for its checks")])
    with pytest.raises(DemoFailed, match=r"it is healthy\nweb .*waiting for its checks"):
        shown.until(daemon, "it is healthy", 0.01, lambda now: now.vms["web"].healthy)


def test_a_daemon_that_ended_is_not_waited_for() -> None:
    shown, _ = screen(terminal=False)
    with pytest.raises(DemoFailed, match="exit code 78"):
        shown.until(CannedDaemon([None], code=78), "it is healthy", 60, lambda _: True)


def test_the_summary_has_a_row_a_step_with_its_longest_gaps() -> None:
    text = io.StringIO()
    gaps = {"web": [Gap(1, 2), Gap(5, 8.5, refused=True)], "db": [Gap(1, 9)]}
    results = [
        Result("boot", 9.5, ("db", "web"), {}, "fine"),
        Result("roll", 4.25, (), gaps, "one by one"),
        Result("words", 0.25, (), {"db": []}, ""),
    ]
    summary(Console(file=text, width=160), results)
    rows = text.getvalue()
    assert "web 3.50 s" in rows
    assert "14.0" in rows
    assert rows.count("none") == 3
