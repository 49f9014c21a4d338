"""What `doctor` found of one thing."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from typing import Literal

Result = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    result: Result
    detail: str
    remedy: str = ""
    """A command, where one mends it."""


def asker() -> str:
    """Whose rights were looked at."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
