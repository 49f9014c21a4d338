"""The kinds of checks, and who asks each. README.md in this folder says how to add one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.model.checks import CheckSpec, ProcessCheck
from reconciler.model.health import ProbeResult
from reconciler.probe.asker import LONGEST, AskedGuest, Asker, CannotAsk, brief
from reconciler.probe.http import HttpAsker
from reconciler.probe.tcp import TcpAsker

log = logging.getLogger(__name__)

AskerKinds = Mapping[str, Callable[[], Asker[Any]]]
"""By the kind of the check, which is all that the asker of that entry is given."""


class ProcessAsker:
    """The check `process`: passes always, because only guests whose VMM lives are asked."""

    async def ask(self, check: ProcessCheck, guest: AskedGuest) -> tuple[ProbeResult, str]:  # noqa: ARG002 - of any guest
        """Always a success."""
        return "success", "the process lives"

    async def close(self) -> None:
        """Nothing to release."""


ASKERS: AskerKinds = {"http": HttpAsker, "tcp": TcpAsker, "process": ProcessAsker}


class Askers:
    """One asker of each kind, for all guests."""

    def __init__(self, kinds: AskerKinds = ASKERS, longest: float = LONGEST) -> None:
        self._askers = {kind: make() for kind, make in kinds.items()}
        self._longest = longest

    async def ask(self, check: CheckSpec, guest: AskedGuest) -> tuple[ProbeResult, str]:
        """The result and a detail.

        A bug of ours is an *error*: it neither fails the guest nor ends probing.
        """
        bound = asyncio.timeout(None if hasattr(check, "timeout") else self._longest)
        try:
            async with bound:
                return await self._askers[check.kind].ask(check, guest)
        except CannotAsk as error:
            return "error", f"could not ask: {error}"
        except Exception as error:
            if bound.expired():
                return "error", f"could not ask within {self._longest:g} s"
            log.exception("a probe failed with an unexpected error")
            return "error", f"could not ask: {brief(error)}"

    async def close(self) -> None:
        """Close all askers."""
        for asker in self._askers.values():
            await asker.close()
