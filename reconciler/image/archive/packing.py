"""The child that makes an image of one tar: `python -m reconciler.image.archive.packing REQUEST`, REQUEST in JSON.

It reads the tar twice. First all of it is checked, its digest above all; only then is it packed, and hashed again.
It writes three files: the image, what the tar has of folders, and at last its verdict. No name of the tar ever
becomes the name of a file of this host.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from reconciler.clock import SystemClock
from reconciler.image.archive.contents import TarContents, lines_of
from reconciler.image.archive.headers import LAST_TIME, Headers
from reconciler.image.archive.layer_tree import LayerTree, tree_of
from reconciler.image.archive.stream import ArchiveStream, BadArchiveError
from reconciler.image.archive.tar_writer import write_tree

BAD_INPUT = 65
"""Exit status: this tar can never become an image; the output is the reason. EX_DATAERR."""
CANNOT = 69
"""Exit status: this host cannot make it; the output is kind, reason and hint as a JSON list. EX_UNAVAILABLE."""
FIXED_UUID = "7265636f-6e63-4c69-8572-000000000001"
COMPRESS_FROM_BYTES = 32 << 20
PIPE_BYTES = 1 << 20
"""As large as a pipe gets without privilege: fewer switches between the two processes."""
SAID_BYTES = 2000
"""Of what a program printed, in an error."""
PARTIAL, REWRITTEN = "packing.image", "packing.tar"


@dataclass(frozen=True, slots=True)
class Request:
    """What the child is asked for; all paths are absolute."""

    tar: str
    digest: str | None
    """`sha256:` and hex, of the tar without its compression. None: the caller made it, and asks for none."""
    format: str
    folder: str
    """Where the child writes what it needs meanwhile."""
    image: str
    contents: str


class CannotPackError(Exception):
    """The image cannot be made on this host now."""

    def __init__(self, reason: str, *, kind: str = "build-unavailable", hint: str = "") -> None:
        super().__init__(reason)
        self.kind = kind
        self.hint = hint


def pack(request: Request) -> TarContents:
    """Make the image. Raises BadArchiveError, CannotPackError and OSError."""
    if request.format == "erofs":
        _require_tar_input()
    tree, digest = check(Path(request.tar), request.digest)
    make_image(request, tree, digest)
    return TarContents(f"sha256:{digest}", len(tree.paths), tree.content_bytes)


def make_image(request: Request, tree: LayerTree, digest: str) -> None:
    """Make the image of a tar that was checked. Raises CannotPackError and OSError."""
    folder = Path(request.folder)
    try:
        with ArchiveStream(Path(request.tar)) as stream:
            make = _erofs if request.format == "erofs" else _squashfs
            make(tree, stream, digest, folder)
    except BadArchiveError as error:
        raise CannotPackError(f"the archive was changed while it was packed: {error}") from error
    with Path(request.contents).open("w", encoding="utf-8") as file:
        file.writelines(lines_of(tree))
    (folder / PARTIAL).rename(request.image)


def check(tar: Path, digest: str | None) -> tuple[LayerTree, str]:
    """Read all of a tar; returns its tree, and its sha256 in hex. Raises BadArchiveError and OSError."""
    with ArchiveStream(tar) as stream:
        entries = Headers(stream)
        tree = tree_of(entries)
        found = stream.finish()
    if digest is not None and digest != f"sha256:{found}":
        raise BadArchiveError(f"the archive has the digest sha256:{found} and not {digest}")
    if digest is None and not entries.ended:
        # With a digest it is known to be whole, and some writers leave the mark out.
        raise BadArchiveError("the archive is cut off: it has no mark of its end")
    return tree, found


def _squashfs(tree: LayerTree, stream: ArchiveStream, digest: str, folder: Path) -> None:
    # The root's time would be now: no option gives it one, but what is later than SOURCE_DATE_EPOCH is lowered to it.
    # A time in the future is lowered too, or the root's would be now again.
    epoch = _latest(tree, SystemClock().now().wall)
    root = tree.root
    # squashfs-tools 4.5 takes the mode alone: its root belongs to the one who runs it, which is root on a host.
    # fmt: off
    argv = (
        "mksquashfs", "-", str(folder / PARTIAL), "-tar", "-noappend", "-quiet", "-no-progress", "-reproducible",
        "-root-mode", f"{root.mode:04o}", "-root-uid", str(root.uid), "-root-gid", str(root.gid),
        "-comp", "zstd", "-Xcompression-level", "3", "-mem", "256M", "-processors", "2",
    )
    # fmt: on
    with _program(argv, {"SOURCE_DATE_EPOCH": str(epoch)}) as given:
        write_tree(tree, stream, given, with_root=False)
        _same(stream, digest)


def _erofs(tree: LayerTree, stream: ArchiveStream, digest: str, folder: Path) -> None:
    rewritten = folder / REWRITTEN
    # A whole file and no pipe: mkfs.erofs reads a tar that is cut off for ever.
    with rewritten.open("wb") as file:
        write_tree(tree, stream, file, with_root=True)
    _same(stream, digest)
    compressed = ("-zlz4",) if tree.content_bytes >= COMPRESS_FROM_BYTES else ()
    # fmt: off
    argv = (
        "mkfs.erofs", "--quiet", f"-T{_latest(tree, LAST_TIME)}", "--mkfs-time", "-U", FIXED_UUID, *compressed,
        "--tar=f", str(folder / PARTIAL), str(rewritten),
    )
    # fmt: on
    with _program(argv, {}):
        pass
    rewritten.unlink()


def _latest(tree: LayerTree, most: float) -> int:
    """The latest time of an entry that is not later than `most`."""
    times = (tree.root.mtime, *(entry.mtime for entry in tree.paths.values()))
    return max((time for time in times if time <= most), default=0)


def _same(stream: ArchiveStream, digest: str) -> None:
    if stream.finish() != digest:
        raise BadArchiveError("other bytes")


def _require_tar_input() -> None:
    said = subprocess.run(("mkfs.erofs", "--help"), capture_output=True, check=False, timeout=10)  # noqa: S607  # PATH is the host's
    if b"--tar" not in said.stdout + said.stderr:
        raise CannotPackError(
            "this host's mkfs.erofs cannot read a tar",
            kind="missing-program",
            hint="leave store.format out or write squashfs, or install erofs-utils 1.7 or newer",
        )


@contextlib.contextmanager
def _program(argv: tuple[str, ...], environment: dict[str, str]) -> Iterator[IO[bytes]]:
    """A program that makes an image of what it is given. Raises CannotPackError if it does not."""
    # In memory: on a full disk the words that say so would find no place.
    said = os.memfd_create("said")
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **environment},
    )  # fmt: skip
    if process.stdin is None:
        raise AssertionError("it was started with a pipe")
    fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    ended_early = False
    try:
        yield process.stdin
        process.stdin.close()
    except BrokenPipeError:
        ended_early = True
    except BaseException:
        process.kill()
        raise
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        status = process.wait()
    if status == -signal.SIGXFSZ:
        raise CannotPackError("the image is larger than a builder may write", kind="limit")
    if status < 0:
        raise CannotPackError(f"{argv[0]} was ended by signal {-status}", kind="limit")
    if status or ended_early:
        size = os.fstat(said).st_size
        tail = os.pread(said, SAID_BYTES, max(0, size - SAID_BYTES))
        reason = tail.decode("utf-8", "replace").strip()
        raise CannotPackError(f"{argv[0]}: status {status}: {reason}")


def main(argv: list[str]) -> int:
    """Answer one request on standard output."""
    # What is made here stays to the end, and has no circles.
    gc.disable()
    try:
        answer: object = asdict(pack(Request(**json.loads(argv[0]))))
        status = 0
    except BadArchiveError as error:
        answer, status = str(error), BAD_INPUT
    except CannotPackError as error:
        answer, status = (error.kind, str(error), error.hint), CANNOT
    except MemoryError:
        answer, status = ("limit", "the archive needs more memory than a builder has", ""), CANNOT
    except FileNotFoundError as error:
        kind = "disk" if os.sep in str(error.filename) else "missing-program"
        answer, status = (kind, f"{error.filename}: is missing on this host", ""), CANNOT
    except OSError as error:
        answer, status = ("disk", f"{error.filename or 'packing'}: {error.strerror}", ""), CANNOT
    sys.stdout.write(json.dumps(answer))
    return status


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # a thread may wait, and taking a large table down takes time
