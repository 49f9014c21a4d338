"""Folders of generations: runners in the form that microvm.nix knows, made from the record.

    vms/NAME/generations/N/bin/microvm-run          a script that becomes the VMM
                           bin/microvm-shutdown     the power button, for people without the daemon
                           share/microvm/hypervisor
                           share/microvm/generation.json
    vms/NAME/current -> generations/N               what is started next
    vms/NAME/booted  -> generations/N               what runs
    vms/NAME/volumes/                               outlive all of it

The ledger is the truth and a folder can be made again from it, so nothing here is synced.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from reconciler.errors import DriverError
from reconciler.model.machine import Launch, Machine
from reconciler.model.names import GenerationNumber, VMName
from reconciler.model.record import Generation

VOLUMES = "volumes"

RUN_SCRIPT = """\
#!/bin/sh
# Generation {number} of {vm}. Written by microvm-reconciler; changes are lost.
# By hand: only while the daemon does not run this VM. flock(1) takes the lock that the daemon
# takes too, and QEMU inherits it.
set -eu
cd {cwd}
mkdir -p run
exec 9>>lock
flock --exclusive --nonblock 9
{exports}exec {command}
"""

# The manners of QMP: wait for the greeting, then negotiate, then ask.
SHUTDOWN_SCRIPT = """\
#!/bin/sh
# Presses the power button of {vm} and waits until its VMM is gone.
set -eu
cd {cwd}
{{ printf '%s\\n' '{{"execute":"qmp_capabilities"}}' '{{"execute":"system_powerdown"}}'; sleep 1; }} |
  socat - UNIX-CONNECT:run/qmp.sock >/dev/null
exec flock --exclusive --timeout 90 lock true
"""


class GenerationFolders:
    """`root` is the folder `vms` of the state directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, vm: VMName) -> Path:
        return self._root / vm

    async def create(self, machine: Machine, launch: Launch, generation: Generation) -> None:
        await self._blocking(lambda: self._create(machine, launch, generation))

    async def set_booted(self, vm: VMName, number: GenerationNumber) -> None:
        await self._blocking(lambda: _point(self.folder(vm) / "booted", _name(number)))

    async def drop(self, vm: VMName, numbers: Sequence[GenerationNumber]) -> None:
        await self._blocking(lambda: self._drop(vm, numbers))

    async def remove(self, vm: VMName) -> None:
        await self._blocking(lambda: self._remove(vm))

    async def _blocking(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(work)
        except OSError as error:
            raise DriverError(
                f"{error.filename or self._root}: {error.strerror}",
                kind="folder",
                hint="look for space and permissions in the state directory",
            ) from error

    def _create(self, machine: Machine, launch: Launch, generation: Generation) -> None:
        home = self.folder(generation.vm)
        for name in ("generations", VOLUMES, "run"):
            (home / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in (home / "generations").glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)  # of a daemon that died in between
        target = home / _name(generation.number)
        if not (target / "bin/microvm-run").is_file():
            _write_whole(target, _contents(machine, launch, generation))
        _point(home / "current", _name(generation.number))

    def _drop(self, vm: VMName, numbers: Sequence[GenerationNumber]) -> None:
        home = self.folder(vm)
        for number in numbers:
            _discard(home / _name(number))

    def _remove(self, vm: VMName) -> None:
        home = self.folder(vm)
        if not home.is_dir():
            return
        for entry in home.iterdir():
            # The lock stays to the last: until then nobody else may take the folder for free.
            if entry.name not in {VOLUMES, "lock"}:
                _discard(entry)
        with contextlib.suppress(OSError):
            (home / VOLUMES).rmdir()  # only an empty one goes
        if not (home / VOLUMES).exists():
            _discard(home)


def _name(number: GenerationNumber) -> str:
    return f"generations/{number}"


def _contents(machine: Machine, launch: Launch, generation: Generation) -> dict[str, str]:
    """The files of a runner, by their paths; a path under bin/ is executable."""
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in launch.env)
    facts = {
        "vm": generation.vm,
        "number": generation.number,
        "digest": generation.digest,
        "revision": generation.revision,
        "spec": dataclasses.asdict(generation.spec),
        "machine": dataclasses.asdict(machine),
    }
    cwd = shlex.quote(launch.cwd)
    return {
        "bin/microvm-run": RUN_SCRIPT.format(
            number=generation.number,
            vm=generation.vm,
            cwd=cwd,
            exports=exports,
            command=shlex.join(launch.argv),
        ),
        "bin/microvm-shutdown": SHUTDOWN_SCRIPT.format(vm=generation.vm, cwd=cwd),
        "share/microvm/hypervisor": f"{generation.spec.hypervisor}\n",
        "share/microvm/generation.json": json.dumps(facts, indent=2, sort_keys=True) + "\n",
    }


def _write_whole(target: Path, contents: dict[str, str]) -> None:
    """All files or none: a folder with another name becomes the target by one rename."""
    _discard(target)  # half of one that was dropped when the daemon died
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for name, text in contents.items():
            file = building / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            file.chmod(0o755 if name.startswith("bin/") else 0o644)
        building.chmod(0o755)
        building.rename(target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _point(link: Path, target: str) -> None:
    """Swap a symlink without a moment in which there is none."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.rename(link)


def _discard(path: Path) -> None:
    """Remove a file, link or folder; a folder is renamed first, so that no half of one is seen."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    doomed = Path(tempfile.mkdtemp(prefix=".removed.", dir=path.parent))
    path.rename(doomed / path.name)
    shutil.rmtree(doomed)
