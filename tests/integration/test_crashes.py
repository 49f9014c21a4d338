"""The daemon killed at random moments of a rollout: one end state, whatever the moment."""

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from demo.fleet import DATABASE, WEB
from demo.processes import guests_under
from tests.integration.harness import Harness, other_pids

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900), pytest.mark.shows(row=1)]

KILLS = int(os.environ.get("RECONCILER_TEST_KILLS", "20"))
SEED = int(os.environ.get("RECONCILER_TEST_SEED") or random.SystemRandom().randrange(10**6))
LONGEST_ROLLOUT = 9.0
"""Seconds: about what two guests take, one after the other, where they are emulated."""


@contextmanager
def never_two_guests(fleet: Harness) -> Iterator[None]:
    """Law 1, looked at all the while: a VM has at most one process."""
    stop, seen = threading.Event(), set[tuple[str, int]]()

    def watch() -> None:
        while not stop.wait(0.15):
            counts = Counter(guest.vm for guest in guests_under(fleet.stage.root))
            seen.update((vm, count) for vm, count in counts.items() if count > 1)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert seen == set()


@pytest.mark.shows(law=13)
def test_a_daemon_killed_at_random_moments_of_a_rollout_reaches_one_end(fleet: Harness) -> None:
    print(f"seed {SEED}: RECONCILER_TEST_SEED={SEED} repeats it")  # noqa: T201 - pytest shows it
    chance = random.Random(SEED)  # noqa: S311 - to be repeated, not to be secret
    start = fleet.fleet()
    with never_two_guests(fleet):
        for kill in range(KILLS):
            moment = chance.uniform(0, LONGEST_ROLLOUT)
            where = f"seed {SEED}, kill {kill}, {moment:.2f} s after the push"
            fleet.pages(f"round {kill}", *WEB)
            revision = fleet.push(f"round {kill}")
            assert fleet.daemon.exit_code(moment) is None, where
            fleet.daemon.kill()
            fleet.daemon.start()
            after = fleet.settled(revision)
            assert set(other_pids(start, after)) <= set(WEB), where
            for vm in WEB:
                assert fleet.ask(vm) == f"{vm}: round {kill}", where
                assert len(fleet.guests(vm)) == 1, where
                assert after.vms[vm].blocked == start.vms[vm].blocked, where
    assert fleet.fleet().vms[DATABASE].instance == start.vms[DATABASE].instance
