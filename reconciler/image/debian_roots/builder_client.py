"""The daemon's side of a builder: one connection for each request, and its end with the request's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from pydantic import ValidationError

from reconciler.children.spare import KEPT_VARIABLES
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.debian_roots.root_request import MOST_BYTES, RootAnswer, RootRequest

END_SECONDS = 30.0
"""For a builder to end what it started, and to remove the root that it was making."""
PACKAGES, WORK = "cache/archives", "work"
"""Where a builder has downloaded packages, and the root that it makes, per archive."""
MODULE = "reconciler.image.debian_roots.builder"

Connect = Callable[[], AbstractAsyncContextManager[socket.socket]]
"""A connection to a builder that serves one request, and ends with it."""


class DebianRoots:
    """Has builders make root file systems of packages."""

    def __init__(self, connect: Connect, home: Path | None = None) -> None:
        """`home`: where builders keep and make what they do; None: unknown."""
        self._connect = connect
        self._home = home

    def written(self, request: RootRequest) -> tuple[Path, ...]:
        """What grows while a request is served, as far as it can be seen from here."""
        if self._home is None:
            return ()
        place = self._home / request.archive_id
        return place / PACKAGES, place / WORK

    async def make(
        self, request: RootRequest, out: Path, base: Path | None = None
    ) -> Mapping[str, str]:
        """Have a tar written into `out`: a base, or what packages add to the image `base`.

        Returns the versions of all packages that are installed then. Raises BuildFailed or
        BuildUnavailable. Cancelling it ends the builder.
        """
        packet = request.model_dump_json().encode()
        modes = [(out, "wb"), *([(base, "rb")] if base is not None else [])]
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(path.open(mode)) for path, mode in modes]
            descriptors = [file.fileno() for file in files]
            async with self._connect() as builder:
                return _versions(await _asked(builder, packet, descriptors))


async def _asked(builder: socket.socket, packet: bytes, descriptors: list[int]) -> bytes:
    """What it answers; nothing when it died."""
    try:
        socket.send_fds(builder, [packet], descriptors)
        return await asyncio.get_running_loop().sock_recv(builder, MOST_BYTES)
    except ConnectionError:
        return b""


def _versions(content: bytes) -> Mapping[str, str]:
    try:
        answer = RootAnswer.model_validate_json(content)
    except ValidationError as error:
        raise BuildUnavailable(
            "the builder died" if not content else "the builder did not answer",
            kind="spawn",
            hint="see `journalctl -u 'reconciler-build@*'`",
        ) from error
    if answer.failed and answer.definitive:
        raise BuildFailed(answer.failed, hint=answer.hint)
    if answer.failed:
        raise BuildUnavailable(answer.failed, kind=answer.kind, hint=answer.hint)
    return answer.versions


def own_roots(home: Path) -> DebianRoots:
    """What makes roots on a host without our units; `home` is where its builders keep packages."""
    return DebianRoots(as_child(home), home)


def by_socket(path: Path) -> Connect:
    """Builders that systemd starts, each by a connection to its socket."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ours:
            ours.setblocking(False)  # noqa: FBT003
            try:
                await asyncio.get_running_loop().sock_connect(ours, str(path))
            except OSError as error:
                raise BuildUnavailable(
                    f"no builder listens on {path}: {error.strerror}",
                    kind="spawn",
                    hint="systemctl restart reconciler-build.socket",
                ) from error
            yield ours

    return connect


def as_child(home: Path) -> Connect:
    """Builders as children, on a host without our units; `home` is where they keep packages."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            ours.setblocking(False)  # noqa: FBT003
            with theirs:
                child = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", MODULE, str(home)),
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    env={
                        name: value for name, value in os.environ.items() if name in KEPT_VARIABLES
                    },
                    start_new_session=True,
                )
            try:
                yield ours
            finally:
                ours.close()
                # It ends what it started, and needs a moment for that.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(END_SECONDS):
                        await child.wait()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                await child.wait()

    return connect
