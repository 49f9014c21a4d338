"""The checks of `doctor` where systemd keeps the guests: what it takes, and who may ask the daemon."""

from __future__ import annotations

import grp
import os
import socket
from pathlib import Path

from reconciler.cli.doctor_findings import Finding, asker
from reconciler.host import layout
from reconciler.supervisor.systemd_unit import GROUP

BOOTED = Path("/run/systemd/system")
"""As sd_booted(3) has it."""
BUS = Path("/run/dbus/system_bus_socket")
BUS_SECONDS = 2.0
FRONT = layout.proxy_socket(Path("/run/reconciler-front"))
FRONT_SECONDS = 5.0
"""It may have to be started first."""
WITHOUT_FRONT = "VMs whose update.strategy is handover lack their ports"
RESTART_FRONT = (
    "systemctl stop reconciler-front.service && systemctl restart reconciler-front.socket"
)
SYSUSERS = "systemd-sysusers reconciler.conf"


def check_service() -> list[Finding]:
    return [check_systemd(), check_bus(), check_group(), check_front()]


def check_systemd(booted: Path = BOOTED) -> Finding:
    if booted.is_dir():
        return Finding("systemd", "ok", "it keeps the guests")
    detail = 'supervisor = "systemd", and systemd is not what runs this host'
    return Finding("systemd", "failed", detail, 'set supervisor = "local" in the config')


def check_bus(bus: Path = BUS) -> Finding:
    try:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(BUS_SECONDS)
            asked.connect(str(bus))
    except OSError as error:
        detail = f"systemd cannot be asked: {bus}: {error.strerror or error}"
        remedy = "apt-get install dbus && systemctl start dbus.socket"
        return Finding("dbus", "failed", detail, remedy)
    return Finding("dbus", "ok", "it answers")


def check_group(name: str = GROUP) -> Finding:
    try:
        grp.getgrnam(name)
    except KeyError:
        detail = f"there is no group {name}: guests could not be lent their files"
        return Finding("group", "failed", detail, SYSUSERS)
    return Finding("group", "ok", f"{name}: what guests may use belongs to it")


def check_front(control: Path = FRONT) -> Finding:
    """It is asked, which starts it: where nothing needs it, it ends again by itself."""
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
        return Finding("front", "warning", f"{control} may be asked by root alone", "sudo !!")
    except OSError as error:
        why = error.strerror or "it does not answer"
        return Finding("front", "failed", f"{control}: {why}: {WITHOUT_FRONT}", RESTART_FRONT)
    if not answered:
        detail = f"{control}: it hung up without an answer: {WITHOUT_FRONT}"
        return Finding("front", "failed", detail, RESTART_FRONT)
    return Finding("front", "ok", f"it answers on {control}")


def check_membership(control: Path) -> Finding | None:
    """What keeps the asker from the control socket; None when nothing does, or it is not there."""
    try:
        if os.access(control, os.R_OK | os.W_OK):
            return None
        group = grp.getgrgid(control.stat().st_gid)
    except (OSError, KeyError):
        return None
    detail = f"{asker()} may not use {control}, as no member of {group.gr_name}"
    if asker() in group.gr_mem:
        detail, remedy = f"{detail} before the next login", f"newgrp {group.gr_name}"
    else:
        remedy = f"usermod -aG {group.gr_name} {asker()}"
    return Finding("daemon", "failed", detail, remedy)
