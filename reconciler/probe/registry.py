"""The kinds of checks, and who asks each. README.md in this folder says how to add one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.probe.asker import Asker, ProcessAsker
from reconciler.probe.http import HttpAsker
from reconciler.probe.tcp import TcpAsker

AskerKinds = Mapping[str, Callable[[], Asker[Any]]]
"""By the kind of the check, which the asker of that entry takes."""

ASKERS: AskerKinds = {"http": HttpAsker, "tcp": TcpAsker, "process": ProcessAsker}
