"""Plans and results of health checks, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.model.checks import CheckSpec, ProcessCheck, Purpose
from reconciler.model.names import GenerationNumber, VMName

ProbeResult = Literal["success", "failure", "error"]
"""failure: the guest is bad. error: this host could not ask, which says nothing about the guest."""


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """The checks of one guest, and how often they run. A round runs all checks at once."""

    checks: tuple[CheckSpec, ...]
    period: float
    """Seconds from the start of one round to the start of the next."""
    vm: VMName = VMName("")
    """The VM for which results are kept, over all its guests."""
    generation: GenerationNumber = GenerationNumber(0)
    question: str = ""
    """Identifies the checks, whatever the route to the guest: results of other checks are counted apart."""
    beside: bool = False
    """Whether these are changed checks on trial: rounds never overlap, and metrics do not count them."""

    @property
    def asks_for_life(self) -> bool:
        """Whether any check can cause a restart."""
        return any(
            check.purpose == "liveness"
            for check in self.checks
            if not isinstance(check, ProcessCheck)
        )


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """The result of one check in one round, which took `seconds`."""

    kind: str
    """The kind of check, as in a manifest."""
    result: ProbeResult
    detail: str
    """For display: `GET :8080/healthz -> 503`; at most 200 characters."""
    seconds: float
    purpose: Purpose = "readiness"


@dataclass(frozen=True, slots=True)
class Round:
    """One completed round of a guest's checks."""

    boot: float
    """When, by the boot clock."""
    result: ProbeResult
    seconds: float
    """How long the slowest check took."""
    generation: GenerationNumber


@dataclass(frozen=True, slots=True)
class Liveness:
    """The same counts for checks of purpose liveness alone; zero if there are none."""

    ever_passed: bool = False
    failures: int = 0
    """Failing rounds in a row."""
    failing_since: float | None = None
    """When the first of these failed."""


NO_LIVENESS = Liveness()


@dataclass(frozen=True, slots=True)
class ProbeCounts:
    """Running counts of one guest's probe rounds; boot-clock seconds.

    A round passes when every check succeeds, fails when any check fails, and is an error when
    none fails but one could not be asked.
    """

    rounds: int = 0
    asked: float = 0.0
    """When the newest round was answered."""
    passing_since: float | None = None
    """When the present unbroken run of passing rounds began; None while not passing."""
    ever_passed: bool = False
    failures: int = 0
    """Failing rounds in a row; a passing round resets it, an error does not."""
    failing_since: float | None = None
    """When the first of these failed."""
    errors: int = 0
    """Error rounds in a row."""
    last: tuple[CheckAnswer, ...] = ()
    liveness: Liveness = NO_LIVENESS

    @property
    def detail(self) -> str:
        """The first result that is not a success, else the first, for display."""
        return _first_bad(self.last) or "not asked yet"

    @property
    def liveness_detail(self) -> str:
        """The same among results of checks of purpose liveness."""
        return _first_bad(tuple(a for a in self.last if a.purpose == "liveness")) or self.detail


def _first_bad(answers: tuple[CheckAnswer, ...]) -> str:
    for answer in answers:
        if answer.result != "success":
            return answer.detail
    return answers[0].detail if answers else ""


NEVER_ASKED = ProbeCounts()
