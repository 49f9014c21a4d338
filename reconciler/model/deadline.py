"""A moment by which something must have happened."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.now import Now


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the boot clock of one boot; void after a reboot, as the guests are."""

    boot: float
    boot_id: str

    def passed(self, now: Now) -> bool:
        return self.boot_id != now.boot_id or now.boot >= self.boot
