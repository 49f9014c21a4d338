"""Folders of generations: runners in the form that microvm.nix knows, made from the record.

    vms/NAME/generations/N/bin/microvm-run          a script that becomes the VMM
                           bin/microvm-shutdown     the power button, for people without the daemon
                           share/microvm/hypervisor
                           share/microvm/generation.json
    vms/NAME/current -> generations/N               what runs, or is being started to serve
    vms/NAME/booted  -> generations/N               what runs
    vms/NAME/volumes/                               outlive all of it

The ledger is the truth and a folder can be made again from it, so nothing here is synced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reconciler.durable import sync
from reconciler.errors import DriverError
from reconciler.host import layout
from reconciler.model.machine import Launch, Machine
from reconciler.model.names import GenerationNumber, VMName
from reconciler.model.record import Generation
from reconciler.vmm.generation_files import contents, described

MOST_BYTES = 1024 * 1024
"""Of a description that is read back."""


class GenerationFolders:
    """`root` is the folder `vms` of the state directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, vm: VMName) -> Path:
        return self._root / vm

    async def create(
        self, machine: Machine, launch: Launch, generation: Generation, *, current: bool = False
    ) -> None:
        await self._blocking(lambda: self._create(machine, launch, generation, current=current))

    async def read(self, vm: VMName, number: GenerationNumber) -> Generation | None:
        """As its folder describes it; None when it does not, or not readably."""
        file = layout.description(layout.generation(self.folder(vm), number))
        try:
            found = described(await asyncio.to_thread(_read_bounded, file))
        except OSError:
            return None
        return found if found and (found.vm, found.number) == (vm, number) else None

    async def set_booted(self, vm: VMName, number: GenerationNumber) -> None:
        def point() -> None:
            home = self.folder(vm)
            for link in (layout.current(home), layout.booted(home)):
                _point(link, layout.generation(home, number))

        await self._blocking(point)

    async def drop(self, vm: VMName, numbers: Sequence[GenerationNumber]) -> None:
        await self._blocking(lambda: self._drop(vm, numbers))

    async def remove(self, vm: VMName) -> None:
        await self._blocking(lambda: self._remove(vm))

    async def move(self, old: VMName, new: VMName) -> None:
        await self._blocking(lambda: self._move(self.folder(old), self.folder(new)))

    async def occupied(self, names: Sequence[VMName]) -> frozenset[VMName]:
        folders = [self.folder(name) for name in names]
        found: list[VMName] = []
        await self._blocking(lambda: found.extend(VMName(f.name) for f in folders if _holds(f)))
        return frozenset(found)

    async def _blocking(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(work)
        except OSError as error:
            raise DriverError(
                f"{error.filename or self._root}: {error.strerror}",
                kind="folder",
                hint="look for space and permissions in the state directory",
            ) from error

    def _create(
        self, machine: Machine, launch: Launch, generation: Generation, *, current: bool
    ) -> None:
        home = self.folder(generation.vm)
        for folder in (layout.generations(home), layout.volumes(home), layout.run(home)):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in layout.generations(home).glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)  # of a daemon that died in between
        target = layout.generation(home, generation.number)
        files = contents(machine, launch, generation)
        if target.is_dir():
            # What differs from start to start, as the instance and the host's ports and clock do. Of
            # what serves it tells on, while a second guest of it is on trial: by it people stop a guest.
            if current or not _same(layout.booted(home), target):
                _refresh(target, files)
        else:
            _write_whole(target, files)
        if current:
            _point(layout.current(home), target)

    def _drop(self, vm: VMName, numbers: Sequence[GenerationNumber]) -> None:
        home = self.folder(vm)
        for number in numbers:
            _discard(layout.generation(home, number))

    def _move(self, source: Path, target: Path) -> None:
        """One rename, synced: once this returns, a loss of power does not undo it."""
        if source.exists():
            if _holds(target):
                raise DriverError(
                    f"{target} is there and not empty", kind="occupied",
                    hint="it may hold volumes of an earlier VM of that name: move it away, `retry`",
                )  # fmt: skip
            source.rename(target)
        _discard(layout.guest_folder(source, 2))
        sync(self._root)

    def _remove(self, vm: VMName) -> None:
        home = self.folder(vm)
        _discard(layout.guest_folder(home, 2))
        if not home.is_dir():
            return
        volumes = layout.volumes(home)
        for entry in home.iterdir():
            # The lock stays to the last: until then no other daemon may take the folder for free.
            if entry not in (volumes, layout.lock(home)):
                _discard(entry)
        with contextlib.suppress(OSError):
            for entry in volumes.iterdir():
                if entry.is_socket():  # a runner's, whose VMM was killed
                    entry.unlink()
            volumes.rmdir()  # only an empty one goes
        if not volumes.exists():
            _discard(home)


def _same(link: Path, target: Path) -> bool:
    try:
        return link.samefile(target)
    except OSError:
        return False


def _holds(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES)


def _refresh(target: Path, files: Mapping[str, str]) -> None:
    """Replace the files that changed, each whole."""
    for name, text in files.items():
        path = target / name
        try:
            same = path.read_text(encoding="utf-8") == text
        except (FileNotFoundError, UnicodeDecodeError):
            same = False
        if not same:
            temporary = path.with_name(f".{path.name}.tmp")
            _write(temporary, text, executable=name.startswith("bin/"))
            temporary.rename(path)


def _write_whole(target: Path, files: Mapping[str, str]) -> None:
    """All files or none: a folder with another name becomes the target by one rename."""
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for name, text in files.items():
            _write(building / name, text, executable=name.startswith("bin/"))
        building.chmod(0o755)
        building.rename(target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _write(path: Path, text: str, *, executable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755 if executable else 0o644)


def _point(link: Path, target: Path) -> None:
    """Swap a symlink without a moment in which there is none. It is relative, so that a VM may be renamed."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.relative_to(link.parent))
    temporary.rename(link)


def _discard(path: Path) -> None:
    """Remove a file, link or folder; a folder is renamed first, so that no half of one is seen."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    doomed = Path(tempfile.mkdtemp(prefix=".removed.", dir=path.parent))
    path.rename(doomed / path.name)
    shutil.rmtree(doomed)
