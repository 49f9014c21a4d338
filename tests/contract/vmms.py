"""Programs that stand in for a VMM: cheap, real processes with one habit each."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

from reconciler.host import layout
from reconciler.model.machine import Disk, Launch, Machine, Slot
from reconciler.model.names import GenerationNumber, InstanceId, VMName

LIVES = ("/bin/sleep", "1000")
EXITS_WITH_3 = ("/bin/sh", "-c", "exit 3")
PANICS = (
    "/bin/sh",
    "-c",
    (
        r"printf 'Booting\r\n\033[31m[    1.2] Kernel panic - not syncing: init is gone\033[0m\n'"
        r" >> console.log; exit 1"
    ),
)
FAILS_AT_ONCE = ("/bin/sh", "-c", "echo 'cannot bind port 8080' >&2; exit 1")
LACKS_A_PORT = (
    "/bin/sh",
    "-c",
    "echo \"qemu-system-x86_64: Could not set up host forwarding rule 'tcp::80-:80'\" >&2; exit 1",
)
IGNORES_SIGTERM = (
    sys.executable,
    "-SEc",
    (
        "import signal, pathlib; signal.signal(15, signal.SIG_IGN);"
        " pathlib.Path('run/ready').touch(); signal.pause()"
    ),
)
IS_NOT_THERE = ("/nowhere/qemu",)


def a_guest(
    root: Path,
    argv: tuple[str, ...] = LIVES,
    name: str = "web",
    number: int = 1,
    slot: Slot = 1,
    volumes: tuple[Disk, ...] = (),
) -> tuple[Machine, Launch]:
    """What one start of a guest takes; only its names matter to a supervisor."""
    machine = Machine(
        vm=VMName(name),
        generation=GenerationNumber(number),
        instance=InstanceId(f"{name}-g{number}-{uuid.uuid4().hex[:8]}"),
        vcpu=1,
        memory_mib=64,
        accel="tcg",
        tsc_khz=None,
        kernel="/kernel",
        initrd="/initrd",
        cmdline=(),
        layers=(),
        volumes=volumes,
        mounts=(),
        networks=(),
        folder=str(layout.guest_folder(root / name, slot)),
        slot=slot,
    )
    return machine, Launch(argv=argv, cwd=machine.folder)
