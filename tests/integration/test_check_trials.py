"""A commit that changes only checks, on real guests that serve while a wrong one is tried and refused."""

from collections.abc import Callable
from typing import Any

import pytest

from demo.client import Fleet
from demo.fleet import WEB
from demo.poller import Poller
from tests.integration.harness import Harness, other_pids

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600), pytest.mark.shows(law=14)]
QUICK = {"startupDeadline": "12s", "minHealthyTime": "2s", "period": "1s"}


def judged(path: str) -> Callable[[dict[str, Any]], object]:
    """An edit: all web checks ask for this path from now on."""

    def edit(spec: dict[str, Any]) -> None:
        spec["health"].update(QUICK)
        for check in spec["health"]["checks"]:
            if "http" in check:
                check["http"]["path"] = path

    return edit


def path_of(fleet: Harness, vm: str) -> str:
    found: list[str] = []

    def read(spec: dict[str, Any]) -> None:
        found.extend(c["http"]["path"] for c in spec["health"]["checks"] if "http" in c)

    fleet.edit(vm, read)
    return found[0]


def test_a_typo_in_a_check_is_refused_and_held_while_all_guests_serve_and_a_revert_ends_it(
    fleet: Harness,
) -> None:
    good = path_of(fleet, WEB[0])
    for vm in WEB:
        fleet.edit(vm, lambda spec: spec["health"].update(period="1s"))
    before = fleet.settled(fleet.push("asked more often"))

    def refused(now: Fleet) -> bool:
        return any(now.vms[vm].sync == "blocked" for vm in WEB)

    with Poller({vm: fleet.ports[vm] for vm in WEB}, interval=0.05) as poller:
        for vm in WEB:
            fleet.edit(vm, judged("/no-such-page"))
        wrong = fleet.push("a typo in the check")
        fleet.until("the checks are on trial", lambda now: "on trial beside" in str(now.vms))
        fleet.daemon.kill()
        fleet.daemon.start()
        after = fleet.until("the wrong checks are refused", refused)
        gaps = poller.gaps(0.0)
    refusals = [gap for gaps_of_one in gaps.values() for gap in gaps_of_one if gap.refused]
    assert refusals == [], "every guest answered all the time"
    assert other_pids(before, after) == {}
    assert [now.sync for now in after.vms.values()].count("blocked") == 1, "the rest is held"
    failed = next(vm for vm in WEB if after.vms[vm].sync == "blocked")
    assert after.vms[failed].healthy
    assert "404" in after.vms[failed].why
    assert wrong[:8] in after.vms[failed].why
    assert after.applied != wrong
    done = fleet.daemon.cli("reconcile", "--wait", timeout=120)
    assert done.returncode == 4, done.stdout + done.stderr

    for vm in WEB:
        fleet.edit(vm, judged(good))
    mended = fleet.settled(fleet.push("the typo is mended"))
    assert other_pids(before, mended) == {}
    kinds = fleet.daemon.cli("events").stdout
    assert "checks-condemned" in kinds
    assert "checks-accepted" in kinds
