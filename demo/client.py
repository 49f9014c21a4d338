"""The fleet as the daemon's control socket reports it, as values."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT = 10.0


class DaemonAway(Exception):
    """The control socket does not answer."""


@dataclass(frozen=True, slots=True)
class VM:
    name: str
    group: str
    state: str
    healthy: bool
    sync: str
    running: int | None
    desired: int | None
    last_good: int | None
    pid: int | None
    instance: str | None
    blocked: int
    why: str

    @staticmethod
    def of(raw: Mapping[str, Any]) -> VM:
        generation = raw["generation"]
        return VM(
            name=raw["name"],
            group=raw["group"],
            state=raw["state"],
            healthy=raw["healthy"],
            sync=raw["sync"],
            running=generation["running"],
            desired=generation["desired"],
            last_good=generation["last_good"],
            pid=raw["pid"],
            instance=raw.get("instance"),
            blocked=raw.get("blocked", 0),
            why=raw["why"],
        )

    @property
    def settled(self) -> bool:
        """Running the desired generation, healthy, and committed: nothing is left to do."""
        return (
            self.state == "running"
            and self.healthy
            and self.sync == "synced"
            and self.running is not None
            and self.running == self.desired == self.last_good
        )

    @property
    def rolled_back(self) -> bool:
        """Serving its last good generation again, because the desired one was condemned."""
        return (
            self.state == "running"
            and self.healthy
            and self.sync == "blocked"
            and self.running is not None
            and self.running == self.last_good
            # It serves before it has been healthy for long enough to be settled.
            and not self.why.startswith("going back")
        )


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    state: str
    unavailable: int
    max_unavailable: int
    hold: str


@dataclass(frozen=True, slots=True)
class Fleet:
    observed: str | None
    applied: str | None
    rejected: str | None
    problems: tuple[str, ...]
    vms: Mapping[str, VM]
    groups: Mapping[str, Group]
    raw: Mapping[str, Any]

    @staticmethod
    def of(raw: Mapping[str, Any]) -> Fleet:
        revision = raw["revision"]
        groups = [
            Group(
                one["name"], one["state"], one["unavailable"], one["max_unavailable"], one["hold"]
            )
            for one in raw.get("groups", [])
        ]
        return Fleet(
            observed=revision["observed"],
            applied=revision["applied"],
            rejected=revision.get("rejected"),
            problems=tuple(revision.get("problems", ())),
            vms={vm.name: vm for vm in map(VM.of, raw["vms"])},
            groups={group.name: group for group in groups},
            raw=raw,
        )

    def settled(self, revision: str, *names: str) -> bool:
        """Whether exactly these VMs exist, and each runs what `revision` declares."""
        return (
            self.observed == revision
            and set(self.vms) == set(names)
            and all(vm.settled for vm in self.vms.values())
        )

    def rolled_back(self) -> list[str]:
        """VMs that have rolled back."""
        return [name for name, vm in self.vms.items() if vm.rolled_back]

    def instances(self) -> dict[str, str | None]:
        return {name: vm.instance for name, vm in self.vms.items()}

    def pids(self) -> dict[str, int]:
        return {name: vm.pid for name, vm in self.vms.items() if vm.pid is not None}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class ControlClient:
    """A client of the control socket; each request has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, path: str) -> Any:
        """The answer's JSON. Raises DaemonAway, or RuntimeError for any answer but 200."""
        connection = UnixConnection(self.path)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise DaemonAway(f"{self.path}: {error}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise RuntimeError(f"GET {path}: {answer.status} {body[:200].decode(errors='replace')}")
        return json.loads(body)

    def fleet(self) -> Fleet:
        return Fleet.of(self.get("/v1/status"))
