"""Registries in memory."""

from __future__ import annotations

from reconciler.errors import BuildUnavailable
from reconciler.model.image_tags import Tag
from reconciler.model.names import digest_of
from tests.fakes.faults import Faults


class FakeTags:
    """Each tag means what was pushed to it; one to which nothing was pushed is unknown."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._pushed: dict[str, str] = {}
        self.away: set[str] = set()
        """Tags whose registry does not answer."""
        self.slow = 0.0
        """Seconds that a registry takes."""
        self.asked: list[str] = []

    def push(self, reference: str, content: str) -> str:
        """Have a tag mean an image of this content; returns its digest."""
        self._pushed[reference] = digest = f"sha256:{digest_of(content)}"
        return digest

    async def look_up(self, tag: Tag) -> str:
        self.asked.append(tag.reference)
        fault = await self.faults.before("look-up")
        if self.slow > 0:
            await self.faults.clock.sleep(self.slow)
        if tag.reference in self.away:
            raise BuildUnavailable("the registry cannot be reached", kind="network")
        if tag.reference not in self._pushed:
            raise BuildUnavailable("the registry does not have it", kind="missing")
        self.faults.after("look-up", fault)
        return self._pushed[tag.reference]
