"""What the host can give at this moment: memory, disk, ports, and the accelerator that works."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from reconciler.clock import Clock
from reconciler.errors import DriverError
from reconciler.model.machine import HostPort
from reconciler.model.observed import Fingerprint, HostFacts
from reconciler.vmm.port_availability import listening_ports, refused_ports
from reconciler.vmm.registry import DriverRegistry

log = logging.getLogger(__name__)

PROC = Path("/proc")
MOST_CPUINFO_BYTES = 4096
MIB = 1024 * 1024


class LocalHost:
    """Facts of the host that the daemon runs on. VMMs are looked at once."""

    def __init__(
        self, state: Path, drivers: DriverRegistry, clock: Clock, proc: Path = PROC
    ) -> None:
        self._state = state
        self._drivers = drivers
        self._clock = clock
        self._proc = proc
        self._tsc_khz = tsc_khz(proc / "cpuinfo")
        self._vmms: Mapping[str, Fingerprint] | None = None
        self._looking = asyncio.Lock()

    async def facts(self, wanted: frozenset[HostPort] = frozenset()) -> HostFacts:
        """See the engine's interface `Host`."""
        vmms = await self._fingerprints()
        try:
            return await asyncio.to_thread(self._look, vmms, wanted)
        except (OSError, ValueError) as error:
            raise DriverError(f"the host does not say what it has: {error}", kind="host") from error

    async def _fingerprints(self) -> Mapping[str, Fingerprint]:
        async with self._looking:
            if self._vmms is None:
                self._vmms = await self._drivers.fingerprints(
                    self._state, self._clock.now().boot_id
                )
                for name, found in self._vmms.items():
                    fields = {"program": found.path, "version": found.version, "accel": found.accel}
                    log.info("hypervisor %s", name, extra={"fields": fields})
        return self._vmms

    def _look(self, vmms: Mapping[str, Fingerprint], wanted: Iterable[HostPort]) -> HostFacts:
        return HostFacts(
            memory_available_mib=memory_available_mib(self._proc / "meminfo"),
            disk_free_mib=shutil.disk_usage(self._state).free // MIB,
            tsc_khz=self._tsc_khz,
            vmms=vmms,
            listening=listening_ports(self._proc / "net" / name for name in ("tcp", "tcp6")),
            refused=refused_ports(wanted),
        )


def memory_available_mib(meminfo: Path) -> int:
    for line in meminfo.read_bytes().splitlines():
        key, _, value = line.partition(b":")
        if key == b"MemAvailable":
            return int(value.split()[0]) // 1024
    raise ValueError(f"no MemAvailable in {meminfo}")


def tsc_khz(cpuinfo: Path) -> int | None:
    """The host's TSC frequency: Linux derives bogomips from it, two for each MHz."""
    try:
        with cpuinfo.open("rb") as file:
            head = file.read(MOST_CPUINFO_BYTES)
    except OSError:
        return None
    for line in head.splitlines():
        key, _, value = line.partition(b":")
        if key.strip() == b"bogomips":
            with contextlib.suppress(ValueError):
                return round(float(value) * 500) or None
    return None
