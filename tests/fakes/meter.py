"""Counts by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class FakeMeter:
    """Counts calls by name; tests of the engine read the world instead."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def pass_ended(self, result: str, seconds: float) -> None:
        self.counts[f"pass {result}"] += 1

    def began(self, actions: Mapping[str, int]) -> None:
        self.counts.update({f"action {kind}": count for kind, count in actions.items()})

    def gap_ended(self, cause: str, seconds: float) -> None:
        self.counts[f"gap {cause}"] += 1

    def drifted(self, kind: str) -> None:
        self.counts[f"drift {kind}"] += 1

    def collected(self, freed: int, *, failed: bool) -> None:
        self.counts["collection failed" if failed else "collection"] += 1

    def image_checked(self, result: str) -> None:
        self.counts[f"image {result}"] += 1

    def operating(self, running: int, oldest_wall: float) -> None:
        pass

    def fetch_ended(self, source: str, result: str, seconds: float, reason: str = "") -> None:
        self.counts[f"fetch {result}"] += 1

    def build_ended(self, result: str, seconds: float, revision: str = "") -> None:
        self.counts[f"build {result}"] += 1

    def rollback_ended(self, group: str, reason: str, result: str) -> None:
        self.counts[f"rollback {result}"] += 1

    def rollout_ended(self, result: str) -> None:
        self.counts[f"rollout {result}"] += 1

    def check_trial_ended(self, result: str) -> None:
        self.counts[f"check trial {result}"] += 1

    def phase_ended(self, phase: str, seconds: float, revision: str = "") -> None:
        pass

    def state_written(self, seconds: float) -> None:
        pass

    def state_failed(self, op: str) -> None:
        self.counts["state failed"] += 1

    def revision_running(self, seconds: float, revision: str = "") -> None:
        self.counts["revision running"] += 1

    def component_ticked(self, name: str, now_wall: float) -> None:
        pass

    def panicked(self) -> None:
        self.counts["panic"] += 1
