"""What documents get wrong together: names, order, ports, addresses; both places are named."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from reconciler.model.desired import VMSpec
from reconciler.model.machine import Forward, share
from reconciler.model.names import GroupName, VMName
from reconciler.source.declared import NAME, Declared, Report, T
from reconciler.source.drafts import GroupDraft, port_place
from reconciler.source.explain import did_you_mean
from reconciler.source.places import Loc

VMs = Mapping[VMName, Declared[VMSpec]]
Groups = Mapping[GroupName, Declared[GroupDraft]]
VM, GROUP = "MicroVM", "Group"
AFTER: Loc = ("spec", "update", "after")
MOVED: Loc = ("metadata", "movedFrom")
MOST_SHOWN = 8
"""Members of a cycle that an error names."""
MOST_SUGGESTED = 1_000
"""Names among which a likely one is searched for: it costs time for each error."""


def unique(kind: str, declared: Iterable[Declared[T]], report: Report) -> dict[str, Declared[T]]:
    """By name; of two that share one, the first of the first file in order."""
    named: dict[str, Declared[T]] = {}
    for one in declared:
        first = named.setdefault(one.what.name, one)
        if first is not one:
            report.add(
                one,
                NAME,
                f"{kind} {one.what.name} is declared twice",
                f"first declared at {report.where(first)}",
            )
    return named


def check_ports(vms: VMs, report: Report) -> None:
    """No two guests listen on the same port of the host."""
    users: dict[tuple[str, int], Declared[VMSpec]] = {}
    shared: dict[tuple[str, int], None] = {}
    for vm in vms.values():
        for network in vm.what.networks:
            for forward in network.forwards:
                key = (forward.protocol, forward.host)
                if key in users:
                    shared[key] = None
                users[key] = vm
    if shared:
        _judge_shared(vms, shared, report)


def _judge_shared(vms: VMs, shared: Collection[tuple[str, int]], report: Report) -> None:
    """Equal ports are well as long as they are of different addresses."""
    taken: defaultdict[tuple[str, int], list[tuple[Declared[VMSpec], Loc, str]]]
    taken = defaultdict(list)
    for vm in vms.values():
        for loc, forward in forwards_of(vm.what):
            key = (forward.protocol, forward.host)
            if key not in shared:
                continue
            for other, other_loc, address in taken[key]:
                if share(forward.address, address):
                    whose = "" if other is vm else f" by {other.what.name}"
                    report.add(
                        vm, loc, f"{forward.protocol} port {forward.host} of the host is taken{whose}",
                        f"first declared at {report.where(other, other_loc)}",
                    )  # fmt: skip
                    break
            taken[key].append((vm, loc, forward.address))


def forwards_of(spec: VMSpec) -> Iterator[tuple[Loc, Forward]]:
    for index, network in spec.user_interfaces:
        for number, forward in enumerate(network.forwards):
            yield port_place(spec, index, number), forward


def check_order(vms: VMs, report: Report) -> None:
    """Every `after` names a VM, and following them never leads back."""
    for vm in vms.values():
        for index, name in enumerate(vm.what.update.after):
            if report.lacks(VM, name, vms):
                hint = did_you_mean(name, list(vms)) if len(vms) <= MOST_SUGGESTED else ""
                report.add(vm, (*AFTER, index), f"no VM is named {name}", hint or "declare it")
    for cycle in cycles({name: vm.what.update.after for name, vm in vms.items()}):
        first, second = vms[cycle[0]], cycle[1 % len(cycle)]
        others = [f"{name} at {report.where(vms[name], AFTER)}" for name in cycle[1:MOST_SHOWN]]
        report.add(
            first,
            (*AFTER, first.what.update.after.index(second)),
            f"a cycle: {' -> '.join([*cycle[:MOST_SHOWN], cycle[0]])}",
            f"remove one of them ({', '.join(others)})",
        )


def cycles(after: Mapping[VMName, tuple[VMName, ...]]) -> Iterator[list[VMName]]:
    """One cycle for each way back, beginning with its first name; each VM is walked once."""
    done: set[VMName] = set()
    for root in sorted(name for name, names in after.items() if names):
        path: dict[VMName, Iterator[VMName]] = {}
        at: VMName | None = root if root not in done else None
        while at is not None:
            if at not in path:
                path[at] = iter(after.get(at, ()))
            following = next(path[at], None)
            if following is None:
                done.add(at)
                del path[at]
                at = next(reversed(path), None)
            elif following in path:
                names = list(path)
                cycle = names[names.index(following) :]
                pivot = cycle.index(min(cycle))
                if len(cycle) > 1:  # a VM after itself was refused with its document
                    yield cycle[pivot:] + cycle[:pivot]
            elif following not in done:
                at = following


def check_moves(vms: VMs, report: Report) -> None:
    """A former name is declared no more, and only one VM says that it was its own."""
    claimed: dict[VMName, Declared[VMSpec]] = {}
    for vm in vms.values():
        old = vm.what.moved_from
        if old is None or old == vm.what.name:  # a VM from itself was refused with its document
            continue
        if old in vms:
            report.add(
                vm, MOVED, f"metadata.movedFrom: {old} is still declared",
                f"remove it at {report.where(vms[old])}, or this field",
            )  # fmt: skip
        elif (other := claimed.setdefault(old, vm)) is not vm:
            report.add(
                vm, MOVED, f"metadata.movedFrom: {old} can go on as one VM only",
                f"{other.what.name} takes it over at {report.where(other, MOVED)}",
            )  # fmt: skip


def check_canaries(vms: VMs, groups: Groups, report: Report) -> None:
    for name, group in groups.items():
        for index, canary in enumerate(group.what.spec.canary):
            vm = vms.get(canary)
            if vm is None and report.lacks(VM, canary, vms):
                hint = did_you_mean(canary, list(vms)) if len(vms) <= MOST_SUGGESTED else ""
                report.add(
                    group,
                    ("spec", "canary", index),
                    f"no VM is named {canary}",
                    hint or "declare it",
                )
            elif vm is not None and vm.what.group != name:
                report.add(
                    group,
                    ("spec", "canary", index),
                    f"{canary} is not a member of {name}",
                    f"it is declared at {report.where(vm, ('metadata', 'group'))}",
                )
