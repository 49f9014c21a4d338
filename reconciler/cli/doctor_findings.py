"""The result of a check of `doctor`."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from typing import Literal

Result = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    name: str
    result: Result
    detail: str
    remedy: str = ""
    """A command or instruction that fixes it; empty if none is needed."""


def user_name() -> str:
    """The user whose permissions were checked."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
