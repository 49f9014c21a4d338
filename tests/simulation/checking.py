"""How guests are judged, which people change like anything else: rightly, and with slips of the pen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from reconciler.model.checks import HttpCheck
from reconciler.model.desired import VMSpec
from tests.fakes.prober import WRONG
from tests.simulation.naming import KEEPER, OTHER_NAMES

PATHS = ("/healthz", "/ready", "/live")


@dataclass
class Checking:
    paths: dict[str, str] = field(default_factory=dict)
    deadlines: dict[str, float] = field(default_factory=dict)
    thresholds: dict[str, int] = field(default_factory=dict)

    def change(self, draw: random.Random, names: Sequence[str]) -> bool:
        """What one commit does to the checks of some, if anything."""
        if draw.random() >= 0.4:
            return False
        for name in draw.sample(names, draw.randrange(1, len(names) + 1)):
            match draw.randrange(6):
                case 0 | 1:
                    self.paths[name] = f"{WRONG}/{draw.randrange(4)}"
                case 2 | 3:
                    self.paths[name] = draw.choice(PATHS)
                case 4:
                    self.deadlines[name] = draw.choice((10.0, 30.0, 60.0))
                case _:
                    self.thresholds[name] = draw.randrange(1, 4)
        return True

    def of(self, spec: VMSpec) -> VMSpec:
        """The same VM, judged as its manifest says by now."""
        name = KEEPER if spec.name in OTHER_NAMES else spec.name
        path = self.paths.get(name, PATHS[0])
        health = replace(
            spec.health,
            checks=tuple(replace(c, path=path) for c in spec.health.checks if isinstance(c, HttpCheck)),
            startup_deadline=self.deadlines.get(name, spec.health.startup_deadline),
            failure_threshold=self.thresholds.get(name, spec.health.failure_threshold),
        )  # fmt: skip
        return replace(spec, health=health)
