"""Handover on real guests: ports move from guest to guest under a client that never stops asking."""

import os
import signal
import time

import pytest

from demo.fleet import WEB, health
from demo.poller import Answer, Poller
from tests.integration.harness import Harness, other_pids
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

VM = WEB[0]
EVERY = 0.02
"""Seconds between requests: as much as one emulated guest answers while another boots beside it."""
PATIENCE = 10.0
"""Seconds: two emulated guests, one of them booting, now and then drop what comes at once."""
STRATEGY = {"strategy": "handover"}


@pytest.fixture
def web(fleet: Harness) -> Harness:
    fleet.edit(VM, lambda spec: spec["update"].update(STRATEGY))
    before = fleet.fleet()
    after = fleet.settled(fleet.push("hand over from now on"))
    assert other_pids(before, after) == {}, "the strategy is changed in place"
    with Poller({VM: fleet.ports[VM]}, interval=EVERY, timeout=PATIENCE) as poller:
        begun = time.monotonic()
        fleet.pages("behind the front", VM)
        fleet.settled(fleet.push("the first handover takes the port from the guest"))
        gaps = [gap for gap in poller.gaps(begun)[VM] if gap.refused]
    assert len(gaps) <= 1, "the port is away once, while it moves"
    return fleet


def lost(poller: Poller, since: float) -> list[Answer]:
    """Requests that failed, whatever they failed of: refused, reset, cut short."""
    return [one for one in poller.answers(VM, since) if not one.ok]


def front_of(web: Harness) -> int:
    """The pid of the process that holds the port; 0 while one that begins has not written it yet."""
    return int((web.stage.state / "front" / "lock").read_text() or 0)


@pytest.mark.shows(comparison=20)
def test_pushes_and_a_restart_are_handed_over_and_no_request_gets_lost(web: Harness) -> None:
    before = after = web.fleet()
    with Poller({VM: web.ports[VM]}, interval=EVERY, timeout=PATIENCE) as poller:
        begun = time.monotonic()
        for text in ("first", "second"):
            web.pages(text, VM)
            after = web.settled(web.push(text))
            web.until("one guest is left", lambda _: len(web.guests(VM)) == 1)
            assert web.ask(VM) == f"{VM}: {text}"
        assert web.daemon.cli("restart", VM).returncode == 0
        again = web.until("another one serves", lambda now: other_pids(after, now))
        web.until("one guest is left", lambda _: len(web.guests(VM)) == 1)
        asked = poller.answers(VM, begun)
        failed = lost(poller, begun)
    assert failed == []
    assert len(asked) > 100
    texts = [answer.text for answer in asked if answer.ok]
    assert texts.index(f"{VM}: first") < texts.index(f"{VM}: second")
    assert set(other_pids(before, after)) == set(other_pids(after, again)) == {VM}
    assert again.vms[VM].running == after.vms[VM].running, "a restart is of the same generation"
    console = web.daemon.cli("logs", VM, "--candidate").stdout
    assert "start of instance" in console, "the former guest's is kept"
    assert web.verdicts(VM)[max(web.verdicts(VM))] == "committed"


def test_a_bad_push_is_condemned_beside_the_guest_that_serves_on(web: Harness) -> None:
    before, said = web.fleet(), web.ask(VM)
    web.edit(VM, lambda spec: spec["health"].update({"startupDeadline": "20s"}))
    with Poller({VM: web.ports[VM]}, interval=EVERY, timeout=PATIENCE) as poller:
        begun = time.monotonic()
        web.repository.remove(health(VM))
        web.pages("bad", VM)
        web.push("no health page")
        on_trial = web.until(
            "a candidate of the new generation is on trial",
            lambda now: len(web.guests(VM)) == 2 and now.vms[VM].desired != before.vms[VM].desired,
        )
        assert on_trial.vms[VM].instance == before.vms[VM].instance
        told = web.daemon.cli("why", VM).stdout
        web.until("it is condemned", lambda now: now.vms[VM].blocked > before.vms[VM].blocked)
        after = web.until("it is gone", lambda _: len(web.guests(VM)) == 1)
        failed = lost(poller, begun)
        answers = {answer.text for answer in poller.answers(VM, begun)}
    assert f"{on_trial.vms[VM].desired} on trial beside it" in told
    assert failed == []
    assert answers == {said}
    assert other_pids(before, after) == {}
    assert web.verdicts(VM)[max(web.verdicts(VM))] == "condemned"


def test_the_daemon_is_killed_while_both_guests_live_and_the_next_hands_over(web: Harness) -> None:
    with Poller({VM: web.ports[VM]}, interval=EVERY, timeout=PATIENCE) as poller:
        begun = time.monotonic()
        for moment in (0.0, 1.5, 3.0):
            web.pages(f"after {moment}", VM)
            revision = web.push(f"killed {moment} s after the second guest came")
            web.until("two guests live", lambda _: len(web.guests(VM)) == 2)
            assert web.daemon.exit_code(moment) is None
            web.daemon.kill()
            web.daemon.start()
            web.settled(revision)
            web.until("one guest is left", lambda _: len(web.guests(VM)) == 1)
            assert web.ask(VM) == f"{VM}: after {moment}"
        failed = lost(poller, begun)
    assert failed == []


def test_a_front_that_is_killed_comes_back_and_no_guest_is_touched(web: Harness) -> None:
    before, front = web.fleet(), front_of(web)
    with Poller({VM: web.ports[VM]}, interval=EVERY, timeout=PATIENCE) as poller:
        begun = time.monotonic()
        os.kill(front, signal.SIGKILL)
        web.until("another holds the port", lambda _: front_of(web) not in (0, front))
        back = time.monotonic()
        wait_until(lambda: any(a.ok for a in poller.answers(VM, back)), 10, "it is served again")
        gaps = poller.gaps(begun)[VM]
    assert len(gaps) <= 1, "it is away once, until the next one listens"
    assert other_pids(before, web.fleet()) == {}
    assert web.daemon.cli("why", VM).stdout.strip() != ""
