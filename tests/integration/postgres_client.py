"""Enough of PostgreSQL's protocol for tests: one statement at a time, as a user that needs no password."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

SECONDS = 20.0
VERSION = 196_608  # 3.0
READY, ERROR, ROW = b"Z", b"E", b"D"
HEAD = struct.Struct("!cI")


class StatementFailed(Exception):
    """The server refused, or went away before it was done."""


class Connection:
    """Opened on entry. What `run` returns was committed."""

    def __init__(self, port: int, user: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self._stream = self._socket.makefile("rwb")
        named = f"user\0{user}\0database\0{user}\0\0".encode()
        try:
            self._stream.write(struct.pack("!II", 8 + len(named), VERSION) + named)
            self._until_ready()
        except BaseException:
            self._close()
            raise

    def run(self, statement: str) -> list[str]:
        """The first column of all rows. Raises StatementFailed or OSError."""
        text = statement.encode() + b"\0"
        self._stream.write(b"Q" + struct.pack("!I", 4 + len(text)) + text)
        return self._until_ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        with suppress(OSError):
            self._stream.close()
        self._socket.close()

    def _until_ready(self) -> list[str]:
        self._stream.flush()
        rows, refused = [], ""
        for kind, body in self._messages():
            if kind == ROW:
                (length,) = struct.unpack_from("!i", body, 2)
                rows.append(body[6 : 6 + length].decode())
            elif kind == ERROR:
                refused = body.replace(b"\0", b" ").decode(errors="replace")
                if refused.startswith("SFATAL"):
                    break
            elif kind == READY:
                break
        if refused:
            raise StatementFailed(refused)
        return rows

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        while True:
            head = self._stream.read(HEAD.size)
            if len(head) < HEAD.size:
                raise StatementFailed("the server closed the connection")
            kind, length = HEAD.unpack(head)
            yield kind, self._stream.read(length - 4)
