"""Services of every kind of health, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve, port: int = 0) -> AsyncIterator[int]:
    """Serve each connection with `serve`, and close it afterwards; yields the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        left = tuple(tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


def replying(text: str | bytes) -> Serve:
    """Read one request, and say this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text.encode() if isinstance(text, str) else text)
        await writer.drain()

    return serve


def http(status: str = "200 OK", body: str = "ok", headers: str = "") -> Serve:
    size = len(body.encode())
    return replying(f"HTTP/1.1 {status}\r\n{headers}Content-Length: {size}\r\n\r\n{body}")


async def until_the_client_closes(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """What most servers do with a client that says nothing."""
    await reader.read()


async def never_reads(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A guest that hangs, behind user networking that accepted for it."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
