"""Changed checks of a VM: on trial beside the present ones, taken over, or refused."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.desired import HealthPolicy
from reconciler.model.names import Digest, GenerationNumber, InstanceId, Revision
from reconciler.now import Deadline


@dataclass(frozen=True, slots=True)
class CheckTrial:
    """A changed `health`, asked of the guest that runs beside its present checks."""

    generation: GenerationNumber
    """A committed one, whose health policy is to become this."""
    instance: InstanceId
    """The guest that is asked; the trial of another one begins from the start."""
    health: HealthPolicy
    revision: Revision
    """The revision that brought the change."""
    deadline: Deadline
    """Until when the guest must have passed, if it is well by its present checks."""
    patience: float
    """Seconds that it has, and has again where the clock stood still: the `startupDeadline` that is asked for."""
    back: bool = False
    """The group goes back to the checks it had before."""


@dataclass(frozen=True, slots=True)
class BlockedChecks:
    """A changed `health` that did not pass its trial; never tried again by itself."""

    key: Digest
    """The rollout key: digest and health policy together."""
    generation: GenerationNumber
    revision: Revision
    reason: str
    attempts: int
    first_wall: float
    last_wall: float
    withdrawn: bool = False
    """The desired state asks for other checks by now."""


@dataclass(frozen=True, slots=True)
class CheckChange:
    """The newest change of a generation's checks that passed its trial."""

    before: HealthPolicy
    revision: Revision
