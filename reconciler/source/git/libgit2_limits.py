"""Limits of libgit2 for the whole process."""

from __future__ import annotations

import pygit2
from pygit2.enums import ConfigLevel

MIB = 1024 * 1024
WINDOW = 32 * MIB
"""Bytes of a pack that are mapped at once; the default of 1 GiB does not fit a limited address space."""
MAPPED = 256 * MIB
"""Bytes that are mapped in total."""
CACHED = 16 * MIB
"""Bytes of parsed objects; each is read once, so a larger cache is of little use."""
FOREIGN_LEVELS = (ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL, ConfigLevel.PROGRAMDATA)


def bound_library() -> pygit2.Settings:
    """Apply the limits: little memory, hashes of objects verified, no git configuration read.

    A `.gitconfig` of the system or a user could redirect URLs or add credential helpers.
    """
    settings = pygit2.Settings()
    settings.mwindow_size = WINDOW
    settings.mwindow_mapped_limit = MAPPED
    settings.cache_max_size(CACHED)
    settings.enable_strict_hash_verification(True)  # noqa: FBT003 - the library's own form
    settings.enable_fsync_gitdir(True)  # noqa: FBT003
    for level in FOREIGN_LEVELS:
        settings.search_path[level] = ""
    return settings
