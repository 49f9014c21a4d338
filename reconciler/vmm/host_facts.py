"""What the host can give at this moment: memory, disk, ports, and the accelerator that works."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

from reconciler.clock import Clock
from reconciler.config import QemuConfig
from reconciler.errors import DriverError
from reconciler.host import layout
from reconciler.model.machine import Accel, HostPort
from reconciler.model.observed import HostFacts
from reconciler.vmm.port_availability import listening_ports, refused_ports
from reconciler.vmm.qemu.accel import choose_accel, tsc_khz

PROC = Path("/proc")
MIB = 1024 * 1024


class LocalHost:
    """Facts of the host that the daemon runs on. The accelerator is asked for once."""

    def __init__(self, state: Path, qemu: QemuConfig, clock: Clock, proc: Path = PROC) -> None:
        self._state = state
        self._qemu = qemu
        self._clock = clock
        self._proc = proc
        self._tsc_khz = tsc_khz(proc / "cpuinfo")
        self._accel: Accel | None = None
        self._proving = asyncio.Lock()

    async def facts(self, wanted: frozenset[HostPort] = frozenset()) -> HostFacts:
        """See the engine's port `Host`."""
        accel = await self._choose()
        try:
            return await asyncio.to_thread(self._look, accel, wanted)
        except (OSError, ValueError) as error:
            raise DriverError(f"the host does not say what it has: {error}", kind="host") from error

    async def _choose(self) -> Accel:
        async with self._proving:
            if self._accel is None:
                boot_id = self._clock.now().boot_id
                self._accel = await choose_accel(self._qemu, boot_id, layout.accel(self._state))
        return self._accel

    def _look(self, accel: Accel, wanted: Iterable[HostPort]) -> HostFacts:
        return HostFacts(
            memory_available_mib=memory_available_mib(self._proc / "meminfo"),
            disk_free_mib=shutil.disk_usage(self._state).free // MIB,
            accel=accel,
            tsc_khz=self._tsc_khz,
            listening=listening_ports(self._proc / "net" / name for name in ("tcp", "tcp6")),
            refused=refused_ports(wanted),
        )


def memory_available_mib(meminfo: Path) -> int:
    for line in meminfo.read_bytes().splitlines():
        key, _, value = line.partition(b":")
        if key == b"MemAvailable":
            return int(value.split()[0]) // 1024
    raise ValueError(f"no MemAvailable in {meminfo}")
