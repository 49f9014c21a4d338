"""What the engine counts for the operator, as a port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Meter(Protocol):
    """Counts for the operator. Every method is cheap and never fails."""

    def pass_ended(self, result: str, seconds: float) -> None:
        """result: noop, changed, error, blocked or suspended."""
        ...

    def began(self, actions: Mapping[str, int]) -> None:
        """Slow actions that a pass began, by kind."""
        ...

    def gap_ended(self, cause: str, seconds: float) -> None:
        """A VM serves again; cause: planned or unplanned."""
        ...

    def drifted(self, kind: str) -> None:
        """The world left what is desired by itself: a guest, or an image."""
        ...

    def collected(self, freed: int, *, failed: bool) -> None:
        """Images that were not pinned were removed."""
        ...

    def image_checked(self, result: str) -> None:
        """All bytes of an image were read again; result: sound, rotten, gone or unchecked."""
        ...

    def operating(self, running: int, oldest_wall: float) -> None:
        """Slow actions of VMs under way, and when the oldest began; 0 when none is."""
        ...

    def fetch_ended(self, source: str, result: str, seconds: float, reason: str = "") -> None: ...

    def build_ended(self, result: str, seconds: float, revision: str = "") -> None: ...

    def rollback_ended(self, group: str, reason: str, result: str) -> None: ...

    def rollout_ended(self, result: str) -> None: ...

    def check_trial_ended(self, result: str) -> None: ...

    def phase_ended(self, phase: str, seconds: float, revision: str = "") -> None:
        """`revision`, here as elsewhere: the commit for which it was done, an example for people."""
        ...

    def state_written(self, seconds: float) -> None: ...

    def state_failed(self, op: str) -> None: ...

    def revision_running(self, seconds: float, revision: str = "") -> None: ...

    def component_ticked(self, name: str, now_wall: float) -> None: ...

    def panicked(self) -> None: ...
