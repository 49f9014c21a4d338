"""Which VM has a port of the host, and which may need it back; the preflight asks before each start."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping

from reconciler.model.desired import DesiredState, VMSpec
from reconciler.model.machine import HostPort, overlap
from reconciler.model.names import VMName
from reconciler.model.observed import Guest
from reconciler.model.record import Record
from reconciler.planning.context import PlanBuilder, VMContext

SWAP = "let one of them take a free port first, in a commit of its own"

Owned = dict[int, list[tuple[VMName, HostPort]]]


class Book:
    """Everything known about host ports in one pass, indexed by number because every VM asks."""

    def __init__(self, plan: PlanBuilder) -> None:
        self.listening: dict[int, list[HostPort]] = defaultdict(list)
        for one in plan.observed.host.listening:
            self.listening[one.port].append(one)
        self._had = _owned((s.name, current_spec(s)) for s in plan.vms.values())
        goods = ((s.name, s.record.last_good) for s in plan.vms.values())
        self._needed = _owned((name, good.spec if good else None) for name, good in goods)

    def whose(self, wanted: HostPort, but: VMName) -> VMName | None:
        """The VM whose living guest was started with this port."""
        return _other(self._had, wanted, but)

    def needs_back(self, wanted: HostPort, but: VMName) -> VMName | None:
        """The VM whose last good generation has the port, whatever runs now (law 6)."""
        return _other(self._needed, wanted, but)


def _owned(specs: Iterable[tuple[VMName, VMSpec | None]]) -> Owned:
    found: Owned = defaultdict(list)
    for name, spec in specs:
        for one in spec.listens if spec is not None else ():
            found[one.port].append((name, one))
    return found


def _other(owned: Owned, wanted: HostPort, but: VMName) -> VMName | None:
    of_others = (
        name for name, one in owned.get(wanted.port, ()) if overlap(one, wanted) and name != but
    )
    return next(of_others, None)


def taken_ports(plan: PlanBuilder, vm: VMContext, spec: VMSpec) -> Iterator[str]:
    """Texts about ports of this spec that are taken, or reserved for another VM."""
    book: Book = plan.once("ports", Book)
    mine, good = _own_ports(plan, vm, spec), vm.record.last_good
    proven = set(good.spec.listens) if good else set()
    for wanted in spec.listens:
        if wanted in mine:
            continue
        if why := _in_the_way(plan, book, spec, wanted, mine):
            holder = _owner(plan, book, wanted, vm.name)
            who = f"{holder} has not released it yet" if holder else why
            if _in_a_circle(plan, book, vm, wanted):
                who = f"{holder} has it, and waits for a port of {vm.name}: {SWAP}"
            yield f"{_named(wanted)} of the host is taken: {who}"
        elif wanted not in proven and (other := book.needs_back(wanted, vm.name)):
            yield f"{_named(wanted)} of the host is kept for {other}, which may have to go back to it"


def _named(port: HostPort) -> str:
    return f"port {port.port}" if port.protocol == "tcp" else f"{port.protocol} port {port.port}"


def _in_the_way(
    plan: PlanBuilder, book: Book, spec: VMSpec, wanted: HostPort, mine: set[HostPort]
) -> str:
    """Why no guest of this spec can have the port now, as a text; empty if it can."""
    # Behind the proxy a guest needs no port of the host. Their owner is unknown while the proxy does not
    # answer; but whose they will be is known, and the proxy will be asked as soon as it answers.
    if spec.handed_over and plan.observed.proxy_error:
        return ""
    there = book.listening.get(wanted.port, ())
    if any(overlap(one, wanted) and one not in mine for one in there):
        return "another process listens on it"
    if any(overlap(one, wanted) for one in mine):
        return ""  # what keeps it is, or may be, the guest that goes
    return plan.observed.host.refused.get(wanted, "")


def to_ask_for(
    desired: DesiredState | None, record: Record, guests: Mapping[VMName, tuple[Guest, ...]],
    busy: Container[VMName],
) -> frozenset[HostPort]:  # fmt: skip
    """Ports on which a guest may soon start and that its VM does not have yet.

    A VM that runs as desired needs none, nor does one whose start is under way.
    """
    specs = desired.vms if desired is not None else {}
    found: set[HostPort] = set()
    for name in record.vms.keys() | specs.keys():
        known, spec = record.vms.get(name), specs.get(name)
        living = next((guest for guest in guests.get(name, ()) if guest.alive), None)
        running = known.generation(living.generation) if known and living else None
        if name in busy or (running and spec and running.digest == spec.digest):
            continue
        made = tuple(one.spec for one in known.generations) if known else ()
        listens = {port for one in (*made, spec) if one for port in one.listens}
        found |= listens.difference(running.spec.listens if running else ())
    return frozenset(found)


def current_spec(vm: VMContext) -> VMSpec | None:
    """The spec of the VM's living guest."""
    if vm.guest is None:
        return None
    generation = vm.record.generation(vm.guest.generation)
    return generation.spec if generation else None


def _own_ports(plan: PlanBuilder, vm: VMContext, spec: VMSpec) -> set[HostPort]:
    """Ports that this VM has already, itself or by the proxy, and that are free for this spec."""
    own, start = current_spec(vm), vm.record.start
    if own is not None and (start is None or not start.routes):
        return set(own.listens)
    # What the front holds is only let go of while another guest of the VM lives or is to come.
    return _fronted(plan, vm.name) if own is not None or spec.handed_over else set()


def _fronted(plan: PlanBuilder, name: VMName) -> set[HostPort]:
    target = plan.observed.front.get(name)
    routes = target.routes if target else ()
    return {HostPort(route.address, route.port, route.protocol) for route in routes}


def _owner(plan: PlanBuilder, book: Book, wanted: HostPort, but: VMName) -> str | None:
    if (owner := book.whose(wanted, but)) is not None:
        return owner
    held = (
        name
        for name in sorted(plan.observed.front)
        if any(overlap(one, wanted) for one in _fronted(plan, name))
    )
    return next((f"the front, for {name}," for name in held), None)


def _in_a_circle(plan: PlanBuilder, book: Book, vm: VMContext, port: HostPort) -> bool:
    """Whether the owner of the port waits, directly or through others, for a port of this VM."""
    seen: set[VMName] = set()
    following = [book.whose(port, vm.name)]
    while following:
        at = following.pop()
        if at == vm.name:
            return True
        if at is None or at in seen:
            continue
        seen.add(at)
        other = plan.vms[at]
        has = current_spec(other)
        wanted = set(other.spec.listens) if other.spec else set()
        wanted -= set(has.listens) if has else set()
        following.extend(book.whose(one, at) for one in sorted(wanted))
    return False
