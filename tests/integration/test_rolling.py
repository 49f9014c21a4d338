"""Changes reach whom they concern, a few at a time, while clients look on."""

import time

import pytest

from demo.client import Fleet
from demo.fleet import DATABASE, NAMES, WEB
from demo.poller import Poller, down_at_once
from tests.integration.harness import Harness, other_pids

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600), pytest.mark.shows(row=51)]


@pytest.mark.shows(law=3)
def test_a_rolling_restart_never_takes_both_down(fleet: Harness) -> None:
    before = fleet.fleet()
    most = 0
    with Poller({vm: fleet.ports[vm] for vm in WEB}, interval=0.02) as poller:
        begun = time.monotonic()
        fleet.pages("rolled", *WEB)
        revision = fleet.push("both web servers")

        def rolled(now: Fleet) -> bool:
            nonlocal most
            most = max(most, now.groups["frontend"].unavailable)
            return now.settled(revision, *NAMES)

        after = fleet.until("both rolled", rolled)
        gaps = poller.gaps(begun)
    assert set(other_pids(before, after)) == set(WEB)
    assert most <= 1
    assert down_at_once(gaps, allowed=1) == []
    assert all(fleet.ask(vm) == f"{vm}: rolled" for vm in WEB)
    outages = {vm: [gap for gap in ones if gap.refused] for vm, ones in gaps.items()}
    assert {vm: len(ones) for vm, ones in outages.items()} == dict.fromkeys(WEB, 1), (
        "one restart each"
    )


def test_one_changed_file_builds_one_layer_and_restarts_one_guest(fleet: Harness) -> None:
    before, layers = fleet.fleet(), fleet.stage.layers()
    fleet.pages("alone", DATABASE)
    after = fleet.settled(fleet.push("one file"))
    assert set(other_pids(before, after)) == {DATABASE}
    assert len(fleet.stage.layers() - layers) == 1
    assert fleet.ask(DATABASE) == f"{DATABASE}: alone"


@pytest.mark.shows(law=12)
def test_a_commit_of_documents_restarts_nothing(fleet: Harness) -> None:
    before = fleet.fleet()
    fleet.repository.write("README.txt", f"nothing that runs {time.monotonic()}\n")
    revision = fleet.push("words")
    after = fleet.until("the words are applied", lambda now: now.applied == revision)
    assert other_pids(before, after) == {}


def test_a_setting_that_needs_no_restart_takes_effect_in_place(fleet: Harness) -> None:
    before = fleet.fleet()
    fleet.edit(WEB[0], lambda spec: spec["health"].update({"minHealthyTime": "2s"}))
    after = fleet.settled(fleet.push("judge longer"))
    assert other_pids(before, after) == {}
    assert after.vms[WEB[0]].running == before.vms[WEB[0]].running


@pytest.mark.shows(law=11)
def test_a_newer_push_overtakes_a_rollout_under_way(fleet: Harness) -> None:
    fleet.pages("overtaken", *WEB)
    first = fleet.push("soon overtaken")
    fleet.until(
        "the first rollout began",
        lambda now: now.observed == first and not all(vm.settled for vm in now.vms.values()),
    )
    fleet.pages("newest", *WEB)
    fleet.settled(fleet.push("overtakes"))
    assert all(fleet.ask(vm) == f"{vm}: newest" for vm in WEB)


def test_rollback_by_a_person_stays_until_it_is_resumed(fleet: Harness) -> None:
    fleet.pages("older", WEB[0])
    older = fleet.settled(fleet.push("older")).vms[WEB[0]].running
    fleet.pages("newer", WEB[0])
    fleet.settled(fleet.push("newer"))
    done = fleet.daemon.cli("rollback", WEB[0])
    assert done.returncode == 0, done.stderr
    fleet.until(
        "back at the older generation",
        lambda now: now.vms[WEB[0]].running == older and now.vms[WEB[0]].healthy,
    )
    assert fleet.ask(WEB[0]) == f"{WEB[0]}: older"
    fleet.repository.write("README.txt", "an unrelated commit\n")
    fleet.seen(fleet.push("unrelated"))
    fleet.daemon.kill()
    fleet.daemon.start()
    fleet.until(
        "still at the older generation",
        lambda now: now.vms[WEB[0]].running == older and now.vms[WEB[0]].healthy,
    )
    assert fleet.daemon.cli("resume", WEB[0]).returncode == 0
    fleet.settled(fleet.repository.head())
    assert fleet.ask(WEB[0]) == f"{WEB[0]}: newer"
