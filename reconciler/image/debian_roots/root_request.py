"""What a builder is asked for, and what it answers: one packet each, over a socket of their own.

With the request go descriptors: of the file into which the tar is written, and of the base's image when
packages are to be added to it. So a builder needs no right to any path of the daemon's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from reconciler.model.layer_kinds.debian_layer import (
    MIRROR,
    MOST_PACKAGES,
    PACKAGE,
    SNAPSHOT,
    SUITE,
)

MOST_BYTES = 128 * 1024
"""Of one packet."""

Trouble = Literal[
    "build-unavailable", "capability", "deadline", "disk", "disk-full", "limit", "missing-package",
    "missing-program", "network",
]  # fmt: skip
"""What is in the way for now: kinds of BuildUnavailable."""
Name = Annotated[str, Field(pattern=SUITE, max_length=40)]


class RootRequest(BaseModel):
    """A base, or packages on top of one. What is empty is the host's to choose."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    archive_id: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Names the cache: requests of the same archive share one."""
    suite: Name
    components: list[Name] = Field(min_length=1, max_length=8)
    packages: list[Annotated[str, Field(pattern=PACKAGE)]] = Field(max_length=MOST_PACKAGES)
    """Empty: a base."""
    snapshot: str = Field(default="", pattern=f"{SNAPSHOT}|^$")
    mirror: str = Field(default="", pattern=f"{MIRROR}|^$", max_length=256)
    keyring: str = Field(default="", pattern=r"^(/[A-Za-z0-9._/+-]+)?$", max_length=1024)
    seconds: float = Field(gt=0, le=86_400)


class RootAnswer(BaseModel):
    """What came of it: versions, or why there are none."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    versions: dict[str, str] = {}
    """Of every package that is installed, by name."""
    failed: str = ""
    definitive: bool = False
    """Asking for the same again would fail again."""
    kind: Trouble = "build-unavailable"
    hint: str = ""
