"""What all tables of the config share: the base class, and types of its values."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
HttpUrl = Annotated[str, Field(pattern=r"^(https?://[^\s/]\S*)?$", max_length=2048)]


def resolved(value: str, info: ValidationInfo) -> str:
    """Resolve a path against the config file's folder, because child processes have other working folders."""
    if value.startswith("~"):
        raise ValueError("~ is not expanded here: write the whole path")
    base = (info.context or {}).get("base", "")
    return os.path.join(base, value) if value else value  # noqa: PTH118 - "" stays "", "./a" stays


def resolved_unless_bare(value: str, info: ValidationInfo) -> str:
    return resolved(value, info) if "/" in value else value


HostPath = Annotated[str, AfterValidator(resolved)]
"""A path of this host; a relative one is relative to the config's folder."""
Secret = Annotated[str, AfterValidator(resolved_unless_bare)]
"""A path, or a name without a slash for a credential that systemd passes."""


class Section(BaseModel):
    """Base of all tables: frozen, with unknown keys forbidden."""

    # Errors hide the input, because a misplaced value may be a secret.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)
