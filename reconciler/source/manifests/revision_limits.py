"""How much one revision may declare; all work on it afterwards is bounded by that."""

from __future__ import annotations

from reconciler.model.desired import VMSpec
from reconciler.source.manifests.convert import GroupDraft
from reconciler.source.manifests.declarations import Declared, Report, T

MOST_VMS = 10_000
"""Of a revision; and as many groups."""
MOST_FORWARDS = 20_000
"""Of all VMs of a revision together."""


def within_caps(
    vms: list[Declared[VMSpec]], groups: list[Declared[GroupDraft]], report: Report
) -> tuple[list[Declared[VMSpec]], list[Declared[GroupDraft]]]:
    """What is judged together; what is beyond the bounds is told once, with its number."""
    forwards = 0
    kept: list[Declared[VMSpec]] = []
    for vm in vms[:MOST_VMS]:
        forwards += sum(len(network.forwards) for network in vm.what.networks)
        if forwards > MOST_FORWARDS:
            break
        kept.append(vm)
    if len(vms) > MOST_VMS:
        beyond(vms[MOST_VMS], f"{MOST_VMS} VMs", len(vms) - MOST_VMS, report)
    elif len(kept) < len(vms):
        count = len(vms) - len(kept)
        beyond(vms[len(kept)], f"{MOST_FORWARDS} forwarded ports", count, report)
    if len(groups) > MOST_VMS:
        beyond(groups[MOST_VMS], f"{MOST_VMS} groups", len(groups) - MOST_VMS, report)
    return kept, groups[:MOST_VMS]


def beyond(first: Declared[T], bound: str, others: int, report: Report) -> None:
    report.add(
        first, (), f"the revision has more than {bound}: this document and {others - 1} more are too many",
        "let another host have some of them, by another source.path",
    )  # fmt: skip
    report.legible = False  # what was left out may be named by what was not
