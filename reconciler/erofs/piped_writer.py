"""An image writer that runs in a process of its own: one processor reads content while another packs it.

Both processes are one program that was split by fork, with the bounds that it had.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO, NoReturn

from reconciler.erofs.image_writer import SEGMENT, ImageWriter

ENTER, LEAVE, LINK, FILE, PROGRAM, FINISH = range(6)
_ORDER = struct.Struct("<BHQ")
"""What, the bytes of its name, the bytes of its content: both follow."""
PIPE_BYTES = 1 << 20
BROKEN = errno.EPIPE


class PipedWriter:
    """As `ImageWriter`; `finish` waits until all is written. Any call may raise OSError of the other process."""

    def __init__(self, open_writer: Callable[[], ImageWriter]) -> None:
        """Fork: `open_writer` is called in the new process."""
        there, here = os.pipe()
        fcntl.fcntl(here, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._process = os.fork()
        if self._process == 0:
            os.close(here)
            _pack(there, open_writer)
        os.close(there)
        self._pipe = os.fdopen(here, "wb", buffering=PIPE_BYTES)

    def enter(self, name: bytes) -> None:
        self._send(ENTER, name)

    def leave(self) -> None:
        self._send(LEAVE)

    def link(self, name: bytes, target: bytes) -> None:
        self._send(LINK, name, target)

    def file(self, name: bytes, content: bytes, *, program: bool) -> None:
        self._send(PROGRAM if program else FILE, name, content)

    def finish(self) -> None:
        self._send(FINISH)
        try:
            self._pipe.close()
        except BrokenPipeError:
            self._fail()
        self._wait()

    def _send(self, order: int, name: bytes = b"", content: bytes = b"") -> None:
        try:
            self._pipe.write(_ORDER.pack(order, len(name), len(content)))
            self._pipe.write(name)
            self._pipe.write(content)
        except BrokenPipeError:
            self._fail()

    def _fail(self) -> NoReturn:
        """Raise what ended the other process."""
        with contextlib.suppress(BrokenPipeError):  # what is held goes nowhere
            self._pipe.close()
        self._wait()
        raise OSError(BROKEN, "the packing process ended before its time")

    def _wait(self) -> None:
        """Raise what ended the other process, if it did not end well: a full disk may show at the very end."""
        code = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        if code > 0:
            raise OSError(code, os.strerror(code))
        if code < 0:
            raise OSError(BROKEN, f"the packing process was ended by signal {-code}")


def _pack(pipe: int, open_writer: Callable[[], ImageWriter]) -> NoReturn:
    """Do what the pipe says; the exit status is the number of an error."""
    status = BROKEN
    try:
        with os.fdopen(pipe, "rb", buffering=PIPE_BYTES) as orders:
            status = 0 if _obey(orders, open_writer()) else BROKEN
    except OSError as error:
        status = error.errno or BROKEN
    except BaseException as error:  # noqa: BLE001 - what the fork has above this is not this process's
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        sys.stdout.flush()
    finally:
        os._exit(status)


def _obey(orders: BinaryIO, writer: ImageWriter) -> bool:
    """Whether the orders came to their end."""
    while head := orders.read(_ORDER.size):
        order, name_bytes, size = _ORDER.unpack(head)
        name = orders.read(name_bytes)
        if order == ENTER:
            writer.enter(name)
        elif order == LEAVE:
            writer.leave()
        elif order == LINK:
            writer.link(name, orders.read(size))
        elif order == FINISH:
            writer.finish()
            return True
        else:
            writer.write_file(name, size, _pieces(orders, size), program=order == PROGRAM)
    return False


def _pieces(orders: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = orders.read(min(size, SEGMENT))
        if not piece:
            raise OSError(BROKEN, "the content is cut off")
        size -= len(piece)
        yield piece
