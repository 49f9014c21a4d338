"""How one VM fares with what is desired of it: applied and healthy, on its way, or failed, and why.

Judged from what the last pass saw and remembers. "Healthy" is said only of a guest that answered.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.model.check_trial import BlockedChecks
from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.names import GroupName, Revision, VMName
from reconciler.model.observed import Guest, Operation
from reconciler.model.record import Blocked, GroupRecord, Hold, VMRecord
from reconciler.model.revision_result import Conclusion, VMResult
from reconciler.model.waits import Wait, WaitKind, kinds_ended_by, most_serious_first
from reconciler.now import Now
from reconciler.planning import guest_health, guest_roles

NOT_ASKED = "its checks have not answered yet"
HELD = "held: "
ON_TRIAL = kinds_ended_by("trial")
BEHIND_ANOTHER = kinds_ended_by("other VM")
FOR_PEOPLE = kinds_ended_by("person")
"""Begins the words for a VM that did not fail itself."""


@dataclass
class Fleet:
    """What a pass observed and decided of all VMs, with values that are needed often computed once."""

    desired: DesiredState
    vms: Mapping[VMName, VMRecord]
    groups: Mapping[GroupName, GroupRecord]
    guests: Mapping[VMName, tuple[Guest, ...]]
    busy: Mapping[VMName, Operation]
    waits: Mapping[str, Sequence[Wait]]
    now: Now
    _serving: dict[VMName, bool] = field(default_factory=dict)
    _holders: dict[GroupName, VMName | None] | None = None
    _obstacles: dict[VMName, Wait] | None = None

    def kinds(self, name: VMName) -> set[WaitKind]:
        """Kinds of the VM's waits."""
        return {wait.kind for wait in self.waits.get(name, ())}

    def guest(self, name: VMName) -> Guest | None:
        """The serving guest."""
        record = self.vms.get(name)
        return (
            guest_roles.assign_roles(record, self.guests.get(name, ())).serving if record else None
        )

    def serves(self, name: VMName) -> bool:
        """Whether a committed guest of what is desired runs and is seen healthy."""
        if name not in self._serving:
            self._serving[name] = _serves(self, name, self.desired.vms[name])
        return self._serving[name]

    def budget_holder(self, group: GroupName) -> VMName | None:
        """A member that uses up the group's budget, if only a person can fix all that do."""
        if self._holders is None:
            self._holders = _budget_holders(self)
        return self._holders.get(group)

    def obstacle(self, name: VMName) -> Wait | None:
        """The wait for a person that keeps this VM where it is: its own, or of a VM before it.

        None while time or work may still change it.
        """
        if self._obstacles is None:
            self._obstacles = _find_obstacles(self)
        return self._obstacles.get(name)


def vm_result(fleet: Fleet, name: VMName) -> VMResult:
    """The result of one desired VM."""
    spec, record = fleet.desired.vms[name], fleet.vms.get(name)
    calm = record is not None and record.quarantine is None and name not in fleet.waits
    if calm and fleet.serves(name):
        return VMResult(name, "converged")  # as most of a thousand do
    if record is not None and record.quarantine is not None:
        # A new digest ends a quarantine, so this one is of what is desired now.
        return VMResult(name, "rollback-failed", record.quarantine.reason)
    block = record.block_of(spec) if record else None
    if record is not None and block is not None:
        return _condemned(name, record, block)
    if (refused := guest_health.refused_checks(record, spec)) is not None:
        return VMResult(name, "rolled-back", _refused_words(refused), refused.revision)
    if (broken := _wait(fleet, name, "broken")) is not None:
        return VMResult(name, "failed", broken.why)
    if (hold := _hold(fleet, name, spec)) is not None:
        return _held(fleet, name, hold)
    ended_well = record is not None and record.ended_well(spec, fleet.now.boot_id)
    if ended_well or fleet.serves(name):
        return VMResult(name, "converged")
    return _unfinished(fleet, name)


def removal_result(fleet: Fleet, name: VMName) -> VMResult:
    """The result of a VM that a revision removed."""
    record = fleet.vms.get(name)
    if record is None:
        return VMResult(name, "converged")
    for kind in ("suspended", "prune", "moved-from"):
        if (refused := _wait(fleet, name, kind)) is not None:
            return VMResult(name, "waiting", refused.why)
    if (kept := _wait(fleet, name, "kept")) is not None:
        return VMResult(name, "converged", kept.why)  # the host's policy: pruning is off
    return VMResult(name, "working", "it is about to be removed")


def _serves(fleet: Fleet, name: VMName, spec: VMSpec) -> bool:
    record, guest = fleet.vms.get(name), fleet.guest(name)
    good = record.last_good if record else None
    if record is None or guest is None or good is None or good.digest != spec.digest:
        return False
    if guest.generation != good.number or guest_health.has_other_checks(good, spec):
        return False
    leaves = record.stop is not None and record.stop.instance == guest.instance
    return not leaves and guest_health.judge(guest, good.spec.health, fleet.now) == "healthy"


def _condemned(name: VMName, record: VMRecord, block: Blocked) -> VMResult:
    """The result of a VM whose desired digest or checks were condemned."""
    if record.rollback is not None:
        return VMResult(name, "working", f"going back: {block.reason}", block.revision)
    why = f"generation {block.generation} failed: {block.reason}"
    result: Conclusion = "rolled-back" if record.last_good is not None else "failed"
    return VMResult(name, result, why, block.revision)


def _refused_words(refused: BlockedChecks) -> str:
    return f"its changed checks are refused, and the former ones stay: {refused.reason}"


def _hold(fleet: Fleet, name: VMName, spec: VMSpec) -> Hold | None:
    """The hold that keeps this VM from what is desired, or sends it back."""
    group = fleet.groups.get(spec.group) if spec.group else None
    return group.hold if group and "hold" in fleet.kinds(name) else None


def _held(fleet: Fleet, name: VMName, hold: Hold) -> VMResult:
    """The result of a held VM: that of the member that failed, if one did."""
    guest, back = fleet.guest(name), dict(hold.back).get(name)
    returning = back is not None and (guest is None or guest.generation != back)
    if returning or fleet.busy.get(name) is not None or fleet.kinds(name) & ON_TRIAL:
        return VMResult(name, "working", hold.words, hold.revision)
    why, failed = f"{HELD}{hold.words}", fleet.desired.vms.get(hold.vm)
    record = fleet.vms.get(hold.vm)
    if hold.cause == "failure" and failed is not None and record is not None and hold.vm != name:
        if record.quarantine is not None:
            return VMResult(name, "rollback-failed", why, hold.revision)
        if (block := record.block_of(failed)) is not None:
            found = _condemned(hold.vm, record, block)
            return VMResult(name, found.result, why, hold.revision)
        if guest_health.refused_checks(record, failed) is not None:
            return VMResult(name, "rolled-back", why, hold.revision)
    return VMResult(name, "failed", why, hold.revision)


def _unfinished(fleet: Fleet, name: VMName) -> VMResult:
    """The result of a VM on its way, or waiting for a person directly or through another VM."""
    waits = most_serious_first(fleet.waits.get(name, ()))
    why = "; ".join(dict.fromkeys(wait.why for wait in waits))
    stuck = fleet.obstacle(name)
    if stuck is not None:
        if stuck.subject != name:
            why += f"; {stuck.subject}: {stuck.why}"
        return VMResult(name, "waiting", why)
    operation = fleet.busy.get(name)
    if not why and operation is not None:
        why = f"{operation.kind} in progress"
    return VMResult(name, "working", why or _health(fleet.guest(name)))


def _health(guest: Guest | None) -> str:
    if guest is None:
        return "it has no guest yet"
    if not guest.health.rounds:
        return NOT_ASKED
    return f"it is not healthy: {guest.health.detail}" if guest.health.detail else "not healthy"


def _wait(fleet: Fleet, name: VMName, kind: WaitKind) -> Wait | None:
    return next((wait for wait in fleet.waits.get(name, ()) if wait.kind == kind), None)


def _find_obstacles(fleet: Fleet) -> dict[VMName, Wait]:
    """From each VM that waits for a person, mark all VMs that wait for it, in one walk."""
    found: dict[VMName, Wait] = {}
    behind: dict[VMName, list[VMName]] = defaultdict(list)
    for subject in fleet.waits:
        name = VMName(subject)
        kinds = fleet.kinds(name)
        if kinds & ON_TRIAL or name in fleet.busy:
            continue
        own = [wait for wait in fleet.waits[name] if wait.traits.ended_by == "person"]
        if own:
            found[name] = most_serious_first(own)[0]
        for other in () if own else _before(fleet, name, kinds):
            behind[other].append(name)
    reached = deque(found)
    while reached:
        first = reached.popleft()
        for name in behind[first]:
            if name not in found:
                found[name] = found[first]
                reached.append(name)
    return found


def _before(fleet: Fleet, name: VMName, kinds: set[WaitKind]) -> list[VMName]:
    """VMs that this one waits for: those it comes after, or that use up its group's budget."""
    spec = fleet.desired.vms.get(name)
    if spec is None:
        return []
    if "dependency" in kinds:
        canary = fleet.desired.group(spec.group).canary if spec.group else ()
        names = (*spec.update.after, *canary)
        return [n for n in names if n in fleet.desired.vms and not fleet.serves(n)]
    holder = fleet.budget_holder(spec.group) if "budget" in kinds and spec.group else None
    return [holder] if holder is not None else []


def _budget_holders(fleet: Fleet) -> dict[GroupName, VMName | None]:
    """By group a member that is down until a person acts; None if one may still come up."""
    holders: dict[GroupName, VMName | None] = {}
    for name, spec in fleet.desired.vms.items():
        kinds = fleet.kinds(name)
        if not spec.group or fleet.serves(name) or kinds & BEHIND_ANOTHER:
            continue
        stuck = bool(kinds & FOR_PEOPLE) and not kinds & ON_TRIAL
        if not stuck or holders.get(spec.group, name) is None:
            holders[spec.group] = None
        else:
            holders[spec.group] = name
    return holders


def caused_by(record: VMRecord | None, owner: Revision | None) -> Revision | None:
    """The revision that caused a VM's trouble: of what is in quarantine, else what changed the VM last.

    A digest that was condemned before and is not desired any more causes nothing.
    """
    if record is None:
        return owner
    quarantine = record.quarantine
    if quarantine is not None:
        failed = (b.revision for b in reversed(record.blocked) if b.digest == quarantine.digest)
        owner = next((revision for revision in failed if revision is not None), owner)
    return owner or (record.generations[-1].revision if record.generations else None)
