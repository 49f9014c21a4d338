"""Checks the documents of a revision against each other: numbers, names, order, renames.

Networks and groups have files of their own. A problem names both places.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from reconciler.model.desired import VMSpec
from reconciler.model.names import GroupName, VMName
from reconciler.source.manifests.convert import GroupDraft
from reconciler.source.manifests.declarations import NAME, Declared, Report, T
from reconciler.source.manifests.places import Loc

VMs = Mapping[VMName, Declared[VMSpec]]
Groups = Mapping[GroupName, Declared[GroupDraft]]
VM, GROUP = "MicroVM", "Group"
AFTER: Loc = ("spec", "update", "after")
MOVED: Loc = ("metadata", "movedFrom")
MEMBER: Loc = ("metadata", "group")
CANARY: Loc = ("spec", "canary")
CANARIES = "~"
"""Prefix of the node that stands for a group's canaries in the wait graph; no name has this character."""
MOST_SHOWN = 8
"""Members of a cycle that an error lists."""
MOST_VMS = 10_000
"""VMs of a revision, and as many groups. All later work is bounded by these limits."""
MOST_FORWARDS = 20_000
"""Forwarded ports of all VMs of a revision together."""


def unique(kind: str, declared: Iterable[Declared[T]], report: Report) -> dict[str, Declared[T]]:
    """Documents by name. Of two with the same name the first in file order is kept, the other reported."""
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


def check_order(vms: VMs, groups: Groups, report: Report) -> None:
    """Report `after` that names no VM, and cycles of VMs that wait for each other or for canaries."""
    for vm in vms.values():
        for index, name in enumerate(vm.what.update.after):
            if report.lacks(VM, name, vms):
                hint = report.suggestion(name, vms) or "declare it"
                report.add(vm, (*AFTER, index), f"no VM is named {name}", hint)
    for cycle in itertools.islice(cycles(awaited(vms, groups)), report.room + 1):
        first, second = vms[VMName(cycle[0])], VMName(cycle[1 % len(cycle)])
        links = zip(cycle[1:MOST_SHOWN], [*cycle[2:], cycle[0]], strict=False)
        others = [_link(node, following, vms, groups, report) for node, following in links]
        shown = " -> ".join(map(_node_in_words, [*cycle[:MOST_SHOWN], cycle[0]]))
        report.add(
            first, (*AFTER, first.what.update.after.index(second)), f"a cycle: {shown}",
            f"remove one of them ({', '.join(others)})",
        )  # fmt: skip


def awaited(vms: VMs, groups: Groups) -> dict[str, tuple[str, ...]]:
    """The wait graph: for each VM the VMs of its `after`, and the canaries of its group.

    A group's canaries are one node: the edges stay linear in the number of VMs, not quadratic.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, group in groups.items():
        members = [c for c in group.what.spec.canary if c in vms and vms[c].what.group == name]
        found[CANARIES + name] = tuple(members)
    for vm in vms.values():
        canaries = CANARIES + vm.what.group
        waits = canaries in found and vm.what.name not in found[canaries]
        after: tuple[str, ...] = vm.what.update.after
        found[vm.what.name] = (*after, canaries) if waits else after
    return found


def _node_in_words(node: str) -> str:
    return f"canary of {node.removeprefix(CANARIES)}" if node.startswith(CANARIES) else node


def _link(node: str, following: str, vms: VMs, groups: Groups, report: Report) -> str:
    """The field and place that make one node of a cycle wait for the next."""
    if node.startswith(CANARIES):
        group = groups[GroupName(node.removeprefix(CANARIES))]
        return f"spec.canary at {report.where(group, CANARY)}"
    at = MEMBER if following.startswith(CANARIES) else AFTER
    return f"{node} at {report.where(vms[VMName(node)], at)}"


def cycles(after: Mapping[str, tuple[str, ...]]) -> Iterator[list[str]]:
    """Cycles of the graph, one for each back edge, in a depth-first walk without recursion."""
    done: set[str] = set()
    for root in sorted(name for name, names in after.items() if names):
        path: dict[str, Iterator[str]] = {}
        at: str | None = root if root not in done else None
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
                if len(cycle) > 1:  # a VM after itself is refused with its document
                    yield _turned(cycle)
            elif following not in done:
                at = following


def _turned(cycle: list[str]) -> list[str]:
    """The cycle rotated to begin with the first VM, by name, that waits by `after`.

    There is one: edges to and from a canary node cannot form a cycle alone.
    """
    followed = zip(cycle, [*cycle[1:], cycle[0]], strict=True)
    first = min(one for one, other in followed if not (one + other).count(CANARIES))
    pivot = cycle.index(first)
    return cycle[pivot:] + cycle[:pivot]


def check_moves(vms: VMs, report: Report) -> None:
    """Report a former name that is still declared, or that two VMs claim."""
    claimed: dict[VMName, Declared[VMSpec]] = {}
    for vm in vms.values():
        old = vm.what.moved_from
        if old is None or old == vm.what.name:  # refused with its document
            continue
        if old in vms:
            report.add(
                vm, MOVED, f"metadata.movedFrom: {old} is still declared",
                f"remove it at {report.where(vms[old])}, or this field",
            )  # fmt: skip
        elif (other := claimed.setdefault(old, vm)) is not vm:
            report.add(
                vm, MOVED, f"metadata.movedFrom: {old} can become one VM only",
                f"{other.what.name} takes it over at {report.where(other, MOVED)}",
            )  # fmt: skip


def within_caps(
    vms: list[Declared[VMSpec]], groups: list[Declared[GroupDraft]], report: Report
) -> tuple[list[Declared[VMSpec]], list[Declared[GroupDraft]]]:
    """The documents within the limits; one problem reports how many are beyond them."""
    forwards = 0
    kept: list[Declared[VMSpec]] = []
    for vm in vms[:MOST_VMS]:
        forwards += sum(len(network.forwards) for network in vm.what.networks)
        if forwards > MOST_FORWARDS:
            break
        kept.append(vm)
    if len(vms) > MOST_VMS:
        _beyond(vms[MOST_VMS], f"{MOST_VMS} VMs", len(vms) - MOST_VMS, report)
    elif len(kept) < len(vms):
        count = len(vms) - len(kept)
        _beyond(vms[len(kept)], f"{MOST_FORWARDS} forwarded ports", count, report)
    if len(groups) > MOST_VMS:
        _beyond(groups[MOST_VMS], f"{MOST_VMS} groups", len(groups) - MOST_VMS, report)
    return kept, groups[:MOST_VMS]


def _beyond(first: Declared[T], bound: str, others: int, report: Report) -> None:
    report.add(
        first, (), f"the revision has more than {bound}: this document and {others - 1} more are too many",
        "move some of them to another host, with another source.path",
    )  # fmt: skip
    report.legible = False  # documents that were kept may name some that were left out
