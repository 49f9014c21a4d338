"""The kinds of sources, and what opens each. README.md in this folder says how to add one.

The kind is the class of the settings: today all settings are git's, and say no type. A second kind gets
a `type`, as entries of `[[notifications]]` have one, with git as the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reconciler.clock import Clock
from reconciler.config import (
    Config,
    GitSourceConfig,
    KernelsConfig,
    PolicyConfig,
    SourceConfig,
)
from reconciler.host import layout
from reconciler.source.git.source import GitSource
from reconciler.spans import UNTRACED, Tracer

AnySource = GitSource
"""Every kind; each is a `Source` of `engine/interfaces.py` that also opens and closes."""
MakeSource = Callable[[Any, PolicyConfig, KernelsConfig, Path, Clock, Tracer], AnySource]
"""Takes the settings of the class that it is registered for, what bounds and resolves manifests, and the
folder of the state directory that is its own. Neither waits nor reads."""
SourceKinds = Mapping[type[SourceConfig], MakeSource]

SOURCES: SourceKinds = {GitSourceConfig: GitSource}


async def open_source(
    config: Config, clock: Clock, tracer: Tracer = UNTRACED, kinds: SourceKinds = SOURCES
) -> AnySource:
    """The source that the settings mean, ready to be asked. `close` it when done.

    Raises BuildUnavailable when it cannot have content ready for builds; nothing is left open then.
    What is fetched and read waits for the first question.
    """
    make, folder = kinds[type(config.source)], layout.mirror(config.state)
    source = make(config.source, config.policy, config.kernels, folder, clock, tracer)
    try:
        await source.open()
    except BaseException:
        await source.close()
        raise
    return source
