"""The builder's process: takes one request from its standard input, a socket, and answers there.

    python -m reconciler.image.debian_roots.builder HOME

Under systemd its unit is started by a connection to its socket; without, the daemon starts it with one
end of a pair. It does not run as root of the host for longer than it takes to enter namespaces, and ends
with all that it started when the other end is closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import sys
import time
from pathlib import Path

from pydantic import ValidationError

from reconciler.image.debian_roots import bootstrap, user_namespace
from reconciler.image.debian_roots.root_request import MOST_BYTES, RootAnswer, RootRequest

STANDARD_INPUT = 0
MOST_DESCRIPTORS = 2
LOCK_PAUSE = 0.2
MOST_ARCHIVES = 8
"""Whose lists and packages are kept."""


def main(home: Path) -> int:
    """Serve the one request."""
    asked = socket.socket(fileno=os.dup(STANDARD_INPUT))
    answer = _served(asked, home)
    if answer is None:
        return 1  # withdrawn
    asked.sendall(answer.model_dump_json().encode())
    return 0


def _served(asked: socket.socket, home: Path) -> RootAnswer | None:
    packet, descriptors, _, _ = socket.recv_fds(asked, MOST_BYTES, MOST_DESCRIPTORS)
    try:
        request = RootRequest.model_validate_json(packet)
    except ValidationError as error:
        return RootAnswer(failed=f"not a request: {error.errors()[0]['msg']}", definitive=True)
    if len(descriptors) != (2 if request.packages else 1):
        return RootAnswer(failed="not the descriptors of a request", definitive=True)
    deadline = time.monotonic() + request.seconds
    try:
        place = prepare(home, request.archive_id)
        if not _locked(_lock(home), asked, deadline):
            return None if _closed(asked) else _late(request)
        _sweep(home, place)
        os.chdir(place)
        return _build(request, descriptors, asked, deadline)
    except user_namespace.NoNamespace as error:
        return RootAnswer(
            failed=f"no namespaces for the builder: {error}",
            kind="capability",
            hint="does this host allow user namespaces? see `sysctl user.max_user_namespaces`;"
            " without root, uidmap and ids in /etc/subuid are needed",
        )
    except OSError as error:
        return RootAnswer(failed=f"{error.filename or home}: {error.strerror}", kind="disk")


def prepare(home: Path, archive_id: str) -> Path:
    """The folder of an archive, owned by the root of the namespaces, in a home that is closed to it.

    What scripts of one archive's packages reach, when they leave their root, is the folder of that one alone.
    """
    home.mkdir(parents=True, exist_ok=True)
    if home.stat().st_uid != os.geteuid():
        os.chown(home, os.geteuid(), -1)
    home.chmod(0o700)
    place = home / archive_id
    place.mkdir(exist_ok=True)
    owner = user_namespace.owner()
    if place.stat().st_uid != owner:
        os.chown(place, owner, -1)
    return place


def _lock(home: Path) -> int:
    """The open lock of a home: what runs for two archives has the same ids, and would reach each other."""
    lock = home.with_name(f"{home.name}.lock")
    return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _sweep(home: Path, place: Path) -> None:
    """Remove the folders of archives that were not used for longest; each date of `refresh` has one."""
    others = [path for path in home.iterdir() if path.is_dir() and path != place]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[MOST_ARCHIVES - 1 :]:
        with contextlib.suppress(OSError):  # another time
            if old.stat().st_uid == user_namespace.owner():
                os.chdir(old)
                # What is in it belongs to ids of the namespace.
                os.waitpid(user_namespace.start_inside(bootstrap.clear), 0)
            old.rmdir()


def _locked(lock: int, asked: socket.socket, deadline: float) -> bool:
    """Wait for the builds before this one; False when the request was withdrawn or is late."""
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _closed(asked, LOCK_PAUSE):
                return False
        else:
            return True
    return False


def _closed(asked: socket.socket, seconds: float = 0.0) -> bool:
    """Whether the other end was closed, at the latest after so many seconds."""
    poll = select.poll()
    poll.register(asked, select.POLLRDHUP | select.POLLHUP)
    return bool(poll.poll(int(seconds * 1000)))


def _build(
    request: RootRequest, descriptors: list[int], asked: socket.socket, deadline: float
) -> RootAnswer | None:
    said, answered = os.pipe()

    def work() -> int:
        base = descriptors[1] if request.packages else None
        with os.fdopen(descriptors[0], "wb", closefd=False) as out:
            answer = bootstrap.make_root(request, out, base)
        os.write(answered, answer.model_dump_json().encode())
        return 0

    child = user_namespace.start_inside(work)
    os.close(answered)
    try:
        content = _read_answer(said, asked, deadline)
    finally:
        user_namespace.end_inside(child)
    if content is None:
        _remove_what_was_begun()
        return None if _closed(asked) else _late(request)
    try:
        return RootAnswer.model_validate_json(content)
    except ValidationError:
        return RootAnswer(failed="the builder died", kind="limit", hint="see `journalctl -k`")


def _remove_what_was_begun() -> None:
    """It belongs to ids that only a namespace may act for."""
    os.waitpid(user_namespace.start_inside(bootstrap.remove_work), 0)


def _read_answer(said: int, asked: socket.socket, deadline: float) -> bytes | None:
    """All that is answered; None when the request was withdrawn or is late."""
    poll = select.poll()
    poll.register(said, select.POLLIN)
    poll.register(asked, select.POLLRDHUP | select.POLLHUP)
    content = b""
    while (left := deadline - time.monotonic()) > 0:
        ready = dict(poll.poll(left * 1000))
        if said in ready:
            chunk = os.read(said, 65536)
            if not chunk:
                return content
            content = (content + chunk)[:MOST_BYTES]
        elif ready:
            return None
    return None


def _late(request: RootRequest) -> RootAnswer:
    return RootAnswer(
        failed=f"was not done after {request.seconds:g} s",
        kind="deadline",
        hint="is the host overloaded, or the mirror slow? it is tried again",
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
