"""What guests take and do, as series: a VM without a guest, or one that cannot tell, has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reconciler.metrics.exposition import family, quoted
from reconciler.metrics.process_usage import Usage, usages
from reconciler.model.guest_reports import GuestFigures
from reconciler.model.status import VMStatus

PROCESS: tuple[tuple[str, str, str, Callable[[Usage], float | None]], ...] = (
    ("cpu_seconds_total", "counter", "CPU time of its VMM process.", lambda u: u.cpu_seconds),
    ("resident_memory_bytes", "gauge", "Memory of its VMM process.", lambda u: u.resident_bytes),
    (
        "disk_read_bytes_total",
        "counter",
        "Read from disks by its VMM process.",
        lambda u: u.read_bytes,
    ),
    (
        "disk_written_bytes_total",
        "counter",
        "Written to disks by its VMM process.",
        lambda u: u.written_bytes,
    ),
)
"""Read from /proc at each scrape."""

ASKED: tuple[tuple[str, str, str, Callable[[GuestFigures], float | None]], ...] = (
    (
        "memory_bytes",
        "gauge",
        "What its guest has: its memory less what the balloon holds.",
        lambda f: f.memory.given if f.memory else None,
    ),
    (
        "memory_available_bytes",
        "gauge",
        "What programs of its guest could still take, by the guest's own word.",
        lambda f: f.memory.available if f.memory else None,
    ),
    (
        "network_received_bytes_total",
        "counter",
        "Received by its guest since it was started.",
        lambda f: f.traffic.received_bytes if f.traffic else None,
    ),
    (
        "network_sent_bytes_total",
        "counter",
        "Sent by its guest since it was started.",
        lambda f: f.traffic.sent_bytes if f.traffic else None,
    ),
    (
        "network_packets_total",
        "counter",
        "Received and sent by its guest since it was started.",
        lambda f: f.traffic.received_packets + f.traffic.sent_packets if f.traffic else None,
    ),
)
"""Asked every half minute, of one guest after the other."""


def guest_lines(
    vms: tuple[VMStatus, ...], figures: Callable[[VMStatus], GuestFigures | None]
) -> Iterator[str]:
    """The lines of all series about guests.

    `figures` answers what is known of a VM's guest, None if nothing is.
    """
    used = usages(vms)
    labels: dict[str, str] = {vm.name: f"vm={quoted(vm.name)}" for vm in vms}
    for name, kind, text, of_process in PROCESS:
        taken = ((labels[vm], of_process(usage)) for vm, usage in used.items())
        series = [f"{{{of}}} {value}" for of, value in taken if value is not None]
        yield from family(f"vm_{name}", kind, text, series)
    asked = [(labels[vm.name], found) for vm in vms if (found := figures(vm)) is not None]
    for name, kind, text, of_guest in ASKED:
        values = ((of, of_guest(found)) for of, found in asked)
        series = [f"{{{of}}} {value}" for of, value in values if value is not None]
        yield from family(f"vm_{name}", kind, text, series)
    yield from family(
        "vm_disk_operations_total",
        "counter",
        "What its guest asked of its disks since it was started; asked of the VMM every half minute.",
        [
            f'{{{of},op="{op}"}} {count}'
            for of, found in asked
            if found.disks is not None
            for op, count in (("read", found.disks.reads), ("write", found.disks.writes))
        ],
    )
