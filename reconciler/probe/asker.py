"""What a kind of check brings: who asks its question, and what is known of the guest that is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from reconciler.model.checks import CheckSpec, ProcessCheck
from reconciler.model.health import ProbeResult
from reconciler.model.names import InstanceId

Asked_contra = TypeVar("Asked_contra", bound=CheckSpec, contravariant=True)
ReadConsole = Callable[[InstanceId], Awaitable[str]]
"""What a guest printed since it was started: the newest 256 KiB, lines as they came, not cleaned."""


async def no_console(_: InstanceId) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class AskedGuest:
    """The guest that is asked. Where it listens is in the check: planning has led it there."""

    instance: InstanceId
    read_console: ReadConsole = no_console

    async def console(self) -> str:
        return await self.read_console(self.instance)


class Asker(Protocol[Asked_contra]):
    """Asks one kind of check of all guests; many questions at once.

    `ask` answers with the result and a detail for people, such as `GET :8080/ -> 503`: *failure* when
    the guest is bad, *error* when this host could not ask (`classify.is_ours`). It ends within the
    check's own timeout, and may be cancelled at any await. What it raises counts as an error.
    """

    async def ask(self, check: Asked_contra, guest: AskedGuest) -> tuple[ProbeResult, str]: ...

    async def close(self) -> None:
        """Close what is kept between questions; none is asked any more."""
        ...


class ProcessAsker:
    """The check `process`: a guest is only asked while its VMM lives."""

    async def ask(self, check: ProcessCheck, guest: AskedGuest) -> tuple[ProbeResult, str]:  # noqa: ARG002 - of any guest
        return "success", "the process lives"

    async def close(self) -> None:
        """It holds nothing open."""
