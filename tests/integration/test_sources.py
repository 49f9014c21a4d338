"""What a repository may do to a fleet, and what it never does."""

import re

import pytest

from demo.fleet import DATABASE, NAMES, WEB, manifest_of
from demo.processes import alive
from tests.integration.harness import Harness, other_pids

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.shows(row=22),
    pytest.mark.shows(row=25),
    pytest.mark.shows(row=27),
]


@pytest.mark.shows(law=7)
def test_an_invalid_manifest_is_refused_with_its_place_and_touches_nothing(fleet: Harness) -> None:
    before = fleet.fleet()
    path = manifest_of(fleet.repository, WEB[0])
    fleet.edit(WEB[0], lambda spec: spec.update({"memory": "lots", "vcpus": 2}))
    fleet.pages("never seen", DATABASE)
    revision = fleet.push("invalid")
    after = fleet.until("refused", lambda now: now.rejected == revision)
    assert any(re.match(rf"{re.escape(path)}:\d+:\d+: ", problem) for problem in after.problems)
    assert any("vcpu" in problem for problem in after.problems)
    assert len(after.problems) >= 2, "all errors at once"
    assert other_pids(before, after) == {}
    assert "never seen" not in fleet.ask(DATABASE)
    fleet.daemon.kill()
    fleet.daemon.start()
    again = fleet.until("still refused", lambda now: now.rejected == revision)
    assert other_pids(before, again) == {}


@pytest.mark.shows(law=7, row=27)
def test_an_emptied_repository_stops_nothing(fleet: Harness) -> None:
    before = fleet.fleet()
    fleet.repository.clear()
    fleet.repository.write("README.txt", "all gone\n")
    revision = fleet.push("emptied")
    reported = fleet.until(
        "the daemon noticed",
        lambda now: (
            revision in (now.rejected, now.observed)
            or any(one["error"] for one in now.raw["sources"])
        ),
    )
    assert other_pids(before, reported) == {}
    fleet.daemon.kill()
    fleet.daemon.start()
    after = fleet.until(
        "all guests are known again",
        lambda now: all(name in now.vms and now.vms[name].healthy for name in NAMES),
    )
    assert after.pids() == before.pids()


def test_a_forced_push_is_refused_until_a_person_accepts_it(fleet: Harness) -> None:
    fleet.pages("before", DATABASE)
    before = fleet.settled(fleet.push("before"))
    fleet.repository.git("reset", "-q", "--hard", "HEAD~1")
    fleet.pages("forced", DATABASE)
    fleet.repository.git("commit", "-q", "-a", "-m", "forced")
    fleet.repository.git("push", "-q", "--force", "origin", "main")
    forced = fleet.repository.head()
    after = fleet.until("refused", lambda now: now.rejected == forced)
    assert f"reconciler accept-rewrite {forced[:8]}" in after.problems[0]
    fleet.daemon.kill()
    fleet.daemon.start()
    again = fleet.until("still refused", lambda now: now.rejected == forced)
    assert again.pids() == before.pids()
    assert "forced" not in fleet.ask(DATABASE)
    accepted = fleet.daemon.cli("accept-rewrite", forced[:12])
    assert accepted.returncode == 0, accepted.stderr
    fleet.settled(forced)
    assert "forced" in fleet.ask(DATABASE)
    assert fleet.daemon.cli("accept-rewrite", forced[:12]).returncode == 1


@pytest.mark.shows(law=7)
def test_a_repository_that_vanished_stops_nothing(fleet: Harness) -> None:
    before = fleet.fleet()
    bare = fleet.repository.bare
    hidden = bare.with_name("hidden.git")
    bare.rename(hidden)
    try:
        reported = fleet.until(
            "the daemon noticed", lambda now: any(one["error"] for one in now.raw["sources"]), 90
        )
        assert other_pids(before, reported) == {}
        fleet.daemon.kill()
        fleet.daemon.start()
        after = fleet.until(
            "the last good state is in force",
            lambda now: all(name in now.vms and now.vms[name].healthy for name in NAMES),
        )
        assert after.pids() == before.pids()
    finally:
        hidden.rename(bare)
    fleet.pages("found again", WEB[0])
    fleet.settled(fleet.push("found again"))


def test_a_removed_manifest_ends_its_guest_and_no_other(fleet: Harness) -> None:
    gone = WEB[1]
    before = fleet.fleet()
    pid = before.vms[gone].pid
    assert pid is not None
    fleet.drop(gone)
    after = fleet.settled(fleet.push("one less"), DATABASE, WEB[0])
    assert not alive(pid)
    assert fleet.guests(gone) == []
    assert other_pids(before, after) == {}


def test_more_than_may_be_removed_at_once_is_not_removed(fleet: Harness) -> None:
    before = fleet.fleet()
    fleet.drop(*WEB)
    after = fleet.seen(fleet.push("two less"))
    assert after.pids() == before.pids()
    assert all(len(fleet.guests(name)) == 1 for name in NAMES)
