"""What the host can give at this moment: memory, disk, ports, and the accelerator that works."""

from __future__ import annotations

import asyncio
import shutil
import socket
import struct
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from reconciler.clock import Clock
from reconciler.config import QemuConfig
from reconciler.errors import DriverError
from reconciler.model.machine import ANY_ADDRESS, Accel, HostPort
from reconciler.model.observed import HostFacts
from reconciler.vmm.qemu.accel import choose_accel, tsc_khz

ACCEL_FILE = "accel.json"
PROC = Path("/proc")
MIB = 1024 * 1024
IPV4_BYTES = 4
MAPPED = bytes(10) + b"\xff\xff"
"""How an address of IPv4 begins that is written as one of IPv6."""
LISTEN = b"0A"
"""TCP_LISTEN, as /proc/net/tcp writes it."""


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

    async def facts(self) -> HostFacts:
        """Raises DriverError if the state directory or /proc cannot be read."""
        accel = await self._choose()
        try:
            return await asyncio.to_thread(self._look, accel)
        except (OSError, ValueError) as error:
            raise DriverError(f"the host does not say what it has: {error}", kind="host") from error

    async def _choose(self) -> Accel:
        async with self._proving:
            if self._accel is None:
                boot_id = self._clock.now().boot_id
                self._accel = await choose_accel(self._qemu, boot_id, self._state / ACCEL_FILE)
        return self._accel

    def _look(self, accel: Accel) -> HostFacts:
        return HostFacts(
            memory_available_mib=memory_available_mib(self._proc / "meminfo"),
            disk_free_mib=shutil.disk_usage(self._state).free // MIB,
            accel=accel,
            tsc_khz=self._tsc_khz,
            listening=listening_ports(self._proc / "net" / name for name in ("tcp", "tcp6")),
        )


def memory_available_mib(meminfo: Path) -> int:
    for line in meminfo.read_bytes().splitlines():
        key, _, value = line.partition(b":")
        if key == b"MemAvailable":
            return int(value.split()[0]) // 1024
    raise ValueError(f"no MemAvailable in {meminfo}")


def listening_ports(tables: Iterable[Path]) -> frozenset[HostPort]:
    """Ports in state LISTEN; a kernel without IPv6 has no second table."""
    ports: set[HostPort] = set()
    for table in tables:
        try:
            lines = table.read_bytes().splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            # sl local_address rem_address st ...: cheap first, a busy host has 10,000 lines
            if b" 0A " not in line:
                continue
            fields = line.split(maxsplit=4)
            if fields[3] == LISTEN:
                address, _, port = fields[1].rpartition(b":")
                if (ours := ipv4_of(address)) is not None:
                    ports.add(HostPort(ours, int(port, 16)))
    return frozenset(ports)


@lru_cache(maxsize=1024)
def ipv4_of(words: bytes) -> str | None:
    """An address as /proc writes it: words of 32 bits in the host's order.

    Who listens on all addresses of IPv6 has those of IPv4 too, as far as can be told from here;
    who listens on another one of IPv6 is in nobody's way.
    """
    raw = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    if not any(raw):
        return ANY_ADDRESS
    if len(raw) > IPV4_BYTES and not raw.startswith(MAPPED):
        return None
    return socket.inet_ntoa(raw[-IPV4_BYTES:])
