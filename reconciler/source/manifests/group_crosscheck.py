"""Checks groups against their members and this host: membership, canaries, deadlines, time zones."""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from reconciler.model.desired import GroupSpec, VMSpec
from reconciler.model.names import GroupName
from reconciler.model.quantity import format_duration
from reconciler.source.manifests.crosscheck import CANARY, GROUP, MEMBER, VM, Groups, VMs
from reconciler.source.manifests.declarations import Declared, Report
from reconciler.source.manifests.error_messages import dotted
from reconciler.source.manifests.places import Loc

PROGRESS: Loc = ("spec", "progressDeadline")


def check_membership(vms: VMs, groups: Groups, report: Report) -> None:
    """Report groups that are not declared: a mistyped name would bypass windows, approval and budget."""
    for vm in vms.values():
        name = vm.what.group
        if name and report.lacks(GROUP, name, groups):
            hint = report.suggestion(name, groups)
            hint = hint if hint.startswith("did") else "declare it, as kind: Group"
            report.add(vm, MEMBER, f"no group is named {name}", hint)


def check_deadlines(vms: VMs, groups: Groups, report: Report) -> None:
    """Report a progress deadline that a healthy but slow member could exceed (Nomad has the same rule)."""
    if all(group.what.spec.progress_deadline is None for group in groups.values()):
        return
    slowest: dict[GroupName, Declared[VMSpec]] = {}
    for vm in vms.values():
        other = slowest.setdefault(vm.what.group, vm)
        if needed_by(vm.what) > needed_by(other.what):
            slowest[vm.what.group] = vm
    for name, group in groups.items():
        deadline, member = group.what.spec.progress_deadline, slowest.get(name)
        if deadline is None or member is None:
            continue
        soak = soaked_by(group.what.spec)
        most = needed_by(member.what) + soak
        if deadline <= most:
            place = report.where(member, ("spec", "health"))
            beside = "canarySoak and " if soak else ""
            report.add(
                group, PROGRESS,
                f"{dotted(PROGRESS)}: {format_duration(deadline)} is not longer than {beside}"
                f"startupDeadline and minHealthyTime of {member.what.name}",
                f"more than {format_duration(most)}, or lower those at {place}",
            )  # fmt: skip


def needed_by(spec: VMSpec) -> float:
    """Seconds that a new generation of a VM may take at most until it is committed."""
    return spec.health.startup_deadline + spec.health.min_healthy_time


def soaked_by(group: GroupSpec) -> float:
    """Seconds in which no member can become healthy because the canaries soak."""
    return group.canary_soak if group.canary else 0.0


def check_time_zones(groups: Groups, report: Report) -> None:
    """Report time zones that this host does not have."""
    for group in groups.values():
        for index, window in enumerate(group.what.spec.windows):
            if not is_known(window.time_zone):
                at = ("spec", "windows", index, "allow" if window.allow else "deny", "timeZone")
                hint = report.suggestion(window.time_zone, zones()) if report.room > 0 else ""
                report.add(
                    group, at, f"{dotted(at)}: this host knows no zone {window.time_zone}",
                    hint if hint.startswith("did") else "is the package tzdata installed?",
                )  # fmt: skip


@lru_cache(maxsize=1)
def zones() -> tuple[str, ...]:
    """Names of all time zones of the host. Cached, because listing them reads many folders."""
    return tuple(sorted(available_timezones()))


@lru_cache(maxsize=1024)
def is_known(zone: str) -> bool:
    """Whether the host has a time zone, by the same lookup that the planner uses."""
    try:
        ZoneInfo(zone)
    except (ValueError, KeyError, OSError):
        return False
    return True


def check_canaries(vms: VMs, groups: Groups, report: Report) -> None:
    """Report canaries that are not declared, or are members of another group."""
    for name, group in groups.items():
        for index, canary in enumerate(group.what.spec.canary):
            vm = vms.get(canary)
            if vm is None and report.lacks(VM, canary, vms):
                hint = report.suggestion(canary, vms) or "declare it"
                report.add(group, (*CANARY, index), f"no VM is named {canary}", hint)
            elif vm is not None and vm.what.group != name:
                report.add(
                    group, (*CANARY, index), f"{canary} is not a member of {name}",
                    f"it is declared at {report.where(vm, ('metadata', 'group'))}",
                )  # fmt: skip
