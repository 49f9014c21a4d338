"""The VM with a volume, whose name people change: rightly, by a slip of the pen, and forgetting things."""

from __future__ import annotations

import random
from collections.abc import Container
from dataclasses import dataclass

KEEPER = "job"
"""It has a volume, and is called so or otherwise: a rename is a commit like any."""
OTHER_NAMES = ("job", "task", "chore")
SLIPS = ("ghost", "web-a", *OTHER_NAMES)
"""What a person writes as `movedFrom` who means another name: what never was, and what is another."""


@dataclass
class Naming:
    called: str = KEEPER
    formerly: str = ""
    """What its manifest has as `movedFrom`."""
    meant: str = ""
    """What it should have."""

    def change(self, draw: random.Random) -> None:
        """What one commit does to the name."""
        if draw.random() < 0.15:
            former = self.called
            self.called = draw.choice([name for name in OTHER_NAMES if name != former])
            self.formerly, self.meant = former, ""
            if draw.random() < 0.3:
                wrong = [name for name in SLIPS if name not in (self.called, former)]
                self.formerly, self.meant = draw.choice(wrong), former
        elif self.meant and draw.random() < 0.5:
            self.formerly, self.meant = self.meant, ""
        elif draw.random() < 0.3:
            self.formerly = ""  # the field has done its work, or was forgotten

    def give_up(self, known: Container[str]) -> bool:
        """Whether a person must remove `movedFrom`, for neither VM is there; it is done then."""
        lost = bool(self.formerly) and self.called not in known
        lost = lost and (self.formerly not in known or self.formerly not in OTHER_NAMES)
        if lost:
            self.formerly = ""
        return lost
