"""One life of a host, drawn from a seed: the same seed is the same life, to the last call."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from reconciler.errors import LedgerUnwritable, RequestRefused
from reconciler.model.desired import DesiredState, GroupSpec
from reconciler.model.machine import ANY_ADDRESS, HostPort, Machine
from reconciler.model.names import GroupName, VMName
from reconciler.model.policy import Policy
from reconciler.model.request import (
    Abort,
    Promote,
    Request,
    RestartVM,
    Resume,
    Retry,
    RollbackTo,
    Suspend,
)
from tests.fakes import Crash
from tests.fakes.faults import Fault
from tests.simulation.checking import Checking
from tests.simulation.fates import BAD_CONTENT, NAMES, composed, fate_of
from tests.simulation.images import SEALED, all_judged, block_damaged
from tests.simulation.kept import with_disk
from tests.simulation.naming import KEEPER, OTHER_NAMES, Naming
from tests.simulation.oracles import Broken, Oracles
from tests.simulation.tagging import Tagging
from tests.simulation.wellness import (
    READY_ONLY,
    application_ends,
    breathless,
    dependency_away,
    fate_in,
)
from tests.world import World, state, vm

GROUPS = {"web-a": "front", "web-b": "front", "web-c": "front"}
ON_A_BRIDGE = frozenset((KEEPER,))
HANDED_OVER = frozenset(("web-c", "db"))
FAULTS: tuple[Fault, ...] = ("error", "delay", "hang", "crash-before", "crash-after")
HOST_TROUBLE = 0.05
"""The share of starts that fail for what the host lacks in that moment."""
AT_ONCE: tuple[Fault, ...] = ("error", "crash-before", "crash-after")
"""A write is waited for by the pass itself: it fails, or it is done."""

POLICY = Policy(
    "/state", prune=True, max_delete=2, memory_reserve_mib=0, disk_reserve_mib=0,
    max_rollbacks_per_hour=1000, bridges=("br0",),
)  # fmt: skip


@dataclass
class Tale:
    """What a life counted up to."""

    seed: int
    steps: int = 0
    rollouts: int = 0
    faults: int = 0
    crashes: int = 0
    rollbacks: int = 0
    reboots: int = 0


class Story:
    def __init__(self, seed: int, *, faults: float = 0.02) -> None:
        self.random = random.Random(seed)  # noqa: S311  # a story, not a secret
        # In each third life images that nothing names are kept for a while.
        self.world = World(replace(POLICY, store_max_mib=6 if seed % 3 == 1 else 0))
        self.world.faults.chooser = self._choose
        self.world.hypervisor.behaviour = self._fate
        hurried = self.random.random() < 0.5
        self.world.images.composed = composed
        self.world.images.slow = lambda key: 0.0 if hurried else int(key[:2], 16) / 32
        self.tagging = Tagging(self.world, self.random)
        self.oracles = Oracles(self.world, self.tagging)
        self.tale = Tale(seed)
        self.rate = faults
        self.contents = dict.fromkeys(NAMES, "v1")
        self.ports = {name: 8001 + number for number, name in enumerate(NAMES)}
        self.moved = False
        self.naming = Naming()
        self.checking = Checking()
        # In each fourth life what its one VM with a volume keeps is on a disk that firmware boots.
        self.on_a_disk = seed % 4 == 2
        self.commits = 0

    async def live(self, chapters: int = 12) -> Tale:
        """Raises Broken with the seed where a law was broken."""
        try:
            await self._commit()
            for _ in range(chapters):
                await self.random.choices(
                    (
                        self._commit,
                        self._kill,
                        self._ask,
                        self._crash,
                        self._idle,
                        self._reboot,
                        self._step_clock,
                        self._malformed,
                        self._empty,
                        self._shortage,
                        self._lose,
                        lambda: breathless(self.world, self.random, self._step),
                        self._bridge,
                        self._front_dies,
                        self._front_hangs,
                        self._ask_anew,
                        self._ports_taken,
                        lambda: dependency_away(self.world, self.random, self._step),
                        lambda: application_ends(self.world, self.random),
                        lambda: self.tagging.chapter(self._survive),
                        lambda: block_damaged(self.world, self.random, self._step),
                    ),
                    weights=(10, 4, 5, 2, 5, 1, 1, 1, 1, 1, 1, 1, 2, 2, 1, 4, 2, 2, 2, 8, 2),
                )[0]()
                for _ in range(self.random.randrange(2, 12)):
                    await self._step()
            await self._end()
        except AssertionError as error:
            raise Broken(f"seed {self.tale.seed}: {error}") from error
        return self._counted()

    def _fate(self, machine: Machine) -> str:
        """Of a second guest of what was good before, too, not each one comes up."""
        fate = fate_in(machine.vm, fate_of(machine))
        beside = self.world.hypervisor.all_living(machine.vm)
        anew = any(other.machine.generation >= machine.generation for other in beside)
        if self.rate and self.random.random() < HOST_TROUBLE:
            return "lacks"  # somebody took a port since the preflight, or memory, or a descriptor
        if fate == "good" and anew and self.random.random() < 0.2:
            return fate_in(machine.vm, self.random.choice(BAD_CONTENT))
        return fate

    def _choose(self, _number: int, call: str) -> Fault | None:
        if self.random.random() >= self.rate:
            return None
        self.tale.faults += 1
        return self.random.choice(AT_ONCE if call == "write" else FAULTS)

    async def _step(self) -> None:
        self.tale.steps += 1
        await self._survive(self.world.step)
        self.oracles.look()
        self.world.clock.advance(self.random.choice((0.1, 0.5, 1.0, 4.0)))

    async def _survive(self, work: Callable[[], Awaitable[object]]) -> None:
        """A crash anywhere is followed by a fresh daemon on what outlives it."""
        with contextlib.suppress(Crash, LedgerUnwritable):
            await work()
        while self.world.faults.crashed:
            self.tale.crashes += 1
            blocked = self._blocked()
            self.world.faults.crashed = False
            try:
                await self.world.restart()
            except (Crash, LedgerUnwritable):
                self.world.faults.crashed = True  # it did not come up: systemd tries again
            self.oracles.forgotten_blocks(blocked)

    async def _commit(self) -> None:
        """A push that changes some VMs, well or badly, or adds or drops one."""
        self.commits += 1
        self.tale.rollouts += 1
        if self.checking.change(self.random, NAMES) and self.random.random() < 0.7:
            await self._survive(lambda: self.world.push(self._state()))
            return
        for name in self.random.sample(NAMES, self.random.randrange(1, 4)):
            kind = self.random.choices(("good", "bad", "old"), weights=(6, 3, 1))[0]
            match kind:
                case "good":
                    self.contents[name] = f"v{self.commits}"
                case "bad":
                    self.contents[name] = f"{self.random.choice(BAD_CONTENT)}{self.commits}"
                case _:
                    self.contents[name] = "v1"
        if self.random.random() < 0.3:
            self._move_ports()
        self.naming.change(self.random)
        desired = self._state(without=KEEPER if self.random.random() < 0.1 else "")
        await self._survive(lambda: self.world.push(desired))

    def _move_ports(self) -> None:
        """A VM gives its port to another and takes a new one, or the two swap, which none may begin."""
        self.moved = True
        predecessor, taker = self.random.sample(NAMES, 2)
        swapped = self.random.random() < 0.3
        free = min(set(range(8001, 8020)) - set(self.ports.values()))
        self.ports[predecessor], self.ports[taker] = (
            self.ports[taker] if swapped else free,
            self.ports[predecessor],
        )

    async def _leave_no_circle(self) -> None:
        """VMs that wait for each other's ports are given others."""
        self.ports = {name: 9001 + number for number, name in enumerate(NAMES)}
        self.commits += 1
        await self._survive(lambda: self.world.push(self._state()))

    def _state(self, without: str = "") -> DesiredState:
        after = {"web-a": ("db",), "web-b": ("db",)}
        vms = [
            vm(
                self.naming.called if name == KEEPER else name,
                content,
                group=GROUPS.get(name, ""),
                after=after.get(name, ()),
                min_healthy=1.0,
                port=self.ports[name],
                snapshot=name == KEEPER,
                moved_from=self.naming.formerly if name == KEEPER else "",
                handover=name in HANDED_OVER,
                short_of_memory="restart" if name == "db" else "wait",
                bridge="br0" if name in ON_A_BRIDGE else "",
                checked=name != KEEPER,
                purpose="readiness" if name in READY_ONLY else "liveness",
                verity=name in SEALED,
            )
            for name, content in self.contents.items()
            if name != without
        ]
        group = GroupSpec(GroupName("front"), max_unavailable=self.random.choice((1, 1, 2)))
        if self.random.random() < 0.5:
            group = replace(
                group, canary=self.random.choice(((), (VMName("web-b"),))), canary_soak=5.0,
                on_failure=self.random.choice(("halt", "continue", "rollbackGroup")),
                progress_deadline=self.random.choice((None, 60.0)),
            )  # fmt: skip
        if self.on_a_disk:
            vms = [with_disk(own) if own.volumes else own for own in vms]
        vms = [self.tagging.of(self.checking.of(one)) for one in vms]
        return state(*vms, groups=(group,), revision=f"{self.commits:040x}")

    async def _kill(self) -> None:
        running = sorted(self.world.hypervisor.running())
        if running:
            victim = self.random.choice(running)
            self.world.hypervisor.kill(victim)

    async def _ask(self) -> None:
        name = self.random.choice((*NAMES, self.naming.called))
        request: Request = self.random.choice(
            (
                Retry(name),
                RollbackTo(name),
                Suspend(name),
                Resume(name),
                RestartVM(name),
                Abort("front"),
                Promote("front"),
                Suspend("front", seconds=30.0),
                Suspend(None),
                Resume(None),
            )
        )
        with contextlib.suppress(RequestRefused):
            await self._survive(lambda: self.world.ask(request))

    async def _ask_anew(self) -> None:
        """Restarts and ways back of VMs that hand over, most of the time while they serve."""
        name = self.random.choice(sorted(HANDED_OVER))
        requests: tuple[Request, ...] = (
            RestartVM(name),
            RestartVM(name),
            RollbackTo(name),
            Resume(name),
        )
        for _ in range(self.random.randrange(1, 4)):
            for _ in range(self.random.randrange(12)):
                await self._step()
            request = self.random.choice(requests)
            with contextlib.suppress(RequestRefused):
                await self._survive(lambda asked=request: self.world.ask(asked))  # type: ignore[misc]

    async def _crash(self) -> None:
        self.world.faults.crashed = True
        await self._survive(self._nothing)

    async def _nothing(self) -> None:
        pass

    async def _reboot(self) -> None:
        """The host loses power: guests and daemon are gone, the disk is as it was."""
        self.tale.reboots += 1
        self.world.hypervisor.power_loss()
        self.world.front.die()
        self.world.clock.reboot()
        await self._crash()

    async def _step_clock(self) -> None:
        """The wall clock jumps, by up to a year either way; the boot clock does not."""
        self.world.clock.step_wall(self.random.choice((-3.2e7, -3600.0, 3600.0, 3.2e7)))

    async def _malformed(self) -> None:
        """A commit that cannot be read: nothing may stop."""
        before = self.world.hypervisor.running()
        await self._survive(lambda: self.world.reconciler.reject("f" * 40, ("x.yaml:1:1: bad",)))
        if not before.keys() <= self.world.hypervisor.running().keys():
            raise Broken("law 7: a malformed commit stopped something")

    async def _empty(self) -> None:
        await self._survive(lambda: self.world.push(state(revision="e" * 40)))
        desired = self.world.reconciler.desired
        if desired is not None and not desired.vms and self.world.ledger.record().vms:
            raise Broken("law 7: an emptied repository became the desired state")

    async def _shortage(self) -> None:
        """The host is short of memory and disk for a while."""
        plenty = self.world.host.value
        self.world.host.value = replace(plenty, memory_available_mib=64, disk_free_mib=10)
        for _ in range(5):
            await self._step()
        self.world.host.value = plenty

    async def _ports_taken(self) -> None:
        """Connections of the host have ports that VMs want next, and listen on none of them."""
        names = self.random.sample(NAMES, 2)
        self.world.host.bound = frozenset(HostPort(ANY_ADDRESS, self.ports[n]) for n in names)
        for _ in range(self.random.randrange(2, 8)):
            await self._step()
        self.world.host.bound = frozenset()

    async def _lose(self) -> None:
        """Somebody removes an image from the store, and tells nobody."""
        there = sorted(self.world.images.on_disk())
        if there and not self.world.workers.busy():  # what is being started has them open
            self.world.images.lose(self.random.choice(there))

    async def _bridge(self) -> None:
        """A bridge is restarted, or gone for a while; what was plugged in hangs loose."""
        taps = self.world.taps
        taps.restart_bridge("br0")
        if self.random.random() < 0.5:
            bridge = taps.links.pop("br0")
            for _ in range(self.random.randrange(2, 8)):
                await self._step()
            taps.links["br0"] = bridge

    async def _front_dies(self) -> None:
        self.world.front.die()

    async def _front_hangs(self) -> None:
        """For a while it answers nobody; what it leads, it leads on."""
        self.world.front.error = "the front does not answer"
        for _ in range(self.random.randrange(2, 8)):
            await self._step()
        self.world.front.error = ""

    async def _idle(self) -> None:
        self.world.clock.advance(self.random.choice((1.0, 10.0, 60.0)))

    async def _end(self) -> None:
        """Faults stop, people let go, the sick get well, and the world must come to rest."""
        self.rate = 0.0
        self.world.hypervisor.behaviour = lambda m: (
            "good" if fate_of(m) == "sick" else fate_in(m.vm, fate_of(m))
        )
        for guest in self.world.hypervisor.guests.values():
            guest.fate = "good" if guest.fate == "sick" else guest.fate
        for name in (*NAMES, *OTHER_NAMES, "front", None):
            with contextlib.suppress(RequestRefused):
                await self.world.ask(Resume(name))
        await self._survive(self._nothing)
        await self.tagging.end()
        lost = self.naming.give_up(self.world.ledger.record().vms)
        unheard = (
            self.world.source.head is not self.world.reconciler.declared
        )  # a crash came between
        if self.moved or lost or unheard:
            await self._leave_no_circle()
        # A slow build may still have a death before it, drawn when it began; and the host's
        # interfaces may have changed since they were looked at.
        for pause in (0.0, 10.0):
            self.world.clock.advance(pause)
            await self._survive(lambda: self.world.settle(3600.0))
        await all_judged(self.world)
        self.oracles.look()
        self.oracles.converged()
        writes = self.world.ledger.writes
        await self.world.step()
        passed = self.world.reconciler.passed
        if self.world.ledger.writes != writes and passed is not None:
            raise Broken(f"law 12: a pass with nothing to do wrote {passed.plan.changes}")

    def _blocked(self) -> dict[VMName, set[str]]:
        return {n: {b.digest for b in r.blocked} for n, r in self.world.ledger.record().vms.items()}

    def _counted(self) -> Tale:
        self.tale.rollbacks = len(self.world.events("rolled-back"))
        return self.tale
