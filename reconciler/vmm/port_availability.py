"""Ports of this host: who listens, and which of those that are wanted cannot be bound.

A table of listeners is not the whole truth: an outgoing connection has a port without listening, and a
socket that is only bound is in no table at all. So the kernel is asked the question that the VMM will ask
it, by binding, for the few ports that something is about to be started on.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from reconciler.model.machine import ANY_ADDRESS, HostPort

IPV4_BYTES = 4
MAPPED = bytes(10) + b"\xff\xff"
"""How an address of IPv4 begins that is written as one of IPv6."""
LISTEN = b"0A"
"""TCP_LISTEN, as /proc/net/tcp writes it."""
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
RESERVED = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")


def listening_ports(tables: Iterable[Path]) -> frozenset[HostPort]:
    """TCP ports in state LISTEN; a kernel without IPv6 has no second table."""
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


def refused_ports(wanted: Iterable[HostPort]) -> Mapping[HostPort, str]:
    """Those of the wanted ports that cannot be bound now, each with the reason. Blocks for some µs each.

    What we may not ask (a port below 1024, without the right to it) is not in the answer.
    """
    answers = ((port, _refusal(port)) for port in wanted)
    return {port: why for port, why in answers if why}


def _refusal(wanted: HostPort) -> str:
    try:
        with socket.socket(socket.AF_INET, KINDS[wanted.protocol]) as asked:
            if wanted.protocol == "tcp":
                # As VMMs and our proxy do: connections that just ended do not hold the port.
                asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            asked.bind((wanted.address, wanted.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            option = "-t" if wanted.protocol == "tcp" else "-u"
            return (
                "a process or a connection of this host has it:"
                f" ss -anp {option} 'sport = :{wanted.port}'"
            )
        if error.errno == errno.EADDRNOTAVAIL:
            return f"this host has no address {wanted.address}"
        if error.errno in (errno.EACCES, errno.EPERM):
            return ""
        return os.strerror(error.errno or 0).lower()
    return ""


def ephemeral_ports(place: Path = EPHEMERAL) -> range:
    """Ports that the kernel gives to outgoing connections; empty where it does not say."""
    try:
        first, last = place.read_text(encoding="ascii").split()
        return range(int(first), int(last) + 1)
    except (OSError, ValueError):
        return range(0)


def reserved_ports(place: Path = RESERVED) -> frozenset[int]:
    """Ports of that range that the kernel is configured to give to no process."""
    try:
        parts = place.read_text(encoding="ascii").strip().split(",")
        spans = [part.split("-") for part in parts if part]
        return frozenset(port for span in spans for port in range(int(span[0]), int(span[-1]) + 1))
    except (OSError, ValueError):
        return frozenset()


@lru_cache(maxsize=1024)
def ipv4_of(words: bytes) -> str | None:
    """An address as /proc writes it: words of 32 bits in the host's order.

    A listener on the IPv6 wildcard address is assumed to hold the IPv4 port too; one on another address
    of IPv6 is in the way of nothing here.
    """
    raw = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    if not any(raw):
        return ANY_ADDRESS
    if len(raw) > IPV4_BYTES and not raw.startswith(MAPPED):
        return None
    return socket.inet_ntoa(raw[-IPV4_BYTES:])
