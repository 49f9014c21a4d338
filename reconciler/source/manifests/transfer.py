"""A desired state on its way from the manifest reader to the daemon, in lines of bounded size.

The worker numbers VMs and groups. An answer lists the numbers of a whole state, and carries only the
parts that the previous answer did not have: after a push, what the push changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from reconciler.config import KernelsConfig, PolicyConfig
from reconciler.errors import ManifestErrors, Problem, SourceError, source_error_kind
from reconciler.model.desired import DesiredState, GroupSpec, VMSpec
from reconciler.model.names import Revision

One = VMSpec | GroupSpec
Part = TypeVar("Part")
MOST_STATE = 64 * 1024 * 1024
"""Bytes of the parts in one answer."""
MOST_POOLED = 10_000
"""Values in the pool of shared parts before it is cleared."""


class Settings(BaseModel):
    """The settings that a manifest reader receives once, when it starts."""

    model_config = ConfigDict(frozen=True)

    mirror: str
    folder: str
    """Path of the manifests' folder in the repository."""
    files: int
    file_bytes: int
    policy: PolicyConfig
    kernels: KernelsConfig


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of an answer: the numbers of a state's parts, or the problems or error instead."""

    vms: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    fresh: int = 0
    """How many lines follow, each with a part that the previous answer did not have."""
    parsed_files: int = 0
    entries: int = 0
    kind: str = ""
    message: str = ""
    hint: str = ""
    problems: tuple[tuple[str, int, int, str, str], ...] = ()
    more: int = 0

    def line(self) -> bytes:
        """As one line of JSON, ended by a newline."""
        return json.dumps(asdict(self), ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    @staticmethod
    def of(line: bytes) -> Header:
        """Parse a header. Raises ValueError or TypeError."""
        return Header(**json.loads(line))

    def error(self, revision: Revision) -> ManifestErrors | SourceError | None:
        """The error that the header describes; None for a state."""
        if self.problems:
            problems = [Problem(*problem) for problem in self.problems]
            return ManifestErrors(problems, revision=revision, more=self.more)
        if not self.kind:
            return None
        return SourceError(self.message, kind=source_error_kind(self.kind), hint=self.hint)


def refusal(error: ManifestErrors | SourceError) -> Header:
    """The header for a revision that was refused."""
    if isinstance(error, ManifestErrors):
        problems = tuple((p.file, p.line, p.col, p.message, p.hint) for p in error.problems)
        return Header(problems=problems, more=error.more)
    return Header(kind=error.kind, message=str(error)[:500], hint=error.hint)


class Sender:
    """The worker's side: remembers the parts it sent last, to send only new ones."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], tuple[int, One]] = {}
        self._count = 0

    def lines(self, state: DesiredState, parsed_files: int, entries: int) -> Iterator[bytes]:
        """The lines of one answer: the header, then the parts that are new."""
        given, fresh = dict[tuple[str, str], tuple[int, One]](), list[tuple[int, One]]()
        parts: list[One] = [*state.vms.values(), *state.groups.values()]
        for part in parts:
            key = (type(part).__name__, part.name)
            known = self._given.get(key)
            # Identity first: the resolver returns unchanged parts as the same objects, and comparing is slow.
            if known is None or (known[1] is not part and known[1] != part):
                self._count += 1
                known = (self._count, part)
                fresh.append(known)
            given[key] = known
        self._given = given
        numbers = [given[type(part).__name__, part.name][0] for part in parts]
        split = len(state.vms)
        yield Header(
            tuple(numbers[:split]), tuple(numbers[split:]), len(fresh), parsed_files, entries
        ).line()
        for number, part in fresh:
            kind = b"vm" if isinstance(part, VMSpec) else b"group"
            yield b"%d %b %b\n" % (number, kind, _adapters()[kind].dump_json(part))


class Receiver:
    """The daemon's side: an unchanged part stays the same object from one answer to the next."""

    def __init__(self) -> None:
        self._held: dict[int, One] = {}
        self._pool: dict[Any, Any] = {}

    def take(self, line: bytes) -> None:
        """Take one line after the header. Raises ValueError."""
        number, kind, body = line.split(b" ", 2)
        part: One = _adapters()[kind].validate_json(body, strict=True)
        self._held[int(number)] = self._shared(part) if isinstance(part, VMSpec) else part

    def state(self, header: Header, revision: Revision) -> DesiredState:
        """The state that a header describes. Raises KeyError for a number that was never sent."""
        vms = [self._held[number] for number in header.vms]
        groups = [self._held[number] for number in header.groups]
        self._held = dict(zip((*header.vms, *header.groups), (*vms, *groups), strict=True))
        if len(self._pool) > MOST_POOLED:
            self._pool.clear()
        return DesiredState(
            revision,
            {vm.name: vm for vm in vms if isinstance(vm, VMSpec)},
            {group.name: group for group in groups if isinstance(group, GroupSpec)},
        )

    def _shared(self, spec: VMSpec) -> VMSpec:
        """The spec with equal parts shared in memory: most VMs have the same kernel, layers and policies."""
        return replace(
            spec,
            labels=self._one(spec.labels),
            kernel=self._one(spec.kernel),
            layers=tuple([self._one(layer) for layer in spec.layers]),
            volumes=self._one(spec.volumes),
            health=self._one(spec.health),
            update=self._one(spec.update),
            rollback=self._one(spec.rollback),
        )

    def _one(self, value: Part) -> Part:
        shared: Part = self._pool.setdefault(value, value)
        return shared


@cache
def _adapters() -> dict[bytes, TypeAdapter[Any]]:
    """Built on first use, as it takes tens of milliseconds."""
    return {b"vm": TypeAdapter(VMSpec), b"group": TypeAdapter(GroupSpec)}
