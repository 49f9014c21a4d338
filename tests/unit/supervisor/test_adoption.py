"""Finding a guest that an earlier daemon started, at an odd moment."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from reconciler.model.names import GenerationNumber, InstanceId, VMName
from reconciler.model.observed import Process
from reconciler.supervisor import guest_file, procfs
from reconciler.supervisor.guest_discovery import Adoption
from reconciler.supervisor.spawn import ProcessHandle

BECOMES_A_GUEST = "read go; exec env RECONCILER_INSTANCE=web-1 sleep 60"


@pytest.mark.shows(fault=14)
async def test_a_guest_in_the_middle_of_its_exec_is_adopted(tmp_path: Path) -> None:
    folder = tmp_path / "web"
    (folder / "run").mkdir(parents=True)
    with subprocess.Popen(  # noqa: ASYNC220 - ended here, and never waited for
        ["/bin/sh", "-c", BECOMES_A_GUEST], stdin=subprocess.PIPE, env={}
    ) as child:
        try:
            stat = procfs.stat_of(child.pid)
            assert stat is not None
            guest = Process(
                vm=VMName("web"),
                instance=InstanceId("web-1"),
                generation=GenerationNumber(1),
                pid=child.pid,
                start_time=stat.start_time,
                started_boot=1.0,
                hypervisor="qemu",
            )
            guest_file.write(folder, guest, "this boot")
            find = asyncio.create_task(asyncio.to_thread(Adoption("this boot").find, folder))
            assert child.stdin is not None
            child.stdin.write(b"\n")
            child.stdin.flush()
            found = await find
            assert isinstance(found, ProcessHandle)
            os.close(found.pidfd)
            assert found.process == guest
        finally:
            child.kill()
