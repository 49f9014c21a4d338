"""What /metrics of a daemon with a full life shows, and the selectors that queries ask it with."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from reconciler.metrics import Metrics
from reconciler.metrics.process_usage import START, TICKS, boot_wall
from reconciler.model.guest_reports import DiskOperations, GuestFigures, GuestMemory, NetworkTraffic
from reconciler.model.names import GroupName
from reconciler.model.status import (
    GroupStatus,
    HostStatus,
    RevisionStatus,
    SourceStatus,
    VMStatus,
)
from tests.unit.control.fake_operator import WALL, vm

EVERYTHING = GuestFigures(DiskOperations(1, 2), GuestMemory(3, 4), NetworkTraffic(5, 6, 7, 8))
"""What a guest tells that tells everything."""
SELECTOR = re.compile(r"\b(reconciler_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds."""


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    labels: dict[str, str]


def start_of(pid: int) -> float:
    """When a process started, by the wall clock."""
    stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return boot_wall() + int(stat[START]) / TICKS


def whole_fleet() -> HostStatus:
    # This process stands for a guest.
    db = vm("db", group=GroupName("backend"), pid=os.getpid(), started_wall=start_of(os.getpid()))
    vms: tuple[VMStatus, ...] = (db, vm("web"), vm("asleep"))
    return HostStatus(
        revision=RevisionStatus("a" * 40, "a" * 40),
        vms=(*vms[:2], replace(vms[2], suspended=True, sync="suspended")),
        groups=tuple(
            GroupStatus(GroupName(g), "idle", 1, 0, 1, 0, deadline_wall=WALL)
            for g in ("backend", "frontend")
        ),
        suspended=False,
        sources=(SourceStatus("main", "file:///srv/fleet.git", WALL, 0),),
    )


def exposition() -> bytes:
    metrics = Metrics(whole_fleet, version="1.2.3", started_wall=WALL, sinks=("ops",))
    metrics.figures = lambda _: EVERYTHING
    return metrics.render()


def samples() -> list[Sample]:
    families = text_string_to_metric_families(exposition().decode())
    return [Sample(one.name, one.labels) for family in families for one in family.samples]


def selectors(query: str) -> list[tuple[str, str]]:
    """Our metrics in a query, each with what its braces hold."""
    return [(name, braces) for name, braces in SELECTOR.findall(query)]


def meets(labels: dict[str, str], braces: str) -> bool:
    """Whether a series has these labels; variables of Grafana and templates match anything."""
    for label, operator, value in MATCHER.findall(braces):
        if label in SCRAPED or "$" in value or "%" in value:
            continue
        present = labels.get(label, "")
        equal = re.fullmatch(value, present) if "~" in operator else value == present
        if bool(equal) != operator.startswith("="):
            return False
    return True


def unmet(query: str, present: list[Sample]) -> list[str]:
    """Selectors of a query for which no daemon ever shows a series."""
    return [
        f"{name}{{{braces}}}"
        for name, braces in selectors(query)
        if not any(one.name == name and meets(one.labels, braces) for one in present)
    ]
