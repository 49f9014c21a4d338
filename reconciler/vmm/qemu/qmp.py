"""QMP on short connections: QEMU serves one client at a time, so a connection is never kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from qemu.qmp import ExecuteError, QMPClient, QMPError

from reconciler.endpoints import dial
from reconciler.errors import DriverError
from reconciler.vmm.qemu.argv import QMP_SOCKET

MOST_REPLY_BYTES = 1024 * 1024
"""A line longer than this is no answer to anything that we ask."""
PEER = struct.Struct("iii")
"""struct ucred: pid, uid, gid."""

# The library reports each failure to its log as well as to us; we tell it once, as DriverError.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


async def execute(folder: Path, command: str, timeout: float, pid: int | None = None) -> None:
    """Connect, negotiate, execute one command, disconnect, all within `timeout` seconds.

    Raises DriverError: kind is missing, timeout, protocol or refused.
    """
    async with session(folder, command, timeout, pid) as client:
        await client.execute(command)


class Session:
    """A negotiated connection. The library is asked here alone, and whatever it raises has a kind."""

    def __init__(self, client: QMPClient) -> None:
        self._client = client

    async def execute(self, command: str, arguments: dict[str, object] | None = None) -> object:
        """The VMM's answer. Raises DriverError: kind is refused, missing or protocol."""
        with _typed(command):
            return await self._client.execute(command, arguments)


@contextlib.contextmanager
def _typed(purpose: str) -> Iterator[None]:
    """Errors of the library become DriverError; a deadline and a cancellation go on as they are."""
    try:
        yield
    except ExecuteError as error:
        raise DriverError(f"QEMU refused {purpose}: {error}"[:500], kind="refused") from error
    except TimeoutError:
        raise
    except OSError as error:
        raise DriverError(f"the QMP connection broke: {error}", kind="missing") from error
    except (QMPError, EOFError) as error:
        raise DriverError(f"not QMP: {error}"[:500], kind="protocol") from error
    except Exception as error:  # it asserts what a peer may break, and more
        raise DriverError(
            f"not QMP, {purpose} failed in the library: {error!r}"[:500], kind="protocol"
        ) from error


@contextlib.asynccontextmanager
async def session(
    folder: Path, purpose: str, timeout: float, pid: int | None = None
) -> AsyncIterator[Session]:
    """A negotiated connection for `timeout` seconds, with all that is done in them.

    With `pid` the peer must be that process. Raises DriverError: kind is missing, timeout,
    protocol or refused.
    """
    try:
        async with asyncio.timeout(timeout):
            async with _connected(folder, pid, purpose) as client:
                yield Session(client)
    except TimeoutError as error:
        raise DriverError(
            f"QMP did not answer {purpose} within {timeout:g} s", kind="timeout"
        ) from error
    except OSError as error:
        raise DriverError(f"no QMP at {folder / QMP_SOCKET}: {error}", kind="missing") from error


@contextlib.asynccontextmanager
async def _connected(folder: Path, pid: int | None, purpose: str) -> AsyncIterator[QMPClient]:
    with dial(folder / QMP_SOCKET) as sock:
        if pid not in (None, answering := _listener(sock)):
            raise DriverError(
                f"process {answering} answers at {folder / QMP_SOCKET}, and {pid} is meant",
                kind="missing",
            )
        client = QMPClient(readbuflen=MOST_REPLY_BYTES)
        try:
            with _typed(purpose):
                await client.connect(sock)
            yield client
        finally:
            # Hanging up first ends the library's tasks at once, even in front of a peer that
            # neither reads nor writes; without it disconnect() waits for a flush.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            # Whatever it raises here is the hang-up above, or an error that is already on its way.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await client.disconnect()


def _listener(sock: socket.socket) -> int:
    """The pid of the process that listens at the other end, according to the kernel."""
    return int(PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))[0])
