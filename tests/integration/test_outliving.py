"""Guests and their daemon live and die apart from each other."""

import socket
from pathlib import Path

import pytest

from demo.fleet import DATABASE, NAMES, WEB
from demo.processes import alive, end, processes_under
from tests.integration.harness import Harness, other_pids
from tests.wait import wait_until

FRONT = "-m reconciler front "

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.shows(row=3),
    pytest.mark.shows(row=6),
    pytest.mark.shows(row=16),
]


@pytest.mark.shows(law=9)
def test_guests_outlive_kill_9_of_the_daemon_and_are_adopted(fleet: Harness) -> None:
    before = fleet.fleet()
    fleet.daemon.kill()
    assert all(alive(pid) for pid in before.pids().values())
    assert fleet.ask(DATABASE)
    fleet.daemon.start()
    after = fleet.settled(fleet.good)
    assert other_pids(before, after) == {}
    assert after.pids() == before.pids()


@pytest.mark.shows(law=9)
def test_guests_outlive_an_orderly_stop_too(fleet: Harness) -> None:
    before = fleet.fleet()
    fleet.daemon.stop()
    assert fleet.daemon.process is not None
    assert fleet.daemon.process.returncode == 0, fleet.daemon.log_tail()
    assert all(alive(pid) for pid in before.pids().values())
    fleet.daemon.start()
    assert other_pids(before, fleet.settled(fleet.good)) == {}


def heard(manager: socket.socket) -> list[str]:
    """What a daemon that ended had told its service manager, word for word."""
    said: list[str] = []
    while True:
        try:
            said += manager.recv(4096).decode().splitlines()
        except BlockingIOError:
            return said


@pytest.mark.shows(row=3)
def test_row_03_sigterm_in_mid_rollout_is_told_to_systemd_and_touches_no_guest(
    fleet: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        manager.bind(str(tmp_path / "notify"))
        fleet.daemon.stop()
        with monkeypatch.context() as environment:
            environment.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            fleet.daemon.start()
        fleet.pages("in the middle", *WEB)
        revision = fleet.push("in the middle")
        fleet.until("a guest is on trial", lambda now: now.vms[WEB[0]].state == "starting")
        living = {name: [guest.pid for guest in fleet.guests(name)] for name in NAMES}
        fleet.daemon.stop()
        assert fleet.daemon.process is not None
        assert fleet.daemon.process.returncode == 0, fleet.daemon.log_tail()
        said = heard(manager)
    assert "READY=1" in said
    assert said[-2:] == ["STOPPING=1", "STATUS=stopping; guests are left as they are"]
    assert all(len(pids) == 1 for pids in living.values())
    assert living == {name: [guest.pid for guest in fleet.guests(name)] for name in NAMES}
    fleet.daemon.start()
    fleet.settled(revision)
    assert [guest.pid for guest in fleet.guests(WEB[0])] == living[WEB[0]], "its trial goes on"


def test_helpers_of_a_killed_daemon_end_by_themselves(fleet: Harness) -> None:
    fleet.daemon.kill()
    guests = {fleet.guests(name)[0].pid for name in NAMES}

    def helpers() -> list[str]:
        """A front is none: it outlives daemons as guests do, and ends a while after its last VM."""
        left = [one for one in processes_under(fleet.stage.root) if one.pid not in guests]
        return [one.command for one in left if FRONT not in one.command]

    wait_until(lambda: not helpers(), 20, "only guests are left of a killed daemon")
    fleet.daemon.start()
    fleet.settled(fleet.good)


def test_a_guest_that_died_while_the_daemon_was_away_is_started_again(fleet: Harness) -> None:
    before = fleet.fleet()
    fleet.daemon.kill()
    victim = before.vms[WEB[0]].pid
    assert victim is not None
    assert end([victim], grace=0.1) == []
    fleet.daemon.start()
    after = fleet.until(
        "the dead guest has a successor",
        lambda now: now.vms[WEB[0]].settled and now.vms[WEB[0]].pid != victim,
    )
    assert set(other_pids(before, after)) == {WEB[0]}
    assert after.vms[WEB[0]].running == before.vms[WEB[0]].running


def test_a_killed_guest_is_started_again_and_others_do_not_notice(fleet: Harness) -> None:
    before = fleet.fleet()
    victim = before.vms[WEB[1]].pid
    assert victim is not None
    end([victim], grace=0)
    after = fleet.until(
        "the killed guest has a successor",
        lambda now: now.vms[WEB[1]].settled and now.vms[WEB[1]].pid != victim,
    )
    assert set(other_pids(before, after)) == {WEB[1]}
    assert after.vms[WEB[1]].running == before.vms[WEB[1]].running
    assert fleet.verdicts(WEB[1])[after.vms[WEB[1]].running or 0] == "committed"


@pytest.mark.shows(law=9)
def test_losing_the_ledger_means_adopting_and_not_acting(fleet: Harness) -> None:
    before = fleet.fleet()
    fleet.daemon.stop()
    for path in fleet.stage.state.glob("ledger.db*"):
        path.unlink()
    fleet.daemon.start()
    after = fleet.until(
        "adopted without a ledger",
        lambda now: (
            set(now.vms) == set(NAMES)
            and all(vm.healthy and vm.sync == "synced" for vm in now.vms.values())
        ),
    )
    assert after.pids() == before.pids()
