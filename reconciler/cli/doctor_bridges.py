"""Doctor's checks if the config allows bridges: what taps need."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from reconciler.cli.doctor_findings import Finding, user_name
from reconciler.supervisor.systemd_unit import GROUP
from reconciler.vmm.netlink import NET_ADMIN, may_open

TUN = Path("/dev/net/tun")
INTERFACES = Path("/sys/class/net")
STATUS = Path("/proc/self/status")
UNIT = "reconciler.service"
DROP_INS = tuple(
    Path(root) / "systemd/system" / f"{UNIT}.d" for root in ("/etc", "/run", "/usr/lib", "/lib")
)
CAPABILITY = "CAP_NET_ADMIN"
GIVE = (
    "install -Dm644 /usr/share/reconciler/bridges.conf"
    f" /etc/systemd/system/{UNIT}.d/bridges.conf && systemctl daemon-reload"
    " && systemctl restart reconciler"
)
SIOCGIFADDR = 0x8915
NO_GROUP = -1


def check_bridges(bridges: Iterable[str], *, kept: bool) -> list[Finding]:
    """Check taps and bridges. `kept`: under systemd, whose unit sets the daemon's capabilities."""
    right = check_drop_in() if kept else check_capability()
    return [
        check_tun(group=guests_group() if kept else None),
        right,
        *(check_bridge(bridge) for bridge in bridges),
    ]


def guests_group() -> int:
    """The id of the guests' group; NO_GROUP if the host lacks it."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return NO_GROUP


def check_tun(tun: Path = TUN, *, group: int | None = None) -> Finding:
    """Whether guests can open the tun device. `group`: the guests' group; None: they run as the daemon's user."""
    if not tun.exists():
        detail = f"there is no {tun}: no tap can be made"
        return Finding("tun", "failed", detail, "modprobe tun")
    if not may_open(tun, group):
        detail = f"guests may not open {tun}: its mode allows neither everyone nor their group"
        return Finding("tun", "failed", detail, f"chmod 666 {tun}")
    return Finding("tun", "ok", str(tun))


def check_capability(status: Path = STATUS) -> Finding:
    """Whether the current user, which would run the daemon, may make taps."""
    for line in status.read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:") and int(line.split()[1], 16) & NET_ADMIN:
            return Finding("taps", "ok", f"{user_name()} may make them")
    detail = f"{user_name()} may not make taps: {CAPABILITY} is missing"
    return Finding("taps", "failed", detail, "run the daemon as root")


def check_drop_in(folders: Iterable[Path] = DROP_INS) -> Finding:
    """Whether a drop-in of the unit lets the daemon make taps."""
    for folder in folders:
        for path in sorted(folder.glob("*.conf")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            if any(CAPABILITY in line for line in lines if line.startswith("CapabilityBounding")):
                return Finding("taps", "ok", f"{path} lets the daemon make them")
    detail = f"policy.bridges names bridges, but {UNIT} does not have {CAPABILITY}"
    return Finding("taps", "failed", detail, GIVE)


def check_bridge(name: str, interfaces: Path = INTERFACES) -> Finding:
    """Whether a bridge exists and has an address to check guests from."""
    there, what = interfaces / name, f"bridge {name}"
    if not there.exists():
        remedy = f"ip link add {name} type bridge && ip link set {name} up"
        return Finding(what, "failed", "the host has no bridge of this name", remedy)
    if not (there / "bridge").is_dir():
        detail = "the host's interface of this name is not a bridge"
        return Finding(what, "failed", detail, "correct policy.bridges in the config")
    address = address_of(name)
    if address is None:
        detail = "it has no address: checks cannot reach guests on it"
        return Finding(what, "warning", detail, f"ip address add 10.20.0.1/24 dev {name}")
    return Finding(what, "ok", f"its guests are checked from {address}")


def address_of(name: str) -> str | None:
    """The first IPv4 address of an interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            reply = fcntl.ioctl(asked, SIOCGIFADDR, struct.pack("256s", os.fsencode(name)[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(reply[20:24])
