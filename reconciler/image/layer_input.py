"""What `image/inputs` has for each kind of layer: how its image is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from reconciler.image.build_site import BuildSite


@dataclass(frozen=True, slots=True)
class LayerInput:
    """How one kind of layer is made."""

    build: Callable[[Any, BuildSite], Awaitable[None]]
    """Leaves the image of its source, of the class of the kind, in the site.

    Raises BuildFailed when this source can never become a layer, and BuildUnavailable when it cannot be
    made now. What it starts ends when it is cancelled.
    """
    seconds: float
    """Wall clock for all of it."""
    composed: bool = False
    """It leaves the names of parts (`site.compose`) and no image."""
    ready: bool = False
    """Whether its images are ready-made: of a format of their own, which it has judged."""
