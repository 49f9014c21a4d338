"""Law 15, watched from outside: a result names the revision that caused it, and says what was seen."""

from __future__ import annotations

from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.event import Event
from reconciler.model.image_tags import as_meant, tags_of
from reconciler.model.names import GenerationNumber, Revision, VMName
from reconciler.model.revision_result import RevisionRecord
from tests.simulation.check_oracle import has_all
from tests.simulation.tagging import Tagging, wanted_of
from tests.simulation.wellness import is_up
from tests.world import World

FAILED = ("rolled-back", "rollback-failed", "failed")


class ResultOracle:
    """Works out by itself what each revision changed, and holds every result against it."""

    def __init__(self, world: World, tagging: Tagging) -> None:
        self.world = world
        self._tagging = tagging
        self._newest: DesiredState | None = None
        self._changed: dict[tuple[Revision, float], frozenset[VMName]] = {}
        self._results: dict[tuple[Revision, float], str] = {}
        self._events = 0
        self._healthy: set[tuple[VMName, GenerationNumber]] = set()
        """Generations of which a guest of that name passed its checks."""

    def witness(self) -> None:
        """Remember who is well: a daemon may die in the pass that says so."""
        hypervisor = self.world.hypervisor
        for one in hypervisor.guests.values():
            if is_up(self.world, one):
                self._healthy.add((one.machine.vm, one.machine.generation))
        for instance, health in hypervisor.healths.items():
            if health.ever_passed and (guest := hypervisor.guests.get(instance)) is not None:
                self._healthy.add((guest.machine.vm, guest.machine.generation))

    def look(self) -> str:
        """What is wrong, in words; empty where nothing is."""
        self.witness()
        if wrong := self._tagging.wrong():
            return wrong
        for one in self.world.ledger.record().source.revisions:
            key = (one.revision, one.accepted_wall)
            if key not in self._changed:
                self._learn(one)
            wrong = self._wrong(one, self._changed[key], self._results.get(key, "working"))
            if wrong:
                return f"revision {one.revision[-4:]} is {one.result}: {wrong}"
            self._results[key] = one.result
        return self._events_wrong()

    def at_rest(self) -> str:
        """The newest revision has converged exactly where all that it changed is as it says."""
        revisions, desired = self.world.ledger.record().source.revisions, self._newest
        if not revisions or desired is None:
            return ""
        newest, desired = revisions[-1], self._meant(desired)
        well = all(self._serves(name, desired.vms[name]) for name in newest.vms)
        if well and not newest.removed and newest.result not in ("converged", "unchanged"):
            return f"all that the newest revision changed is well, and it is {newest.result}"
        return ""

    def _meant(self, state: DesiredState) -> DesiredState:
        return as_meant(state, self.world.ledger.record().store.tags)

    def _learn(self, one: RevisionRecord) -> None:
        state, former = self.world.source.states[one.revision], self._newest
        before = former.vms if former is not None else {}
        differ = {n for n, spec in state.vms.items() if _differs(before.get(n), spec)}
        self._changed[one.revision, one.accepted_wall] = frozenset(
            differ | (before.keys() - state.vms.keys())
        )
        self._newest = state

    def _wrong(self, one: RevisionRecord, changed: frozenset[VMName], former: str) -> str:
        named = {
            name
            for name, s in self.world.source.states[one.revision].vms.items()
            if any(tags_of(s))
        }
        if not {*one.vms, *one.removed, *one.blamed} <= changed | named:
            return f"it changed {sorted(changed)} and not {one.vms}, {one.removed}, {one.blamed}"
        if one.result == "unchanged" and changed:
            return f"it changed {sorted(changed)}"
        if one.result in FAILED and not (one.blamed and one.why):
            return "it names no VM, or no cause"
        if one.result == "converged" != former:
            state = self._meant(self.world.source.states[one.revision])
            for name in one.vms:
                if not self._serves(name, state.vms[name]):
                    return f"{name} was not seen healthy"
        return ""

    def _serves(self, name: VMName, spec: VMSpec) -> bool:
        """Whether it is what was committed, with its checks, and a guest of that was seen healthy."""
        record = self.world.ledger.record().vms.get(name)
        good = record.last_good if record is not None else None
        if record is None or good is None or not has_all(record, spec):
            return False
        return (name, good.number) in self._healthy

    def _events_wrong(self) -> str:
        fresh = self.world.ledger.history[self._events :]
        self._events += len(fresh)
        return next((wrong for event in fresh if (wrong := self._event_wrong(event))), "")

    def _event_wrong(self, event: Event) -> str:
        """A verdict carries the revision that wanted what was judged."""
        if event.kind != "generation-condemned" or event.vm is None or event.generation is None:
            return ""
        record = self.world.ledger.record().vms.get(event.vm)
        judged = record.generation(event.generation) if record is not None else None
        if judged is None:
            return ""
        state = self.world.source.states.get(Revision(event.revision or ""))
        specs = state.vms.values() if state is not None else ()
        digests = set[str]().union(*(wanted_of(spec, self._tagging.pushed) for spec in specs))
        if event.revision != judged.revision or judged.digest not in digests:
            return f"{event.message} is said of {event.revision}, which wanted nothing of it"
        return ""


def _differs(old: VMSpec | None, new: VMSpec) -> bool:
    if old is None or old.moved_from != new.moved_from:
        return True
    return old.digest != new.digest or old.health != new.health
