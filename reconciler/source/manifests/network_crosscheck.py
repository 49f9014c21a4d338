"""What VMs get wrong together about their networks: MACs, taps and addresses that two of them claim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from reconciler.model.desired import VMSpec
from reconciler.source.manifests.convert import derived_mac
from reconciler.source.manifests.crosscheck import VMs
from reconciler.source.manifests.declarations import Declared, Report

Claim = Literal["mac", "id", "address"]
WORDS: dict[Claim, str] = {"mac": "MAC", "id": "tap", "address": "address"}
NOTHING = ""


def check_networks(vms: VMs, report: Report) -> None:
    """No MAC, tap or address twice; both places are named."""
    taken: dict[tuple[Claim, str], tuple[Declared[VMSpec], int]] = {}
    for vm in vms.values():
        for index, claim, value in claims(vm.what):
            other, at = taken.setdefault((claim, value), (vm, index))
            if (other is vm and at == index) or _harmless(vm.what, other.what, claim, value):
                continue
            report.add(
                vm, ("spec", "interfaces", index, claim),
                f"{WORDS[claim]} {value} is taken by {other.what.name}",
                f"first declared at {report.where(other, ('spec', 'interfaces', at, claim))}",
            )  # fmt: skip


def claims(spec: VMSpec) -> Iterator[tuple[int, Claim, str]]:
    """What each interface takes for itself, by the manifest's keys."""
    for index, network in spec.user_interfaces:
        yield index, "mac", network.mac
    for tap in spec.taps:
        yield tap.interface, "mac", tap.mac
        yield tap.interface, "id", tap.name
        if tap.ip != NOTHING:
            yield tap.interface, "address", tap.ip


def _harmless(one: VMSpec, other: VMSpec, claim: Claim, value: str) -> bool:
    """Whether chance made two derived MACs equal, each in a user network, which nobody shares."""
    return claim == "mac" and all(
        any(n.mac == value == derived_mac(spec.name, at) for at, n in spec.user_interfaces)
        for spec in (one, other)
    )
