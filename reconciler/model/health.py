"""What guests are asked, and what they answered, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.model.checks import CheckSpec, ProcessCheck, Purpose
from reconciler.model.names import GenerationNumber, VMName

ProbeResult = Literal["success", "failure", "error"]
"""failure: the guest is bad. error: we could not ask; says nothing about the guest."""


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """What to ask one guest, and how often. A round asks all checks at once."""

    checks: tuple[CheckSpec, ...]
    period: float
    """Seconds from the start of one round to the start of the next."""
    vm: VMName = VMName("")
    """Whose answers they are: those of a VM are kept together, over its guests."""
    generation: GenerationNumber = GenerationNumber(0)
    question: str = ""
    """Names what is asked, by whatever way: answers to another question are counted apart."""
    beside: bool = False
    """Changed checks on trial: the guest is up, so it is asked calmly, and no metric counts the answers."""

    @property
    def asks_for_life(self) -> bool:
        """Whether any of the checks decides on a restart."""
        return any(
            check.purpose == "liveness"
            for check in self.checks
            if not isinstance(check, ProcessCheck)
        )


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    kind: str
    """Of the check, as a manifest calls it."""
    result: ProbeResult
    detail: str
    """For people: `GET :8080/healthz -> 503`. At most 200 characters."""
    seconds: float
    purpose: Purpose = "readiness"


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a guest's checks that was answered."""

    boot: float
    """When, by the boot clock."""
    result: ProbeResult
    seconds: float
    """How long the slowest check took."""
    generation: GenerationNumber


@dataclass(frozen=True, slots=True)
class Liveness:
    """The same counts for the checks of liveness alone; zero where there are none."""

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
        """The first answer that is not a success, else the first, for people."""
        return _first_bad(self.last) or "not asked yet"

    @property
    def liveness_detail(self) -> str:
        """The same among the answers of checks of liveness."""
        return _first_bad(tuple(a for a in self.last if a.purpose == "liveness")) or self.detail


def _first_bad(answers: tuple[CheckAnswer, ...]) -> str:
    for answer in answers:
        if answer.result != "success":
            return answer.detail
    return answers[0].detail if answers else ""


NEVER_ASKED = ProbeCounts()
