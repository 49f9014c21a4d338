"""The seven steps of the demo, in order: each pushes, waits, and checks its claims."""

from __future__ import annotations

import time

from demo.client import Fleet
from demo.fleet import DATABASE, NAMES, WEB, health, manifest_of, page
from demo.poller import down_at_once
from demo.processes import alive
from demo.show import Show, Step, require

FIRST_TIMEOUT = 900.0
UNHARMED_FOR = 2.0


def new_page(show: Show, vm: str, line: str) -> None:
    show.repository.write(page(vm), f"{line} from {vm}\n")


def boot(show: Show) -> str:
    revision = show.repository.head()
    show.until(
        "three guests are built, booted and healthy",
        lambda fleet: fleet.settled(revision, *NAMES),
        FIRST_TIMEOUT,
    )
    return f"{DATABASE} first, the others after it"


def change_one(show: Show) -> str:
    before, layers = show.daemon.fleet(), show.stage.layers()
    new_page(show, DATABASE, "one file changed")
    revision = show.push(f"{DATABASE}: one file")
    after = show.until(
        f"{DATABASE} runs the new file", lambda fleet: fleet.settled(revision, *NAMES)
    )
    built = show.stage.layers() - layers
    require(len(built) == 1, f"expected one built layer, got {sorted(built)}")
    untouched(before, after, *WEB)
    return "one layer built, others untouched"


def roll_group(show: Show) -> str:
    before, begun = show.daemon.fleet(), time.monotonic()
    for vm in WEB:
        new_page(show, vm, "rolled out")
    revision = show.push("frontend: both web servers")
    most = 0

    def rolled(fleet: Fleet) -> bool:
        nonlocal most
        most = max(most, *(group.unavailable for group in fleet.groups.values()))
        return fleet.settled(revision, *NAMES)

    after = show.until("the group rolls, one after the other", rolled)
    untouched(before, after, DATABASE)
    gaps = show.poller.gaps(begun)
    both = down_at_once({vm: gaps[vm] for vm in WEB}, allowed=1)
    require(not both, f"both web servers were down at once: {both}")
    allowed = max(group.max_unavailable for group in after.groups.values())
    require(most <= allowed, f"{most} members were unavailable; {allowed} may be")
    return f"at most {most} of {len(WEB)} unavailable"


def roll_back(show: Show) -> str:
    before = show.daemon.fleet()
    for vm in WEB:
        show.repository.remove(health(vm))
        new_page(show, vm, "broken")
    revision = show.push("frontend: remove the health page")
    after = show.until(
        "the health check fails, and the last good generation comes back",
        lambda fleet: fleet.observed == revision and len(fleet.rolled_back()) == 1,
    )
    tried = after.rolled_back()[0]
    others = [vm for vm in NAMES if vm != tried]
    untouched(before, after, *others)
    require(after.vms[tried].blocked, f"{tried}: the failed digest is not blocked")
    held = after.groups[after.vms[tried].group]
    require(held.state == "held", f"the group is {held.state}; expected held")
    show.screen.say(f"{tried}: {after.vms[tried].why}")
    show.screen.say(f"group {held.name} is held: {held.hold}")
    return f"{tried} went back; digest blocked, group held"


def fix_forward(show: Show) -> str:
    for vm in WEB:
        show.repository.write(health(vm), "ok\n")
        new_page(show, vm, "fixed")
    revision = show.push("frontend: the health page is back")
    show.until("the fix overtakes", lambda fleet: fleet.settled(revision, *NAMES))
    return "the new digest lifts the hold automatically"


def kill_daemon(show: Show) -> str:
    before = show.daemon.fleet()
    for vm in WEB:
        new_page(show, vm, "despite kill -9")
    revision = show.push("frontend: an interrupted rollout")
    show.until(
        "the rollout has begun",
        lambda fleet: any(replaced(before, fleet, vm) for vm in WEB),
    )
    pids = show.daemon.fleet().pids()
    show.daemon.kill()
    show.screen.say(f"kill -9 of the daemon; guests: {pids}")
    until = time.monotonic() + UNHARMED_FOR
    while time.monotonic() < until:
        dead = [name for name, pid in pids.items() if not alive(pid)]
        require(not dead, f"these guests died with the daemon: {dead}")
        time.sleep(0.1)
    show.screen.say(f"{UNHARMED_FOR:.0f} s later all guests still run; the daemon starts again")
    show.daemon.start()
    after = show.until("it resumes the rollout", lambda fleet: fleet.settled(revision, *NAMES))
    untouched(before, after, DATABASE)
    return f"{len(pids)} guests outlived it and were adopted"


def replaced(before: Fleet, after: Fleet, vm: str) -> bool:
    """Whether this VM has another guest than before."""
    now = after.vms[vm]
    return now.pid is not None and now.instance != before.vms[vm].instance


def remove_one(show: Show) -> str:
    gone = WEB[-1]
    before = show.daemon.fleet()
    show.poller.drop(gone)
    show.repository.remove(manifest_of(show.repository, gone))
    revision = show.push(f"{gone} is not needed any more")
    rest = [vm for vm in NAMES if vm != gone]
    after = show.until(f"{gone} is stopped", lambda fleet: fleet.settled(revision, *rest))
    pid = before.vms[gone].pid
    require(pid is None or not alive(pid), f"{gone} left the status and still runs")
    untouched(before, after, *rest)
    return "stopped; a volume would have been kept"


def untouched(before: Fleet, after: Fleet, *names: str) -> None:
    """Raises DemoFailed unless the very same guests still run."""
    for name in names:
        old, new = before.vms[name], after.vms[name]
        require(
            (old.pid, old.instance) == (new.pid, new.instance),
            f"{name} was to be left alone, and runs as pid {new.pid} instead of {old.pid}",
        )


STEPS = (
    Step("three guests from an empty host", boot),
    Step("a push that changes one file of one VM", change_one),
    Step("a push that changes a group: rolling restart", roll_group, close=WEB),
    Step("a push that fails its health check: rollback", roll_back),
    Step("a fix overtakes it", fix_forward),
    Step("kill -9 of the daemon in the middle of a rollout", kill_daemon),
    Step("a manifest is removed", remove_one),
)
