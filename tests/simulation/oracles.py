"""The laws, watched from outside: what may never be seen in the world, whatever the engine thinks."""

from __future__ import annotations

from collections import Counter

from reconciler.model.actions import StopGuest
from reconciler.model.desired import VMSpec
from reconciler.model.names import GroupName, VMName
from reconciler.model.observed import Link
from reconciler.model.record import Generation, VMRecord
from reconciler.model.waits import Wait
from tests.fakes.guest import FakeGuest
from tests.simulation.check_oracle import CheckOracle
from tests.simulation.kept import last_good_on, volumes_of, writes
from tests.simulation.results import ResultOracle
from tests.simulation.routes import Routes
from tests.simulation.tagging import Tagging
from tests.simulation.wellness import WellnessOracle, seems_ill
from tests.world import World

LACKING = "the host lacks"
"""How the end of a guest reads whose VMM could not have what it needs of the host."""


class Broken(AssertionError):
    """A law was seen broken; the seed replays it."""


class Oracles:
    """Looks at the world after every step. Law 1 is watched by the hypervisor itself."""

    def __init__(self, world: World, tagging: Tagging) -> None:
        self.world = world
        self._seen = 0
        self._stopping: set[VMName] = set()
        """VMs with a stop that was begun before this pass."""
        self._mending: set[VMName] = set()
        """VMs whose ill guest was stopped, to be started again, and that are not well yet."""
        self._routes = Routes(world)
        self._untouched: dict[tuple[VMName, int], int] = {}
        """How often a generation of this number, of an earlier VM, had written before its first start."""
        self._numbers: dict[VMName, int] = {}
        self._written: set[VMName] = set()
        """VMs that ever wrote to a volume, by each of their names."""
        self._remembered: set[VMName] = set()
        """Names that the record ever had."""
        self._claims: dict[VMName, VMName | None] = {}
        """What a VM said that it was before when it was created; what it says later is too late."""
        self._checks = CheckOracle(world, Broken)
        self._results = ResultOracle(world, tagging)
        self._wellness = WellnessOracle(world)
        self._taken: set[str] = set()
        """Images that a collection removed though a generation names them."""
        world.on_pass = self.decided
        world.images.on_removal = self._removed
        self._theirs = world.taps.links["t0-theirs"] = Link("tap")

    def _removed(self, gone: frozenset[str]) -> None:
        """At the moment of the removal; in a worker, so `look` raises."""
        record, parts = self.world.durable.record(), self.world.images.parts()
        specs = (g.spec for vm in record.vms.values() for g in vm.generations)
        named = {key for spec in specs for key in spec.image_keys}
        self._taken |= gone & named.union(*(parts[key] for key in parts.keys() & named))

    def decided(self) -> None:
        """Laws 2, 3 and 15, at the moment of the decision: before the first stop begins. Raises Broken."""
        passed = self.world.reconciler.passed
        self._wellness.witness()
        self._judged(self._results.look())
        if passed is not None:
            for action in passed.plan.actions:
                if isinstance(action, StopGuest):
                    self._told(self._wellness.stopped(action))
                    self._handed_over_first(action)
                    self._without_a_gap(action)
        self._checks.decided(self.serving())
        if passed is None or passed.desired is None:
            return
        # A stop that is over by now was another guest's: the second one is in its place.
        vms = self.world.ledger.record().vms
        still = {n for n in self._stopping if (r := vms.get(n)) and (r.stop or r.start is None)}
        serving, taken = self.serving() - still, Counter[GroupName]()
        for action in passed.plan.actions:
            # A stop that was begun before a crash is no new decision: the guest may be going.
            begun = isinstance(action, StopGuest) and action.why.startswith("carrying on")
            if isinstance(action, StopGuest) and action.vm in serving and not begun:
                record, spec = self.world.record(action.vm), passed.desired.vms.get(action.vm)
                if spec and spec.group and record.stop and record.stop.cause == "update":
                    taken[spec.group] += 1
        self._repairs()
        self._stopping = {r.name for r in self.world.ledger.record().vms.values() if _leaves(r)}
        for group, count in taken.items():
            members = [s.name for s in passed.desired.vms.values() if s.group == group]
            down = sum(name not in serving or self._touched(name) for name in members)
            limit = passed.desired.group(group).max_unavailable
            if down + count > limit:
                raise Broken(f"law 3: {down} of {group} are down and {count} more; limit {limit}")

    def _told(self, wrong: str) -> None:
        if wrong:
            raise Broken(wrong)

    def _judged(self, wrong: str) -> None:
        if wrong:
            raise Broken(f"law 15: {wrong}")

    def _repairs(self) -> None:
        """Row 44: of guests that live and fail their checks, few are taken down at once."""
        passed = self.world.reconciler.passed
        if passed is None or passed.desired is None:
            return
        self._mending = {name for name in self._mending if self._mended_now(name)}
        for action in passed.plan.actions:
            if not isinstance(action, StopGuest) or action.why.startswith("carrying on"):
                continue
            record, spec = self.world.record(action.vm), passed.desired.vms.get(action.vm)
            if spec is None or record.stop is None or record.stop.cause != "unhealthy":
                continue
            with_it = [n for n in self._mending - {action.vm} if n in passed.desired.vms]
            same = [n for n in with_it if passed.desired.vms[n].rollout_group == spec.rollout_group]
            limit = passed.desired.group(spec.rollout_group).max_unavailable
            if len(same) >= limit or len(with_it) >= self.world.policy.max_repairs:
                raise Broken(f"row 44: {action.vm} is repaired while {sorted(with_it)} are")
            self._mending.add(action.vm)

    def _mended_now(self, name: VMName) -> bool:
        """Whether a repair is still under way: being stopped or started, or not well yet."""
        record = self.world.ledger.record().vms.get(name)
        if record is None or record.backoff is None or record.quarantine is not None:
            return False
        hypervisor, passed = self.world.hypervisor, self.world.reconciler.passed
        busy = passed is not None and name in passed.observed.busy
        living = hypervisor.all_living(name)
        if not living:
            return busy
        answers = hypervisor.healths.get(living[0].process.instance)
        passes = answers is not None and answers.passing_since is not None
        going = record.stop is not None and record.stop.cause == "unhealthy"
        running = record.generation(living[0].machine.generation)
        patience = running.spec.health.startup_deadline if running is not None else 30.0
        late = self.world.clock.now().boot > living[0].process.started_boot + patience
        restarted = record.start is not None and record.start.purpose == "restart"
        return going or (restarted and not passes and not late)

    def _touched(self, name: VMName) -> bool:
        """Whether something is being done to the guest that serves, and not to one beside it."""
        passed = self.world.reconciler.passed
        operation = passed.observed.busy.get(name) if passed is not None else None
        if operation is None or len(self.world.hypervisor.all_living(name)) > 1:
            return False
        record = self.world.ledger.record().vms.get(name)
        if operation.kind == "stop" and record is not None and record.stop and not _leaves(record):
            return False  # of the one beside it, which may have ended by now
        apart = ("start-beside", "open-ports", "hand-over", "lead", "create", "plug-taps", "drop-taps")  # fmt: skip
        return operation.kind not in apart

    def _handed_over_first(self, action: StopGuest) -> None:
        """A guest is not stopped for its candidate while the ports still lead to it."""
        guest = self.world.hypervisor.guests.get(action.instance)
        stop = self.world.record(action.vm).stop
        if guest is None or stop is None or not guest.process.alive:
            return
        beside = len(self.world.hypervisor.all_living(action.vm)) > 1
        if guest.serves and beside and stop.cause in ("handed-over", "update"):
            raise Broken(f"law 2: {action.vm} is stopped before its candidate took over")

    def _without_a_gap(self, action: StopGuest) -> None:
        """Who hands over and serves well is not stopped for an update, a restart or a way back."""
        record, guest = (
            self.world.record(action.vm),
            self.world.hypervisor.guests.get(action.instance),
        )
        if guest is None or record.stop is None or action.why.startswith("carrying on"):
            return
        generation = record.generation(guest.machine.generation)
        spec = generation.spec if generation is not None else None
        if spec is None or not spec.handed_over or spec.update.short_of_memory == "restart":
            return
        if record.stop.cause in ("update", "requested") and self._well(guest):
            raise Broken(
                f"law 2: {action.vm} is stopped ({record.stop.cause}) with nobody after it"
            )

    def look(self) -> None:
        """Raises Broken."""
        if self._taken:
            raise Broken(f"law 8: collected, and a generation names it: {sorted(self._taken)}")
        self._checks.look()
        self._results.witness()
        self._told(self._wellness.look())
        self._two_at_most()
        self._told(self._routes.look())
        self._ways_back()
        for own in self.world.ledger.record().vms.values():
            if [g.number for g in own.generations] == [1]:
                self._claims.setdefault(own.name, own.generations[0].spec.moved_from)
        fresh = self.world.hypervisor.log[self._seen :]
        self._seen = len(self.world.hypervisor.log)
        written = {VMName(p.split("/")[3]) for p, w in self.world.hypervisor.disks.items() if w}
        for kind, vm, number in fresh:
            record = self.world.ledger.record().vms.get(vm)
            if kind == "start" and record is not None:
                self._started(record, number)
        self._written |= written
        self._remembered |= self.world.ledger.record().vms.keys()
        self._ledger()

    def _two_at_most(self) -> None:
        for name in {guest.machine.vm for guest in self.world.hypervisor.guests.values()}:
            living = self.world.hypervisor.all_living(name)
            if len(living) > 2 or sum(g.machine.keeps_data for g in living) > 1:
                raise Broken(f"law 1: {len(living)} guests of {name}")
            if sum(guest.serves for guest in living) > 1:
                raise Broken(f"law 1: two guests of {name} have its ports")

    def _ways_back(self) -> None:
        """Law 6: nobody has a port, of an address, that another VM's last good generation needs."""
        has = {
            (f.address, f.host): guest.machine.vm
            for guest in self.world.hypervisor.guests.values()
            for network in guest.machine.networks
            for f in network.forwards
            if guest.process.alive and f.host in guest.ports
        }
        for name, vm in self.world.ledger.record().vms.items():
            for network in vm.last_good.spec.networks if vm.last_good else ():
                for f in network.forwards:
                    holder = has.get((f.address, f.host), name)
                    if holder not in (name, vm.formerly):
                        raise Broken(f"law 6: {holder} has port {f.host}, which {name} needs back")

    def serving(self) -> set[VMName]:
        """VMs whose living guest is well and of a committed generation."""
        return {g.machine.vm for g in self.world.hypervisor.guests.values() if self._well(g)}

    def _well(self, guest: FakeGuest) -> bool:
        record = self.world.ledger.record().vms.get(guest.machine.vm)
        answers = self.world.hypervisor.healths.get(guest.process.instance)
        failed, ever = (answers.failures, answers.ever_passed) if answers else (0, False)
        generation = record.generation(guest.machine.generation) if record else None
        most = generation.spec.health.failure_threshold if generation else 3
        ill = seems_ill(guest) or failed >= most or (failed > 0 and not ever)
        proven = generation is not None and generation.verdict == "committed"
        return guest.process.alive and proven and not ill

    def _started(self, record: VMRecord, number: int) -> None:
        generation = next((g for g in record.generations if g.number == number), None)
        if generation is None:
            raise Broken(f"law 4: {record.name} runs generation {number}, which nothing remembers")
        spec = generation.spec
        if generation.verdict == "trial":
            # A VMM that failed at its start has written nothing yet.
            before = max(0, writes(self.world, record.name, generation, number) - 1)
            self._untouched.setdefault((record.name, number), before)
        self._undone(record, generation)
        self._kept(record, generation)
        self._continued(record, generation)
        lacking = {s.key for s in spec.layers} - self.world.images.on_disk()
        if lacking:
            raise Broken(f"laws 2, 8: {record.name} was started without its layers")

    def _continued(self, record: VMRecord, generation: Generation) -> None:
        """Data: a VM that says that it was another has that one's volumes when it first starts."""
        old = self._claims.get(record.name)
        first = generation.number == 1 and writes(self.world, record.name, generation, 1) == 1
        if old is None or not first or not generation.spec.volumes:
            return
        if old in self._written:
            raise Broken(f"data: {record.name} was {old}, and began with empty volumes")
        if old not in self._remembered:
            raise Broken(f"data: {record.name} was started as {old}, which never was")

    def _kept(self, record: VMRecord, generation: Generation) -> None:
        """Data: what a committed generation wrote is on the volumes of all that come after it.

        Of a kept disk: of all that come after it on the same image.
        """
        good = last_good_on(record, generation)
        for path in volumes_of(record.name, generation) if good else ():
            if good and good.number not in self.world.hypervisor.disks.get(path, []):
                raise Broken(f"data: {record.name} lost what generation {good.number} wrote")

    def _undone(self, record: VMRecord, generation: Generation) -> None:
        """Data: a rollback with a snapshot starts on volumes that the bad generation never wrote."""
        rollback, snapshot = record.rollback, record.snapshot
        if rollback is None or snapshot is None or generation.number != rollback.target:
            return
        before = self._untouched.get((record.name, rollback.bad))
        bad = record.generation(rollback.bad)
        if bad is not None and bad.spec.kernel.source != generation.spec.kernel.source:
            before = 0  # it had another image
        if snapshot.before == rollback.bad and before is not None and before < writes(self.world,
            record.name, generation, rollback.bad
        ):  # fmt: skip
            raise Broken(f"data: {record.name} went back on what generation {rollback.bad} wrote")

    def _ledger(self) -> None:
        record = self.world.ledger.record()
        for name, vm in record.vms.items():
            for generation in vm.generations:
                if generation.evidence and LACKING in generation.evidence.exit:
                    raise Broken(f"{name} was condemned for what the host lacked")
            numbers = [g.number for g in vm.generations]
            if numbers != sorted(set(numbers)):
                raise Broken(f"law 13: {name} has generations {numbers}")
            newest = vm.next_number
            if newest < self._numbers.get(name, 0):
                raise Broken(f"law 13: generation numbers of {name} fell")
            self._numbers[name] = newest
            if vm.rollback is not None:
                target = vm.generation(vm.rollback.target)
                if target is None or target.verdict != "committed":
                    raise Broken(f"law 6: {name} goes back to what is not committed")
        for gone in set(self._numbers) - set(record.vms):
            del self._numbers[gone]
            self._claims.pop(gone, None)
            self._untouched = {k: n for k, n in self._untouched.items() if k[0] != gone}

    def _taps(self) -> None:
        """Guests have their taps, in their bridges; nobody else has one, and strangers keep theirs."""
        taps, living = self.world.taps, self.world.hypervisor.guests.values()
        wanted = {
            tap.name: Link("tap", guest.machine.vm, tap.bridge)
            for guest in living
            if guest.process.alive
            for tap in guest.machine.taps
        }
        found = {name: link for name, link in taps.links.items() if link.owner is not None}
        if found != wanted:
            raise Broken(f"law 13: taps are {found}, guests have {wanted}")
        if taps.links.get("t0-theirs") is not self._theirs:
            raise Broken("a stranger's interface was touched")

    def _found(self, name: VMName, spec: VMSpec) -> None:
        """Its ports lead to the guest that serves, and to nobody else."""
        forwards = {f.host for n in spec.networks for f in n.forwards}
        led = self.world.front.table.get(name)
        living = self.world.hypervisor.all_living(name)
        found = living[0].reached_at if len(living) == 1 else set[int]()
        targets = {route.target for route in led.routes} if led is not None else set[int]()
        if found != forwards or not targets <= living[0].ports.keys():
            raise Broken(f"ports: {name} is found at {found}, not at {forwards}; led to {led}")

    def forgotten_blocks(self, before: dict[VMName, set[str]]) -> None:
        """Law 5 over a restart: what was condemned is still condemned."""
        for name, digests in before.items():
            vm = self.world.ledger.record().vms.get(name)
            if vm is not None and not digests <= {b.digest for b in vm.blocked}:
                raise Broken(f"law 5: {name} forgot a condemned digest")

    def converged(self) -> None:
        """Law 13 at the end of a life: all that may be at its desired generation is there."""
        desired, record = self.world.reconciler.desired, self.world.ledger.record()
        if desired is None or record.suspended is not None:
            return
        running = self.world.hypervisor.running()
        for name, spec in desired.vms.items():
            vm = record.vms.get(name)
            if _excused(self.world, name, vm):
                continue
            good = vm.last_good if vm else None
            if good is None or good.digest != spec.digest or running.get(name) != good.number:
                raise Broken(f"law 13: {name} did not arrive: {self.world.why(name)!r}")
            self._checks.converged(name, spec)
            self._found(name, spec)
        self._taps()
        self._judged(self._results.at_rest())
        open_intents = set(self.world.ledger.intents) - set(self.world.ledger.ends)
        if open_intents:
            raise Broken(f"law 4: intents without an end: {sorted(open_intents)[:3]}")


def _leaves(record: VMRecord) -> bool:
    """Whether the guest that serves was told to stop, and not one beside it."""
    stop, start = record.stop, record.start
    return stop is not None and (start is None or stop.instance == start.instance)


def _excused(world: World, name: VMName, vm: VMRecord | None) -> bool:
    """Stopped by a verdict or a person, or behind somebody who is."""
    status = next(v for v in world.status().vms if v.name == name)
    if status.sync in ("blocked", "suspended"):
        return True
    if vm is not None and (vm.pin is not None or vm.quarantine is not None):
        return True
    kinds = {w.kind for w in _waits(world, name)}
    if any(w.kind == "conflict" and "cannot go on as" in w.why for w in _waits(world, name)):
        return True  # volumes of a VM that was removed lie where it would move to
    others = world.ledger.record().vms.values()
    if "rename" in kinds and any(other.quarantine is not None for other in others):
        return True  # whom it takes over is a person's business
    return bool(kinds & {"hold", "dependency", "budget", "broken"})


def _waits(world: World, name: VMName) -> list[Wait]:
    passed = world.reconciler.passed
    return [w for w in passed.plan.waits if w.subject == name] if passed else []
