"""Whether a guest's taps can be made: the state of bridges, and owners of names."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from reconciler.model.desired import VMSpec
from reconciler.model.machine import Tap
from reconciler.model.names import VMName
from reconciler.planning.context import PlanBuilder, VMContext


def obstacle(plan: PlanBuilder, vm: VMContext, spec: VMSpec) -> str | None:
    """Why the taps of this spec cannot be made now; empty if they can."""
    if spec.taps and plan.observed.links.hindrance:
        return plan.observed.links.hindrance
    whys = (_hindrance(plan, vm, tap) or misplaced(plan, spec, tap) for tap in spec.taps)
    return next(filter(None, whys), None)


def _hindrance(plan: PlanBuilder, vm: VMContext, tap: Tap) -> str:
    there = plan.observed.links.found.get(tap.name)
    if why := lacking(plan, tap):
        return why
    if there is None or there.owner == vm.name:
        return ""
    if there.owner is None:
        return (
            f"interface {tap.name} is there, and not ours: it is left as it is; remove it, or give"
            f" interfaces[{tap.interface}] an id"
        )
    used = in_use(plan, there.owner)
    kept = used is None or tap.name in used or there.owner in plan.observed.busy
    return f"tap {tap.name} is {there.owner}'s still" if kept else ""


def lacking(plan: PlanBuilder, tap: Tap) -> str:
    """What is wrong with a tap's bridge; empty if nothing."""
    bridge = plan.observed.links.found.get(tap.bridge)
    if tap.bridge not in plan.policy.bridges:
        return f"bridge {tap.bridge} is not among policy.bridges of the config any more"
    if bridge is None:
        return f"the host has no bridge {tap.bridge}: ip link add {tap.bridge} type bridge"
    if bridge.kind != "bridge":
        return f"interface {tap.bridge} of the host is no bridge"
    return ""


def misplaced(plan: PlanBuilder, spec: VMSpec, tap: Tap) -> str:
    """Why a tap's address must not be asked: another host would be asked in the guest's place."""
    bridge = plan.observed.links.found.get(tap.bridge)
    if not tap.address or bridge is None:
        return ""
    where = f"interfaces[{tap.interface}].address {tap.ip}"
    if not bridge.addresses:
        if not any(getattr(check, "host", "") == tap.ip for check in spec.health.checks):
            return ""
        return (
            f"{where}: bridge {tap.bridge} has no address, so that no check can reach it by the bridge:"
            f" ip address add 10.20.0.1/24 dev {tap.bridge}, in the guest's network"
        )
    own = [IPv4Interface(address) for address in bridge.addresses]
    ip = IPv4Address(tap.ip)
    networks = ", ".join(str(one.network) for one in own)
    inside = [one for one in own if ip in one.network]
    if not inside:
        return (
            f"{where} is in no network of bridge {tap.bridge} ({networks}), so it is asked nothing and"
            " not started: correct the address, or give the bridge one of that network"
        )
    if any(ip == one.ip for one in own):
        return f"{where} is the host's own on bridge {tap.bridge}: give the guest another one"
    if any(ip in _ends(one.network) for one in inside):
        return f"{where} means all hosts of {networks}: give the guest another one"
    return ""


def _ends(network: IPv4Network) -> tuple[IPv4Address, ...]:
    """Network and broadcast addresses; a network of two or fewer addresses has none."""
    return (network.network_address, network.broadcast_address) if network.prefixlen < 31 else ()  # noqa: PLR2004


def in_use(plan: PlanBuilder, vm: VMName) -> set[str] | None:
    """Names of the taps of a VM's living guests; None: unknown."""
    record = plan.vms[vm].record if vm in plan.vms else None
    used: set[str] = set()
    for guest in plan.observed.guests.get(vm, ()):
        if not guest.alive:
            continue
        generation = record.generation(guest.generation) if record else None
        if generation is None:
            return None
        used |= {tap.name for tap in generation.spec.taps}
    return used
