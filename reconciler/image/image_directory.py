"""Entries on disk, one folder a key: whole or absent, synced, and verified by digest before use.

A digest is computed when an entry is made, and again only when size, mtime or inode of a file are
not those that were digested then: a restart with gigabytes of layers reads none of them. Bits that
rot below an unchanged inode are found by `image_reading`, or by `dm-verity` in the guest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reconciler.durable import sync
from reconciler.image import build_record as made
from reconciler.image.counted_dict import CountedDict
from reconciler.model.image import BuiltImage
from reconciler.model.names import digest_of

META = "meta.json"
KEY = re.compile(r"[0-9a-f]{64}")
UNFINISHED = "."
"""Begins the names of folders that are being made or removed."""
MOST_META_BYTES = 64 * 1024
NANOSECONDS = 1e9


class Mark(BaseModel):
    """A file's content, and by what we know that it is still the same."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int
    mtime_ns: int
    inode: int

    def same_file(self, found: os.stat_result) -> bool:
        return (self.size, self.mtime_ns, self.inode) == (
            found.st_size,
            found.st_mtime_ns,
            found.st_ino,
        )


class Meta(BaseModel):
    """What an entry says of itself, in `meta.json`."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    title: str
    sha256: str
    """Of the entry: its only file's, or over those of all its files."""
    size: int
    seconds: float
    verified: dict[str, Mark]
    broken: str = ""
    """What was wrong with its bytes when they were last read: it is not used again."""


class ImageDirectory:
    """A folder of entries that consist of the same files. Blocking: call it in a thread."""

    def __init__(self, root: Path, files: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
        """`optional`: files that an entry has if its build left them; they count as much as the others."""
        self._root = root
        self._files = files
        self._optional = optional
        self._marks: dict[str, dict[str, Mark]] = {}
        """What was verified or made, by key."""
        self.broken: CountedDict[str, BuiltImage] = CountedDict()
        """Entries that stay until they are made again or collected: guests may run on them."""

    def path(self, key: str, file: str) -> Path:
        return self._root / key / file

    def scan(self) -> dict[str, BuiltImage]:
        """The sound entries. What is broken or unfinished is removed, to be built again."""
        self._root.mkdir(mode=0o755, parents=True, exist_ok=True)
        found = {}
        for entry in sorted(self._root.iterdir()):
            if entry.name.startswith(UNFINISHED):
                self._delete(entry)
            elif KEY.fullmatch(entry.name):
                image = self.verify(entry.name)
                if image is not None:
                    found[entry.name] = image
        return found

    def verify(self, key: str) -> BuiltImage | None:
        """The entry, if every file of it is what was made; a broken one is removed."""
        folder = self._root / key
        try:
            meta = self._read_meta(folder)
            self._refuse_broken(key, meta)
            names = (*self._files, *(name for name in self._optional if name in meta.verified))
            marks = {name: self._verified(folder / name, meta.verified[name]) for name in names}
        except (FileNotFoundError, KeyError, ValueError):
            self.remove(key)
            return None
        except OSError:
            return None  # not to be read now, which is no proof that it is broken
        if marks != meta.verified:
            meta = meta.model_copy(update={"verified": marks})
            _write_synced(folder / META, meta.model_dump_json().encode())
        self._marks[key] = marks
        return _built(key, meta)

    def altered(self, keys: Iterable[str]) -> list[str]:
        """Entries of which a file is gone, or may be another one by now. Reads no content."""
        return [key for key in keys if not self._as_marked(key)]

    def _as_marked(self, key: str) -> bool:
        try:
            return all(
                mark.same_file(os.lstat(f"{self._root}/{key}/{name}"))
                for name, mark in self._marks[key].items()
            )
        except (KeyError, FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # not to be looked at now, which is no proof that it is gone

    @contextlib.contextmanager
    def workspace(self, key: str) -> Iterator[Path]:
        """A folder beside the entries to build in; gone afterwards, unless it was published."""
        self._root.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}new-{key[:12]}-", dir=self._root))
        try:
            yield folder
        finally:
            _remove_tree(folder)

    def publish(self, key: str, workspace: Path, title: str, seconds: float) -> BuiltImage:
        """Make a workspace's files the entry of `key`: synced, then visible at once and whole."""
        entry = Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}entry-", dir=self._root))
        try:
            left = (name for name in self._optional if (workspace / name).exists())
            names = (*self._files, *left)
            for name in names:
                (workspace / name).rename(entry / name)
                (entry / name).chmod(0o444)
            marks = {name: _mark(entry / name) for name in names}
            digests = {name: mark.sha256 for name, mark in marks.items()}
            meta = Meta(
                title=title,
                sha256=digests[self._files[0]] if len(self._files) == 1 else digest_of(digests),
                size=sum(mark.size for mark in marks.values()),
                seconds=seconds,
                verified=marks,
            )
            _write_synced(entry / META, meta.model_dump_json().encode())
            entry.chmod(0o755)
            sync(entry)
            self.remove(key)
            entry.rename(self._root / key)
            sync(self._root)
        except BaseException:
            _remove_tree(entry)
            raise
        self._marks[key] = marks
        return _built(key, meta, made.note(self._root, key, title, meta.sha256))

    def marks(self, key: str) -> dict[str, Mark]:
        """What its files were when they were last verified; empty: it is not there."""
        return self._marks.get(key, {})

    def set_broken(self, image: BuiltImage, why: str) -> None:
        """From now on an entry counts as absent, also after a restart; its files stay for now."""
        self.broken[image.key] = replace(image, broken=why)
        # Without this note a restart takes the entry for sound until it is read again.
        with contextlib.suppress(OSError, ValueError):
            meta = self._read_meta(self._root / image.key).model_copy(update={"broken": why})
            _write_synced(self._root / image.key / META, meta.model_dump_json().encode())

    def forget(self, pinned: frozenset[str]) -> None:
        """Forget what images gave that no pin names."""
        made.forget(self._root, pinned)

    def remove(self, key: str) -> int:
        """Remove an entry, visible no more before its files go; returns its bytes."""
        folder = self._root / key
        self._marks.pop(key, None)
        self.broken.pop(key, None)
        with contextlib.suppress(FileNotFoundError):
            freed = sum(file.lstat().st_size for file in folder.iterdir())
            aside = Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}old-", dir=self._root))
            folder.rename(aside / key)
            _remove_tree(aside)
            return freed
        return 0

    def _verified(self, file: Path, mark: Mark) -> Mark:
        found = file.lstat()
        if mark.same_file(found):
            return mark
        fresh = _mark(file)
        if fresh.sha256 != mark.sha256:
            raise ValueError(f"{file}: not the content that was built")
        return fresh

    def _refuse_broken(self, key: str, meta: Meta) -> None:
        if meta.broken or key in self.broken:
            raise ValueError(f"{key}: {meta.broken}")

    @staticmethod
    def _read_meta(folder: Path) -> Meta:
        with (folder / META).open("rb") as file:
            content = file.read(MOST_META_BYTES)
        try:
            return Meta.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(f"{folder / META}: not readable") from error

    @staticmethod
    def _delete(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            _remove_tree(path)
        else:
            path.unlink(missing_ok=True)


def _built(key: str, meta: Meta, differs: str = "") -> BuiltImage:
    made_ns = max((mark.mtime_ns for mark in meta.verified.values()), default=0)
    return BuiltImage(
        key, meta.size, meta.sha256, meta.seconds, differs, meta.title, made_ns / NANOSECONDS
    )


def _mark(path: Path) -> Mark:
    """Sync a file, and digest it meanwhile: the one waits for the disk, the other for the processor."""
    with (
        open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file,  # noqa: PTH123
        ThreadPoolExecutor(1) as beside,
    ):
        synced = beside.submit(os.fsync, file.fileno())
        found = os.fstat(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        synced.result()
    return Mark(sha256=sha256, size=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino)


def _write_synced(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _remove_tree(folder: Path) -> None:
    """Remove a folder and all in it. Follows no symlink: shutil works by descriptors here."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    # A program may close its own folders, and this process may have no right beyond an owner's.
    for place, names, _ in os.walk(folder):
        for path in (Path(place, name) for name in names):
            if not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
