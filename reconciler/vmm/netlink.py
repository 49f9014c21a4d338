"""Taps and bridges by ioctl and netlink: what is there, and the few changes that are made. Blocks.

Every tap of ours carries a mark, as its alias, from before it is kept by the kernel: one that was
being made when the daemon died goes with the daemon, and a tap without our mark is not ours,
whatever its name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reconciler.errors import DriverError
from reconciler.model.machine import HOST_END, Tap
from reconciler.model.names import VMName
from reconciler.model.observed import Link, Links

TUN = Path("/dev/net/tun")
STATUS = Path("/proc/thread-self/status")
NET_ADMIN = 1 << 12
MEMBERS = stat.S_IRGRP | stat.S_IWGRP
OTHERS = stat.S_IROTH | stat.S_IWOTH

TUNSETIFF, TUNGETIFF = 0x400454CA, 0x800454D2
TUNSETPERSIST, TUNSETOWNER, TUNSETGROUP = 0x400454CB, 0x400454CC, 0x400454CE
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_PERSIST = 0x0002, 0x1000, 0x4000, 0x0800
IFF_UP = 1
KINDS: dict[str, Literal["bridge", "tap"]] = {"bridge": "bridge", "tun": "tap"}
OTHER: Literal["other"] = "other"
REQUEST = "16sH22x"
"""struct ifreq with its flags."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who may open a tap that no process has open: each field that is not None must match."""

    uid: int | None = None
    gid: int | None = None


ANYBODY = Owner()


def may_open(tun: Path, group: int | None) -> bool:
    """Whether guests of this group may open the device; without one they are the daemon's own user."""
    found = tun.stat()
    everybody = OTHERS & ~found.st_mode == 0
    members = MEMBERS & ~found.st_mode == 0
    return group is None or everybody or (members and found.st_gid == group)


def hindrance(owner: Owner = ANYBODY) -> str:
    """Why no tap can be made; empty if nothing is known to stand in the way."""
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{TUN} cannot be used: {error.strerror} (`reconciler doctor` says how to mend it)"
    if not may_open(TUN, owner.gid):
        return f"guests may not open {TUN}: chmod 666 {TUN}"
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:") and not int(line.split()[1], 16) & NET_ADMIN:
            return "the daemon lacks CAP_NET_ADMIN (see docs/operations/networking.md)"
    return ""


def look(mark: str, owner: Owner) -> Links:
    """Raises OSError."""
    stands_in_the_way = hindrance(owner)
    with _netlink() as netlink:
        found = list(netlink.get_links())
        given = list(netlink.get_addr(family=socket.AF_INET))
    names = {one["index"]: str(one.get("IFLA_IFNAME")) for one in found}
    addresses: dict[int, list[str]] = {}
    for one in given:
        own = one.get("IFA_LOCAL") or one.get("IFA_ADDRESS")
        addresses.setdefault(one["index"], []).append(f"{own}/{one['prefixlen']}")
    there = {
        names[one["index"]]: _link(one, names, mark, addresses.get(one["index"], ()))
        for one in found
    }
    return Links(there, stands_in_the_way)


def make(mark: str, vm: VMName, tap: Tap, owner: Owner) -> None:
    """See that it is there, ours, kept, plugged in and up. Raises DriverError or OSError."""
    with _netlink() as netlink:
        there = _find(netlink, tap.name)
        if there is not None and _whose(there, mark) is None:
            raise stranger(tap)
        if there is not None and not _is_owned(there, owner):
            with _opened(
                tap
            ):  # so that no other process opens it: an owner cannot be removed again
                netlink.link("del", index=there["index"])
            there = None
        with _opened(tap) as descriptor:
            if there is None and _is_kept(descriptor):
                raise stranger(tap)  # it came in this moment
            index = _index(netlink, tap.name)
            netlink.link(
                "set", index=index, ifalias=f"{mark}{vm}", address=f"{HOST_END}{tap.mac[3:]}"
            )
            if owner.uid is not None:
                fcntl.ioctl(descriptor, TUNSETOWNER, owner.uid)
            if owner.gid is not None:
                fcntl.ioctl(descriptor, TUNSETGROUP, owner.gid)
            fcntl.ioctl(descriptor, TUNSETPERSIST, 1)
        _plug(netlink, index, tap)


def plug(mark: str, vm: VMName, tap: Tap) -> None:
    """Put a tap that is there into its bridge again. Raises DriverError or OSError."""
    with _netlink() as netlink:
        there = _find(netlink, tap.name)
        if there is None:
            raise DriverError(f"tap {tap.name} of {vm} is gone", kind="network")
        if _whose(there, mark) != vm:
            raise stranger(tap)
        _plug(netlink, there["index"], tap)


def drop(mark: str, name: str) -> None:
    """Remove one of ours; what is gone or a stranger's is left as it is. Raises OSError."""
    try:
        with _netlink() as netlink:
            there = _find(netlink, name)
            if there is not None and _whose(there, mark) is not None:
                netlink.link("del", index=there["index"])
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def stranger(tap: Tap) -> DriverError:
    return DriverError(
        f"interface {tap.name} is there, and not ours",
        kind="network",
        hint=f"see `ip -d link show {tap.name}`; remove it, or give the manifest's interface an `id`",
    )


def _plug(netlink: Any, index: int, tap: Tap) -> None:
    bridge = _find(netlink, tap.bridge)
    if bridge is None or _kind(bridge) != "bridge":
        raise DriverError(f"the host has no bridge {tap.bridge}", kind="network")
    netlink.link("set", index=index, master=bridge["index"], state="up")


@contextmanager
def _opened(tap: Tap) -> Iterator[int]:
    """The tap's descriptor: attached to the one that is there, or to a new one that ends with it."""
    descriptor = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        wanted = struct.pack(REQUEST, tap.name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        try:
            fcntl.ioctl(descriptor, TUNSETIFF, wanted)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise DriverError(
                f"tap {tap.name} is in use by another process", kind="network",
                hint="find it with: grep -l iff.*" + tap.name + " /proc/*/fdinfo/*",
            ) from error  # fmt: skip
        yield descriptor
    finally:
        os.close(descriptor)


def _is_kept(descriptor: int) -> bool:
    answer = fcntl.ioctl(descriptor, TUNGETIFF, bytes(struct.calcsize(REQUEST)))
    return bool(struct.unpack(REQUEST, answer)[1] & IFF_PERSIST)


@contextmanager
def _netlink() -> Iterator[Any]:
    """Netlink's errors come out as the OSErrors that they are."""
    # It takes a tenth of a second, on hosts with bridges alone.
    from pyroute2 import IPRoute  # type: ignore[import-untyped]  # noqa: PLC0415
    from pyroute2.netlink.exceptions import (  # type: ignore[import-untyped]  # noqa: PLC0415
        NetlinkError,
    )

    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error
    except (OSError, DriverError):
        raise
    except Exception as error:  # what the library makes of an answer that it does not know
        raise OSError(errno.EPROTO, f"netlink: {error!r}") from error


def _find(netlink: Any, name: str) -> Any:
    """The link's message; None when there is no such link."""
    return next(iter(netlink.get_links(ifname=name)), None)


def _is_owned(message: Any, owner: Owner) -> bool:
    of_tap = ("IFLA_LINKINFO", "IFLA_INFO_DATA")
    found = (message.get((*of_tap, "IFLA_TUN_OWNER")), message.get((*of_tap, "IFLA_TUN_GROUP")))
    return found == (owner.uid, owner.gid)


def _index(netlink: Any, name: str) -> int:
    found = _find(netlink, name)
    if found is None:
        raise DriverError(f"tap {name} was removed while it was made", kind="network")
    index: int = found["index"]
    return index


def _link(message: Any, names: dict[int, str], mark: str, addresses: Iterable[str]) -> Link:
    kind = KINDS.get(_kind(message), OTHER)
    return Link(
        kind,
        owner=_whose(message, mark),
        bridge=names.get(message.get("IFLA_MASTER") or 0, ""),
        up=bool(message["flags"] & IFF_UP),
        addresses=tuple(sorted(addresses)) if kind == "bridge" else (),
    )


def _kind(message: Any) -> str:
    return str(message.get(("IFLA_LINKINFO", "IFLA_INFO_KIND")) or "")


def _whose(message: Any, mark: str) -> VMName | None:
    """The VM whose tap it is, by our mark."""
    alias = str(message.get("IFLA_IFALIAS") or "")
    ours = _kind(message) == "tun" and alias.startswith(mark)
    return VMName(alias[len(mark) :]) if ours else None
