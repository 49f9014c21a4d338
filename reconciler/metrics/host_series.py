"""The present state of the fleet as series, written at every scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from reconciler.metrics import label_sets
from reconciler.metrics.exposition import family, quoted, state_set, text_of
from reconciler.metrics.guest_series import guest_lines
from reconciler.metrics.image_meter import store_lines
from reconciler.model.guest_reports import GuestFigures
from reconciler.model.status import (
    GroupStatus,
    HostStatus,
    RevisionStatus,
    SourceStatus,
    VMStatus,
)


def render(
    status: HostStatus,
    rollbacks: Mapping[tuple[str, str, str], int],
    figures: Callable[[VMStatus], GuestFigures | None] = lambda _: None,
    *,
    applied_seen: float = 0.0,
    openmetrics: bool = False,
) -> bytes:
    """All series that say how things are, as text of the exposition format 0.0.4 or of OpenMetrics."""
    lines = [
        *_host(status),
        *_source_lines(status),
        *_revision_lines(status, applied_seen),
        *_result_lines(status.revision),
        *_wait_lines(status.vms),
        *_group_lines(status.groups, _blocked_by_group(status.vms)),
        *_rollback_lines(status.groups, rollbacks),
        *store_lines(status.store),
        *_vm_lines(status.vms),
        *guest_lines(status.vms, figures),
    ]
    return text_of(lines, openmetrics=openmetrics)


def _host(status: HostStatus) -> Iterator[str]:
    def suspended() -> Iterator[str]:
        yield f'{{scope="host",name=""}} {int(status.suspended)}'
        for group in status.groups:
            yield f'{{scope="group",name={quoted(group.name)}}} {int(group.state == "suspended")}'

    yield from family(
        "suspended",
        "gauge",
        "1 while nothing is done here; of a VM its sync status says so.",
        suspended(),
    )
    yield from family(
        "manifest_errors",
        "gauge",
        "Problems of the newest revision, which was refused for them.",
        [f" {status.revision.problem_count}"],
    )


def _source_lines(status: HostStatus) -> Iterator[str]:
    labelled = [(f"source={quoted(source.name)}", source) for source in status.sources]

    def gauge(name: str, text: str, value: Callable[[SourceStatus], float]) -> Iterator[str]:
        return family(
            f"source_{name}", "gauge", text, [f"{{{of}}} {value(s)!r}" for of, s in labelled]
        )

    yield from gauge(
        "last_success_timestamp_seconds",
        "When it was last read; 0: never.",
        lambda source: source.last_success_wall or 0,
    )
    yield from gauge("consecutive_failures", "Failed looks in a row.", lambda s: s.failures)
    # Exactly one live series a source: the commit before leaves with the scrape that brings the next.
    commit = status.revision.observed
    yield from family(
        "source_revision_info",
        "gauge",
        "1; the newest valid commit.",
        [f"{{{of},commit={quoted(commit)}}} 1" for of, _ in labelled if commit],
    )


def _revision_lines(status: HostStatus, applied_seen: float) -> Iterator[str]:
    """By when each was first seen here: what a commit says of its own time is its author's word."""
    revision = status.revision
    valid = revision.seen_wall or 0.0
    stages = {
        "fetched": max(valid, revision.rejected_wall or 0.0),
        "validated": valid,
        "applied": applied_seen,
    }
    yield from family(
        "source_revision_timestamp_seconds",
        "gauge",
        "When the newest revision was first seen that came so far; 0: none that this daemon knows.",
        [
            f'{{source={quoted(source.name)},stage="{stage}"}} {wall!r}'
            for source in status.sources
            for stage, wall in stages.items()
        ],
    )


def _result_lines(revision: RevisionStatus) -> Iterator[str]:
    yield from family(
        "revision_result",
        "gauge",
        "1 for what became of the newest revision, by what it changed.",
        [
            f'{{result="{result}"}} {int(revision.result == result)}'
            for result in label_sets.RESULTS
        ],
    )


def _wait_lines(vms: Iterable[VMStatus]) -> Iterator[str]:
    counts = dict.fromkeys(label_sets.WAIT_KINDS, 0)
    beside = 0
    for vm in vms:
        beside += vm.candidate is not None
        for kind in {wait.kind for wait in vm.waits}:
            counts[kind] += 1
    yield from family(
        "waiting_vms",
        "gauge",
        "VMs that wait, by what for; one may wait for several things.",
        [f'{{kind="{kind}"}} {count}' for kind, count in counts.items()],
    )
    yield from family(
        "candidates", "gauge", "Guests on trial beside one that serves.", [f" {beside}"]
    )


def _blocked_by_group(vms: Iterable[VMStatus]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for vm in vms:
        counts[vm.group] = counts.get(vm.group, 0) + vm.blocked
    return counts


def _group_lines(groups: tuple[GroupStatus, ...], blocked: dict[str, int]) -> Iterator[str]:
    labelled = [(f"group={quoted(group.name)}", group) for group in groups]

    def gauge(name: str, text: str, value: Callable[[GroupStatus], int]) -> Iterator[str]:
        return family(name, "gauge", text, [f"{{{of}}} {value(g)}" for of, g in labelled])

    yield from family(
        "rollout_state",
        "gauge",
        "State of a group.",
        state_set(((of, g.state) for of, g in labelled), "state", label_sets.ROLLOUT_STATES),
    )
    yield from gauge("unavailable_vms", "Members that do not serve.", lambda g: g.unavailable)
    yield from gauge("unavailable_budget", "maxUnavailable.", lambda g: g.max_unavailable)
    yield from gauge("rollout_pending_vms", "Members yet to move.", lambda g: g.pending)
    yield from family(
        "rollout_deadline_timestamp_seconds",
        "gauge",
        "By when the next member must be healthy; absent while a group rests or has no deadline.",
        [f"{{{of}}} {g.deadline_wall!r}" for of, g in labelled if g.deadline_wall is not None],
    )
    # VMs without a group are counted under the empty name.
    counts = {group.name: 0 for group in groups} | blocked
    yield from family(
        "blocked_generations",
        "gauge",
        "Condemned digests that are remembered.",
        [f"{{group={quoted(name)}}} {count}" for name, count in counts.items()],
    )


def _rollback_lines(
    groups: tuple[GroupStatus, ...], counted: Mapping[tuple[str, str, str], int]
) -> Iterator[str]:
    """Every cause and end of every group from its start, or the first one would be no increase."""
    names = dict.fromkeys([*(group.name for group in groups), ""])
    tails = [(key, f',reason="{key[0]}",result="{key[1]}"}} ') for key in label_sets.ROLLBACKS]
    yield from family(
        "rollbacks_total",
        "counter",
        "Ways back of VMs to a committed generation.",
        [
            f"{{group={quoted(name)}{tail}{counted.get((name, *key), 0)}"
            for name in names
            for key, tail in tails
        ],
    )


_LabelledVMs = Sequence[tuple[str, VMStatus]]
"""Each VM after the label that names it."""


def _vm_lines(vms: tuple[VMStatus, ...]) -> Iterator[str]:
    labelled = [(f"vm={quoted(vm.name)}", vm) for vm in vms]
    yield from _vm_states(labelled)
    yield from _vm_health(labelled)
    yield from _vm_generations(labelled)
    yield from _vm_starts(labelled)


def _vm_states(labelled: _LabelledVMs) -> Iterator[str]:
    yield from family(
        "vm_info",
        "gauge",
        "1; what a VM is.",
        [
            f"{{{of},group={quoted(vm.group)},hypervisor={quoted(vm.hypervisor)}}} 1"
            for of, vm in labelled
        ],
    )
    yield from family(
        "vm_state",
        "gauge",
        "State of a VM.",
        state_set(((of, vm.state) for of, vm in labelled), "state", label_sets.VM_STATES),
    )
    yield from family(
        "vm_sync_status",
        "gauge",
        "Whether a VM is as desired.",
        state_set(((of, vm.sync) for of, vm in labelled), "status", label_sets.SYNC_STATES),
    )


def _vm_health(labelled: _LabelledVMs) -> Iterator[str]:
    # No sample of a VM whose guest was not asked yet: nothing is known of its health.
    yield from family(
        "vm_healthy",
        "gauge",
        "Whether it may serve: its checks pass, and it is in no crash loop.",
        [f"{{{of}}} {int(vm.healthy)}" for of, vm in labelled if not vm.unasked],
    )
    # No sample of a healthy VM, which is alive.
    yield from family(
        "vm_live",
        "gauge",
        "Of a VM that may not serve: 0 if its guest must be restarted, 1 if that would not help.",
        [
            f"{{{of}}} {int(vm.alive)}"
            for of, vm in labelled
            if vm.alive is not None and not vm.healthy
        ],
    )
    yield from family(
        "vm_crashes",
        "gauge",
        "Crashes in a row, until ten steady minutes; absent without any.",
        [f"{{{of}}} {vm.crashes}" for of, vm in labelled if vm.crashes],
    )


def _vm_generations(labelled: _LabelledVMs) -> Iterator[str]:
    def gauge(name: str, text: str, value: Callable[[VMStatus], int | None]) -> Iterator[str]:
        samples = [f"{{{of}}} {value(vm) or 0}" for of, vm in labelled]
        return family(f"vm_{name}_generation", "gauge", text, samples)

    yield from gauge("running", "What runs; 0: nothing.", lambda vm: vm.generation.running)
    yield from gauge("desired", "What should run; 0: none.", lambda vm: vm.generation.desired)
    yield from gauge("last_good", "Newest committed; 0: none.", lambda vm: vm.generation.last_good)


def _vm_starts(labelled: _LabelledVMs) -> Iterator[str]:
    yield from family(
        "vm_start_timestamp_seconds",
        "gauge",
        "When its guest was started; absent while none runs.",
        [f"{{{of}}} {vm.started_wall!r}" for of, vm in labelled if vm.started_wall is not None],
    )
    yield from family("vm_restarts_total", "counter", "Guests started again.", _restarts(labelled))


def _restarts(labelled: Iterable[tuple[str, VMStatus]]) -> Iterator[str]:
    none = dict.fromkeys(label_sets.RESTART_REASONS, 0)
    for of, vm in labelled:
        counts = none | dict(vm.restarts) if vm.restarts else none
        for reason, count in counts.items():
            yield f"{{{of},reason={quoted(reason)}}} {count}"
