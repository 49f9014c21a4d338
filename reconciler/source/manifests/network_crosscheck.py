"""Checks the networks of all VMs against each other: no port, MAC, tap or address is claimed twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from reconciler.model.desired import VMSpec
from reconciler.model.machine import ANY_ADDRESS, PortForward
from reconciler.source.manifests.convert import derived_mac, port_place
from reconciler.source.manifests.crosscheck import VMs
from reconciler.source.manifests.declarations import Declared, Report
from reconciler.source.manifests.places import Loc

Claim = Literal["mac", "id", "address"]
WORDS: dict[Claim, str] = {"mac": "MAC", "id": "tap", "address": "address"}
NOTHING = ""
Taker = tuple[int, Declared[VMSpec], Loc]
"""A forwarded port: its position among all, the VM, and its place in the manifest."""


def check_networks(vms: VMs, report: Report) -> None:
    """Report MACs, taps and addresses that two interfaces claim."""
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
    """Interface index, manifest key and value of everything that must be unique."""
    for index, network in spec.user_interfaces:
        yield index, "mac", network.mac
    for tap in spec.taps:
        yield tap.interface, "mac", tap.mac
        yield tap.interface, "id", tap.name
        if tap.ip != NOTHING:
            yield tap.interface, "address", tap.ip


def _harmless(one: VMSpec, other: VMSpec, claim: Claim, value: str) -> bool:
    """Whether two derived MACs are equal by chance: user networks are private, so they never meet."""
    return claim == "mac" and all(
        any(n.mac == value == derived_mac(spec.name, at) for at, n in spec.user_interfaces)
        for spec in (one, other)
    )


@dataclass(slots=True)
class Takers:
    """The claims on one port of the host: the first of all, and the first for each address."""

    first: Taker
    addresses: dict[str, Taker] = field(default_factory=dict)

    def before(self, address: str) -> Taker | None:
        """The first claim that conflicts with this address, or None.

        Equal ports on different addresses do not conflict; the wildcard address conflicts with all.
        """
        if address == ANY_ADDRESS:
            return self.first
        found = [self.addresses[a] for a in (address, ANY_ADDRESS) if a in self.addresses]
        return min(found, key=lambda taker: taker[0], default=None)


def check_ports(vms: VMs, report: Report) -> None:
    """Report ports of the host that two forwards claim."""
    taken: dict[tuple[str, int], Takers] = {}
    count = 0
    for vm in vms.values():
        for loc, forward in _forwards_of(vm.what):
            count += 1
            taker = (count, vm, loc)
            takers = taken.setdefault((forward.protocol, forward.host), Takers(taker))
            if takers.addresses and (first := takers.before(forward.address)) is not None:
                _, other, other_loc = first
                whose = "" if other is vm else f" by {other.what.name}"
                report.add(
                    vm, loc, f"{forward.protocol} port {forward.host} of the host is taken{whose}",
                    f"first declared at {report.where(other, other_loc)}",
                )  # fmt: skip
            takers.addresses.setdefault(forward.address, taker)


def _forwards_of(spec: VMSpec) -> Iterator[tuple[Loc, PortForward]]:
    for index, network in spec.user_interfaces:
        for number, forward in enumerate(network.forwards):
            yield port_place(spec, index, number), forward
