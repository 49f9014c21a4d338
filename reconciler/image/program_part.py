"""What runs in a guest that is made from an image without an init: its program, and our init for it.

The part image that holds both has everything below one folder, `/.reconciler`, and needs nothing else of
the image. `guest/program/init` is the first process, and reads what is described here.
"""

from __future__ import annotations

import asyncio
import io
import posixpath
import re
import shlex
import signal
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.errors import BuildFailed
from reconciler.image.debian_packages import Debian
from reconciler.image.inputs.busybox import GUEST, fetch_busybox

HOME = ".reconciler"
"""A folder that no image has."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Of container engines, for an image without a PATH."""
MOST_WORDS = 4096
MOST_WORD_BYTES = 100 * 1024
"""Linux takes 128 KiB for one argument or variable."""
MOST_BYTES = 512 * 1024
"""Arguments and variables together; Linux takes 2 MiB, and they are handed on once as arguments."""
MOST_USER_CHARACTERS = 256
MOST_ID = 2**31 - 1
HIGHEST_SIGNAL = 64
INITS = frozenset(
    f"{folder}/{name}"
    for name, folders in (
        ("init", ("/sbin", "/usr/sbin")),
        ("openrc-init", ("/sbin", "/usr/sbin")),
        ("systemd", ("/lib/systemd", "/usr/lib/systemd")),
    )
    for folder in folders
)
"""What our initrd starts without our own init; these refuse to be any other process than the first."""
USER = re.compile(r"[^\s:\x00-\x1f\x7f]*(:[^\s:\x00-\x1f\x7f]+)?")
SIGNAL = re.compile(r"(?:SIG)?(?P<name>[A-Z][A-Z0-9]*)(?P<offset>[+-]\d{1,2})?")
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
"""What udev makes in /dev elsewhere."""


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """The one program of an image, and how it is run."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    """`NAME=VALUE`; of two with one name, the second counts."""
    user: str = ""
    """As an image says it: a name or a number, or two with a colon between. The guest looks names up."""
    folder: str = "/"
    """Where it is started; made if the image lacks it."""
    stop_signal: int = signal.SIGTERM

    @staticmethod
    def of(
        *,
        entrypoint: Sequence[str] | None = None,
        cmd: Sequence[str] | None = None,
        env: Sequence[str] | None = None,
        user: str | None = None,
        working_dir: str | None = None,
        stop_signal: str | None = None,
    ) -> ProgramSpec:
        """The program of an OCI image's configuration. Raises BuildFailed."""
        spec = ProgramSpec(
            argv=_checked_argv((*(entrypoint or ()), *(cmd or ()))),
            env=_checked_env(env or ()),
            user=_checked_user(user or ""),
            folder=_checked_folder(working_dir or "/"),
            stop_signal=signal_number(stop_signal or "SIGTERM"),
        )
        _check_size((*spec.argv, *spec.env, spec.folder))
        return spec

    @property
    def is_init(self) -> bool:
        """Whether the image's own init is its program: then the part holds nothing of ours."""
        return len(self.argv) == 1 and self.argv[0] in INITS and self.user in ("", "0", "root")

    @property
    def key_inputs(self) -> Mapping[str, Any]:
        """Plain data for a key: all of the program, and nothing of our init."""
        return {
            **({"init": True} if self.is_init else {}),
            "argv": list(self.argv),
            "env": list(self.env),
            "user": self.user,
            "folder": self.folder,
            "stop_signal": int(self.stop_signal),
        }


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A folder of the image whose owner and mode the part repeats; `path` without a leading slash."""

    path: str
    mode: int
    uid: int
    gid: int
    mtime: int = 0


@dataclass(frozen=True, slots=True)
class ProgramFile:
    """A file of the part, or a link; `path` below the root of the guest, without a leading slash."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    link: str = ""


def signal_number(text: str) -> int:
    """The number of a signal by its name (`SIGQUIT`, `RTMIN+3`) or number. Raises BuildFailed."""
    if re.fullmatch(r"\d{1,2}", text, re.ASCII) and 0 < int(text) <= HIGHEST_SIGNAL:
        return int(text)
    match = SIGNAL.fullmatch(text.upper())
    known = getattr(signal, f"SIG{match['name']}", None) if match else None
    if match is not None and isinstance(known, signal.Signals):
        number = known + int(match["offset"] or 0)
        ranged = signal.SIGRTMIN <= number <= signal.SIGRTMAX
        if ranged if match["offset"] else 0 < number <= HIGHEST_SIGNAL:
            return int(number)
    raise BuildFailed(f"the image's StopSignal {_shown(text)} is no signal of Linux")


def description(spec: ProgramSpec) -> bytes:
    """The program as `guest/program/init` reads it: a shell script of quoted words and nothing else."""
    paths = [entry.removeprefix("PATH=") for entry in spec.env if entry.startswith("PATH=")]
    lines = [
        "# What this guest runs, by the configuration of its image.",
        f"user={shlex.quote(spec.user)}",
        f"directory={shlex.quote(spec.folder)}",
        f"path={shlex.quote(paths[-1] if paths else DEFAULT_PATH)}",
        f"stop={spec.stop_signal:d}",
        f"command={shlex.quote(spec.argv[0])}",
        _function("with_environment", spec.env),
        _function("with_arguments", spec.argv[1:]),
        "",
    ]
    return _encoded("\n".join(lines))


def program_files(spec: ProgramSpec) -> list[ProgramFile]:
    """All files of the part but busybox itself; none for an image that brings its init."""
    if spec.is_init:
        return []
    recipes = GUEST / "program"
    found = [ProgramFile(f"{HOME}/program", description(spec))]
    for recipe in sorted(path for path in recipes.rglob("*") if path.is_file()):
        path = f"{HOME}/{recipe.relative_to(recipes).as_posix()}"
        found.append(ProgramFile(path, recipe.read_bytes(), 0o755))
    # Under a name of its own, as this program's name says that it is busybox and no program of the image.
    found.append(ProgramFile(f"{HOME}/bin/nsenter", link="busybox"))
    found += (ProgramFile(f"{HOME}/dev/{name}", link=link) for name, link in LINKS.items())
    return found


async def build_program(
    spec: ProgramSpec,
    target: Path,
    debian: Debian,
    scratch: Path,
    folders: Sequence[FolderEntry] = (),
) -> int:
    """Write the part as a tar at `target`; returns its bytes. Raises BuildUnavailable.

    scratch: a folder for the package of busybox. folders: what the part says of other folders.
    """
    busybox = await fetch_busybox(debian, scratch)
    return await asyncio.to_thread(write_program, spec, target, busybox, folders)


def write_program(
    spec: ProgramSpec, target: Path, busybox: Path, folders: Sequence[FolderEntry] = ()
) -> int:
    """Write the part as a tar at `target`, always the same for the same input; returns its bytes."""
    files = program_files(spec)
    if files:
        files.append(ProgramFile(f"{HOME}/bin/busybox", busybox.read_bytes(), 0o755))
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder in _all_folders(folders, files):
            entry = tarfile.TarInfo(folder.path or ".")
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, folder.mode, folder.mtime
            entry.uid, entry.gid = folder.uid, folder.gid
            tar.addfile(entry)
        for file in files:
            entry = tarfile.TarInfo(file.path)
            entry.mode = file.mode
            if file.link:
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, file.link, 0o777
            entry.size = len(file.content)
            tar.addfile(entry, io.BytesIO(file.content))
    return target.stat().st_size


def _all_folders(given: Iterable[FolderEntry], files: Iterable[ProgramFile]) -> list[FolderEntry]:
    """Root, the folders that are given, and those of our files, each after the one that it is in."""
    ours = {posixpath.dirname(file.path) for file in files}
    ours |= {posixpath.dirname(path) for path in ours}
    found = {path: FolderEntry(path, 0o755, 0, 0) for path in ("", *ours)}
    found |= {folder.path: folder for folder in given}
    return [found[path] for path in sorted(found)]


def _function(name: str, words: Iterable[str]) -> str:
    """A shell function that runs its arguments with these words after them."""
    return f'{name}() {{ "$@"{"".join(f" {shlex.quote(word)}" for word in words)}; }}'


def _checked_argv(argv: tuple[str, ...]) -> tuple[str, ...]:
    if not argv or not argv[0]:
        raise BuildFailed(
            "the image names no program: it has neither an Entrypoint nor a Cmd",
            hint="say what it runs, or let a layer with an init be below it",
        )
    for word in argv:
        _check_text("argument", word)
    return argv


def _checked_env(env: Sequence[str]) -> tuple[str, ...]:
    for entry in env:
        _check_text("variable", entry)
        if entry.find("=") < 1:
            raise BuildFailed(f"the image's variable {_shown(entry)} is not NAME=VALUE")
    return tuple(env)


def _checked_user(user: str) -> str:
    _check_text("User", user)
    if len(user) > MOST_USER_CHARACTERS or not USER.fullmatch(user):
        raise BuildFailed(f"the image's User {_shown(user)} is not USER or USER:GROUP")
    return ":".join(_checked_id(part) for part in user.split(":"))


def _checked_id(part: str) -> str:
    """A name as it is; a number in one form only."""
    if not (part.isascii() and part.isdigit()):
        return part
    if int(part) > MOST_ID:
        raise BuildFailed(f"the image's User has the number {_shown(part)}: at most {MOST_ID}")
    return str(int(part))


def _checked_folder(folder: str) -> str:
    _check_text("WorkingDir", folder)
    return folder if folder.startswith("/") else f"/{folder}"


def _check_size(words: Sequence[str]) -> None:
    sizes = [len(_encoded(word)) for word in words]
    if len(words) > MOST_WORDS or sum(sizes) > MOST_BYTES or max(sizes) > MOST_WORD_BYTES:
        raise BuildFailed(
            f"the image's program has {len(words)} arguments and variables of {sum(sizes)} bytes,"
            f" the longest of {max(sizes)}",
            hint=f"at most {MOST_WORDS}, {MOST_BYTES} bytes together and {MOST_WORD_BYTES} each",
        )


def _check_text(what: str, text: str) -> None:
    if "\0" in text:
        raise BuildFailed(f"the image's {what} {_shown(text)} has a NUL in it")
    try:
        _encoded(text)
    except UnicodeEncodeError as error:
        raise BuildFailed(f"the image's {what} {_shown(text)} is no Unicode text") from error


def _encoded(text: str) -> bytes:
    return text.encode()


def _shown(text: str) -> str:
    return ascii(text[:60])
