"""Doctor's checks if guests run under systemd: what that needs, and who may use the control socket."""

from __future__ import annotations

import grp
import os
import socket
from pathlib import Path

from reconciler.cli.doctor_findings import Finding, user_name
from reconciler.host import layout
from reconciler.supervisor.systemd_unit import GROUP

BOOTED = Path("/run/systemd/system")
"""Exists if systemd is running (sd_booted(3))."""
BUS = Path("/run/dbus/system_bus_socket")
BUS_SECONDS = 2.0
FRONT = layout.proxy_socket(Path("/run/reconciler-front"))
FRONT_SECONDS = 5.0
"""Socket activation may have to start it first."""
WITHOUT_FRONT = "VMs whose update.strategy is handover lack their ports"
RESTART_FRONT = (
    "systemctl stop reconciler-front.service && systemctl restart reconciler-front.socket"
)
SYSUSERS = "systemd-sysusers reconciler.conf"


def check_service() -> list[Finding]:
    """All checks of this file but `check_membership`."""
    return [check_systemd(), check_bus(), check_group(), check_front()]


def check_systemd(booted: Path = BOOTED) -> Finding:
    """Whether systemd runs this host."""
    if booted.is_dir():
        return Finding("systemd", "ok", "it runs the guests")
    detail = 'supervisor = "systemd", but this host was not booted with systemd'
    return Finding("systemd", "failed", detail, 'set supervisor = "local" in the config')


def check_bus(bus: Path = BUS) -> Finding:
    """Whether the system's D-Bus answers."""
    try:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(BUS_SECONDS)
            asked.connect(str(bus))
    except OSError as error:
        detail = f"systemd cannot be reached: {bus}: {error.strerror or error}"
        remedy = "apt-get install dbus && systemctl start dbus.socket"
        return Finding("dbus", "failed", detail, remedy)
    return Finding("dbus", "ok", "it answers")


def check_group(name: str = GROUP) -> Finding:
    """Whether the guests' group exists."""
    try:
        grp.getgrnam(name)
    except KeyError:
        detail = f"there is no group {name}: guests could not access their files"
        return Finding("group", "failed", detail, SYSUSERS)
    return Finding("group", "ok", f"{name}: owns what guests may use")


def check_front(control: Path = FRONT) -> Finding:
    """Whether the proxy answers. Asking starts it by socket activation; if unused, it ends by itself."""
    if not control.exists():
        detail = (
            f"there is no {control}: VMs whose update.strategy is handover would lack their ports"
        )
        return Finding("front", "warning", detail, RESTART_FRONT)
    try:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(FRONT_SECONDS)
            asked.connect(str(control))
            asked.sendall(b'{"do":"table"}\n')
            answered = asked.recv(1)
    except PermissionError:
        return Finding("front", "warning", f"only root may connect to {control}", "sudo !!")
    except OSError as error:
        why = error.strerror or "it does not answer"
        return Finding("front", "failed", f"{control}: {why}: {WITHOUT_FRONT}", RESTART_FRONT)
    if not answered:
        detail = f"{control}: it closed the connection without an answer: {WITHOUT_FRONT}"
        return Finding("front", "failed", detail, RESTART_FRONT)
    return Finding("front", "ok", f"it answers on {control}")


def check_membership(control: Path) -> Finding | None:
    """The finding if this user may not use the control socket; None if it may, or the socket is missing."""
    try:
        if os.access(control, os.R_OK | os.W_OK):
            return None
        group = grp.getgrgid(control.stat().st_gid)
    except (OSError, KeyError):
        return None
    detail = f"{user_name()} may not use {control}: not a member of {group.gr_name}"
    if user_name() in group.gr_mem:
        detail, remedy = f"{detail} before the next login", f"newgrp {group.gr_name}"
    else:
        remedy = f"usermod -aG {group.gr_name} {user_name()}"
    return Finding("daemon", "failed", detail, remedy)
