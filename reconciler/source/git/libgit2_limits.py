"""Settings of libgit2 that bound it; they hold for the whole process."""

from __future__ import annotations

import pygit2
from pygit2.enums import ConfigLevel

MIB = 1024 * 1024
WINDOW = 32 * MIB
"""One mapped piece of a pack; the default of 1 GiB does not fit a limited address space."""
MAPPED = 256 * MIB
CACHED = 16 * MIB
FOREIGN_LEVELS = (ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL, ConfigLevel.PROGRAMDATA)


def bound_library() -> pygit2.Settings:
    """Little memory, every object's hash checked, and nobody's own git configuration read."""
    settings = pygit2.Settings()
    settings.mwindow_size = WINDOW
    settings.mwindow_mapped_limit = MAPPED
    settings.cache_max_size(CACHED)
    settings.enable_strict_hash_verification(True)  # noqa: FBT003 - the library's own form
    settings.enable_fsync_gitdir(True)  # noqa: FBT003
    for level in FOREIGN_LEVELS:
        settings.search_path[level] = ""
    return settings
