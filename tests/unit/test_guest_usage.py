"""What guests take of the host, read from real processes."""

import os
import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families

from reconciler.metrics.host_series import render
from reconciler.metrics.process_usage import boot_wall, usage_of, usages
from tests.unit.control.fake_operator import fleet, vm
from tests.unit.dashboards.exposed import EVERYTHING, start_of

BUSY = (
    "import os, sys; [i * i for i in range(2_000_000)]; print('done', flush=True); sys.stdin.read()"
)


def test_a_guests_processor_memory_and_disks_are_told() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as guest:
        assert guest.stdout is not None
        guest.stdout.readline()
        usage = usage_of(guest.pid, start_of(guest.pid), boot_wall())
        guest.communicate()
    assert usage is not None
    assert 0.02 < usage.cpu_seconds < 60
    assert 1 << 20 < usage.resident_bytes < 1 << 30
    assert usage.read_bytes is not None
    assert usage.written_bytes is not None


def test_a_vm_without_a_guest_and_a_pid_that_is_somebody_elses_leave_no_series() -> None:
    none = vm("stopped", pid=None, started_wall=None)
    reused = vm("reused", pid=os.getpid(), started_wall=start_of(os.getpid()) - 3600)
    gone = vm("gone", pid=2**22 + 1)
    alive = vm("alive", pid=os.getpid(), started_wall=start_of(os.getpid()))
    assert set(usages([none, reused, gone, alive])) == {"alive"}


def test_a_vm_with_a_guest_has_at_most_thirty_series() -> None:
    restarts = tuple((reason, 3) for reason in ("crash", "manual", "rollback", "rollout"))
    one = vm(
        "web",
        pid=os.getpid(),
        started_wall=start_of(os.getpid()),
        restarts=restarts,
        suspended=True,
    )
    text = render(fleet(one), {}, lambda _: EVERYTHING).decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    ours = [s for s in samples if "web" in (s.labels.get("vm"), s.labels.get("name"))]
    assert len(ours) == 30
