"""Changed checks of a VM: on trial beside the present ones, accepted, or refused."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.desired import HealthPolicy
from reconciler.model.names import Digest, GenerationNumber, InstanceId, Revision
from reconciler.now import Deadline


@dataclass(frozen=True, slots=True)
class CheckTrial:
    """A changed `health` on trial: its checks run against the guest, beside the present ones."""

    generation: GenerationNumber
    """The committed generation whose health policy will become this one."""
    instance: InstanceId
    """The guest that is asked; for another guest the trial starts over."""
    health: HealthPolicy
    revision: Revision
    """The revision that brought the change."""
    deadline: Deadline
    """By when the guest must pass, as long as it passes its present checks."""
    patience: float
    """Seconds of the trial (the new `startupDeadline`); they start again after a time without a daemon."""
    back: bool = False
    """Whether this is a rollback of the group to its former checks."""


@dataclass(frozen=True, slots=True)
class BlockedChecks:
    """A changed `health` that failed its trial; it is not tried again automatically."""

    key: Digest
    """The rollout key: digest and health policy together."""
    generation: GenerationNumber
    revision: Revision
    reason: str
    attempts: int
    first_wall: float
    last_wall: float
    withdrawn: bool = False
    """Whether the desired state has other checks by now."""


@dataclass(frozen=True, slots=True)
class CheckChange:
    """The newest change of a generation's checks that passed its trial."""

    before: HealthPolicy
    revision: Revision
