"""Owner and modes of a VM's folder: what its guest may use, and what stays the daemon's alone.

    vms/NAME/              root     0711   the VMM makes and replaces nothing here
             lock          group    0640   to be opened and locked
             console.log   group    0660   to be appended to
             run/          group    0770   the VMM's sockets
             volumes/      group    0710   0770 for a runner of Nix, which makes its own
             volumes/*     group    0660
             vmm.log       root     0600   opened by systemd

No file is a guest's own, but for what a runner made: its user lives as long as the guest, so what it may do comes from a group,
and what it can see from its mount namespace.
"""

from __future__ import annotations

import grp
import os
from pathlib import Path

from reconciler.errors import SupervisorError
from reconciler.host import layout
from reconciler.supervisor.systemd_unit import GROUP

OPENED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def group_id() -> int:
    """The id of the guests' group. Raises SupervisorError if the host lacks it."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError as error:
        raise SupervisorError(
            f"there is no group {GROUP}",
            kind="group",
            hint="the package makes it; by hand: systemd-sysusers, or groupadd --system microvm",
        ) from error


def grant_access(folder: Path, group: int, *, makes_own: bool = False) -> None:
    """Set owners and modes in a guest's folder. Blocks for a moment. Raises OSError.

    `makes_own`: the guest creates its volumes and sockets itself; those are left unchanged.

    Links are not followed: a compromised VMM could point one at any file of the host.
    """
    layout.run(folder).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    _set(layout.run(folder), group, 0o770)
    for path, mode in ((layout.lock(folder), 0o640), (layout.console(folder), 0o660)):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        _set(path, group, mode)
    volumes = layout.volumes(folder)
    if volumes.is_dir():
        _set(volumes, group, 0o770 if makes_own else 0o710)
        for volume in volumes.iterdir():
            ours = volume.lstat().st_uid == os.geteuid()
            if ours and not volume.is_symlink() and volume.is_file():
                _set(volume, group, 0o660)


def _set(path: Path, group: int, mode: int) -> None:
    descriptor = os.open(path, OPENED)
    try:
        found = os.fstat(descriptor)
        if found.st_gid != group:
            os.fchown(descriptor, -1, group)
        if found.st_mode & 0o7777 != mode:
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
