"""Bad generations undo themselves, and do not come back by themselves."""

import time

import pytest

from demo.client import Fleet
from demo.fleet import NAMES, WEB, health
from demo.poller import Poller, down_at_once
from tests.integration.harness import Harness, other_pids

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.shows(row=7),
    pytest.mark.shows(row=43),
]

POWER_OFF = "#!/bin/sh\nusleep 200000\npoweroff -f\n"
PANIC = "#!/bin/sh\necho c >/proc/sysrq-trigger\n"
REPORT = "#!/bin/sh\necho '<3>reconciler-failed: schema 7 is unknown' >/dev/kmsg\npoweroff -f\n"
STARTUP_DEADLINE = 20.0


def break_web(fleet: Harness, script: str, *vms: str) -> str:
    """Push a generation that ends itself as soon as it runs."""
    for vm in vms:
        fleet.repository.write(f"{vm}/etc/rc.local", script, mode=0o755)
    return fleet.push("broken")


def condemned(fleet: Harness, revision: str, deadline: float = 150.0) -> tuple[str, Fleet]:
    """Wait for the rollback of exactly one web server; its name, and the fleet then."""
    after = fleet.until(
        "one web server tried the bad generation and went back",
        lambda now: now.observed == revision and len(now.rolled_back()) == 1,
        deadline,
    )
    return after.rolled_back()[0], after


@pytest.mark.shows(law=5)
def test_a_guest_that_fails_its_health_check_is_rolled_back_and_the_group_held(
    fleet: Harness,
) -> None:
    quick = {"startupDeadline": f"{STARTUP_DEADLINE:.0f}s"}
    for vm in WEB:
        fleet.edit(vm, lambda spec: spec["health"].update(quick))
    before = fleet.settled(fleet.push("judge sooner"))
    served = {vm: fleet.ask(vm) for vm in WEB}
    with Poller({vm: fleet.ports[vm] for vm in WEB}, interval=0.05) as poller:
        begun = time.monotonic()
        for vm in WEB:
            fleet.repository.remove(health(vm))
        tried, after = condemned(fleet, fleet.push("no health page"))
        gaps = poller.gaps(begun)
    assert set(other_pids(before, after)) == {tried}
    assert {vm: fleet.ask(vm) for vm in WEB} == served
    assert down_at_once(gaps, allowed=1) == []
    assert after.groups["frontend"].state == "held"
    assert after.groups["frontend"].hold
    assert fleet.verdicts(tried)[max(fleet.verdicts(tried))] == "condemned"
    assert fleet.daemon.cli("status", "-o", "json").returncode == 6


@pytest.mark.shows(promise=5)
def test_a_kernel_panic_on_trial_is_condemned_as_a_panic(fleet: Harness) -> None:
    tried, after = condemned(fleet, break_web(fleet, PANIC, *WEB))
    newest = fleet.history(tried)["generations"][0]
    assert newest["verdict"] == "condemned"
    assert newest["evidence"]["kind"] == "panicked"
    assert any("panic" in line.lower() for line in newest["evidence"]["console"])
    assert after.groups["frontend"].state == "held"


@pytest.mark.shows(promise=6)
def test_a_guest_that_reports_its_failure_is_condemned_for_that_in_its_own_words(
    fleet: Harness,
) -> None:
    tried, _ = condemned(fleet, break_web(fleet, REPORT, *WEB))
    newest = fleet.history(tried)["generations"][0]
    assert newest["evidence"]["kind"] == "reported"
    assert newest["reason"] == "the guest ended: it reported failure: schema 7 is unknown"


def test_a_start_script_that_fails_is_condemned_for_that_with_what_it_printed(
    fleet: Harness,
) -> None:
    tried, _ = condemned(fleet, break_web(fleet, "#!/bin/sh\nno-such-program\n", *WEB))
    newest = fleet.history(tried)["generations"][0]
    assert newest["evidence"]["kind"] == "ended"
    assert newest["reason"] == "its application ended: rc.local status 127"
    assert any("no-such-program" in line for line in newest["evidence"]["console"])


@pytest.mark.shows(law=5)
def test_a_blocked_digest_stays_blocked_until_somebody_retries_it(fleet: Harness) -> None:
    tried, after = condemned(fleet, break_web(fleet, POWER_OFF, *WEB))
    good = after.vms[tried].instance

    def still_blocked(revision: str) -> None:
        now = fleet.until(
            "the digest is known to be blocked",
            lambda now: now.observed == revision and tried in now.rolled_back(),
            30,
        )
        assert now.vms[tried].instance == good

    fleet.repository.write("README.txt", "an unrelated commit\n")
    still_blocked(fleet.push("unrelated"))
    fleet.daemon.kill()
    fleet.daemon.start()
    still_blocked(fleet.repository.head())
    fleet.daemon.stop()
    fleet.daemon.start()
    fleet.repository.write("README.txt", "another unrelated commit\n")
    still_blocked(fleet.push("unrelated too"))
    assert fleet.fleet().groups["frontend"].state == "held"

    number = max(fleet.verdicts(tried))
    done = fleet.daemon.cli("retry", tried)
    assert done.returncode == 0, done.stderr
    fleet.until(
        "it was tried again, and went back again",
        lambda now: now.vms[tried].instance != good and now.vms[tried].rolled_back,
    )
    last = fleet.verdicts(tried)
    assert last[max(last)] == "condemned"
    assert max(last) >= number
    assert all(fleet.ask(vm) for vm in WEB)


@pytest.mark.shows(law=11)
def test_a_fix_overtakes_what_failed_without_anybody_asking(fleet: Harness) -> None:
    script = fleet.repository.read(f"{WEB[0]}/etc/rc.local")
    condemned(fleet, break_web(fleet, POWER_OFF, *WEB))
    for vm in WEB:
        fleet.repository.write(f"{vm}/etc/rc.local", script, mode=0o755)
    fleet.pages("mended", *WEB)
    after = fleet.settled(fleet.push("mended"))
    assert all(fleet.ask(vm) == f"{vm}: mended" for vm in WEB)
    assert after.groups["frontend"].state == "idle"


def test_reconcile_says_by_its_exit_code_that_it_rolled_back(fleet: Harness) -> None:
    fleet.repository.write(f"{WEB[0]}/etc/rc.local", POWER_OFF, mode=0o755)
    fleet.push("broken")
    done = fleet.daemon.cli("reconcile", "--wait", "-o", "json", timeout=200)
    assert done.returncode == 4, done.stdout + done.stderr
    assert set(fleet.fleet().vms) == set(NAMES)


def tells_its_instance(fleet: Harness, id_told: str) -> None:
    """A web server whose health check wants to hear who answers, and what it says then."""
    fleet.edit(
        WEB[0],
        lambda spec: spec["health"]["checks"].append(
            {"http": {"port": fleet.ports[WEB[0]], "path": "/instance", "expectInstance": True}}
        ),
    )
    script = f"#!/bin/sh\n{id_told} >/www/instance\nexec httpd -p 80 -h /www\n"
    fleet.repository.write(f"{WEB[0]}/etc/rc.local", script, mode=0o755)


def test_a_guest_that_tells_its_own_instance_is_good_and_one_that_tells_an_older_is_not(
    fleet: Harness,
) -> None:
    tells_its_instance(fleet, "cat /run/reconciler/instance")
    before = fleet.settled(fleet.push("web-a tells who it is"))
    older = before.vms[WEB[0]].instance
    assert fleet.ask(WEB[0], "/instance") == older
    fleet.edit(WEB[0], lambda spec: spec["health"].update(startupDeadline="20s"))
    tells_its_instance(fleet, f"echo {older}")
    tried, _ = condemned(fleet, fleet.push("web-a says what it said before"))
    evidence = fleet.history(tried)["generations"][0]["evidence"]
    assert evidence["kind"] == "startup-timeout"
    assert f"from {older}, not from {tried}-g" in evidence["probe"]
    assert "another guest answers" in evidence["probe"]
