"""The child that downloads one file and ends: `python -m reconciler.image.download_worker`.

A server is a stranger, and a file has gigabytes: its headers are parsed, its TLS is unpacked and its
bytes are written here, within bounds that end with the child, while the daemon's loop stays free. The
child appends to a partial file and judges no content: the daemon digests what is there.

Its request is a JSON line on standard input, its answer the last line on standard output, in JSON. A line before
it is the number of bytes that the whole file has, where the server says it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urljoin

import aiohttp

from reconciler.children.confinement import Bounds, confine
from reconciler.git_url import redacted_text, redacted_url
from reconciler.http_proxies import UnsupportedProxy, proxy_for, shown
from reconciler.url_patterns import allowed

MOST_REDIRECTS = 5
LEAST = 256 * 1024
"""Bytes that must arrive within each stall deadline, or the end of the file."""
CPU_SECONDS = 1800
SPACE_EVERY = 16 * 1024 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})
OK, PARTIAL, BEYOND = 200, 206, 416
RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)")
LATER = "it is tried again, and goes on where it ended"
HINTS = {
    401: "no credentials are sent: allow it without, or use another server",
    403: "no credentials are sent: allow it without, or use another server",
    404: "correct the URL in the manifest, or put the file there",
    410: "correct the URL in the manifest, or put the file there",
}


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """What to download, and within which bounds."""

    url: str
    partial: str
    """Path of the file that is appended to; what is there already is not asked for again."""
    most_bytes: int
    size: int
    """Exactly so many bytes; 0: not known."""
    allowed: tuple[str, ...]
    """Patterns of URLs that may be asked, for redirects too."""
    reserve_bytes: int
    """Free space of the disk that must stay."""
    stall_seconds: float
    most_seconds: float


@dataclass(frozen=True, slots=True)
class DownloadAnswer:
    """`kind` is empty when the partial file is complete as far as the server says."""

    kind: str = ""
    message: str = ""
    hint: str = ""


class Refused(Exception):
    """What ends a download; arguments as of DownloadAnswer."""

    def __init__(self, kind: str, message: str, hint: str = LATER) -> None:
        super().__init__(message)
        self.kind = kind
        self.hint = hint


class StartOver(Exception):
    """The server does not go on where the partial file ends."""


class Download:
    """One request, with the partial file open."""

    def __init__(self, request: DownloadRequest, partial: int) -> None:
        self._request = request
        self._partial = partial
        self._unlooked = SPACE_EVERY
        self._deadline = asyncio.get_running_loop().time() + request.most_seconds

    async def run(self) -> None:
        """Raises Refused."""
        waits = self._request.stall_seconds
        timeout = aiohttp.ClientTimeout(total=None, connect=waits, sock_read=waits)
        async with aiohttp.ClientSession(
            timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "reconciler"},
        ) as session:  # fmt: skip
            try:
                await self._get(session, os.fstat(self._partial).st_size)
            except StartOver:
                os.ftruncate(self._partial, 0)
                try:
                    await self._get(session, 0)
                except StartOver:
                    raise Refused(
                        "network", "the server sent a part that was not asked for"
                    ) from None

    async def _get(self, session: aiohttp.ClientSession, offset: int) -> None:
        url = self._request.url
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        for _ in range(MOST_REDIRECTS + 1):
            if not allowed(url, self._request.allowed):
                raise Refused(
                    "refused", f"it is redirected to {redacted_url(url)[:200]}, which policy.image_urls"
                    " does not allow", "allow it in policy.image_urls, or name the file's own URL",
                )  # fmt: skip
            async with session.get(
                url, headers=headers, proxy=proxy_for(url), allow_redirects=False
            ) as answer:
                if answer.status not in REDIRECTS:
                    return await self._take(answer, offset)
                url = _place(url, answer)
        raise Refused(
            "network", f"it is redirected more than {MOST_REDIRECTS} times",
            "name the file's own URL",
        )  # fmt: skip

    async def _take(self, answer: aiohttp.ClientResponse, offset: int) -> None:
        if answer.status == BEYOND and offset:
            if _total(answer) == offset:
                return  # all of it is here
            raise StartOver
        if answer.status == PARTIAL:
            if _first(answer) != offset:
                raise StartOver
            total = _total(answer)
        elif answer.status == OK:
            os.ftruncate(self._partial, 0)
            offset, total = 0, answer.content_length
        else:
            raise Refused(
                "network", f"the server answered with status {answer.status}",
                HINTS.get(answer.status, LATER),
            )  # fmt: skip
        self._judge_size(total)
        await self._append(answer, offset, total)

    def _judge_size(self, total: int | None) -> None:
        if total is None:
            return
        if self._request.size and total != self._request.size:
            raise Refused(
                "changed-file",
                f"the server has {total} bytes of it, the manifest says {self._request.size}",
                "correct size and sha256 in the manifest, or the file at the server",
            )
        if total > self._request.most_bytes:
            raise self._too_large()
        self._check_space(total - os.fstat(self._partial).st_size)
        # For people, so as the server says it: what is believed is counted.
        sys.stdout.write(f"{total}\n")
        sys.stdout.flush()

    def _too_large(self) -> Refused:
        most = self._request.most_bytes
        return Refused(
            "limit", f"it has more than {most} bytes", "correct size in the manifest; or name a smaller image"
        )  # fmt: skip

    def _check_space(self, coming: int) -> None:
        disk = os.fstatvfs(self._partial)
        free = disk.f_bavail * disk.f_frsize - self._request.reserve_bytes
        if coming > free:
            raise Refused(
                "disk-full",
                f"{coming >> 20} MiB come, {max(0, free) >> 20} MiB are free beyond policy.disk_reserve_mib",
                "free some space; it is tried again",
            )

    async def _append(self, answer: aiohttp.ClientResponse, offset: int, total: int | None) -> None:
        clock = asyncio.get_running_loop().time
        waits, came = self._request.stall_seconds, 0
        until = clock() + waits
        while True:
            async with asyncio.timeout_at(until):
                chunk = await answer.content.readany()
            if not chunk:
                break
            offset, came = offset + len(chunk), came + len(chunk)
            if offset > self._request.most_bytes:
                raise self._too_large()
            self._write(chunk)
            if clock() > self._deadline:
                raise Refused("deadline", f"{offset} bytes came within the time of one try")
            if came >= LEAST:
                until, came = clock() + waits, 0
        if total is not None and offset != total:
            raise Refused("network", f"it ended after {offset} of {total} bytes")

    def _write(self, chunk: bytes) -> None:
        self._unlooked -= len(chunk)
        if self._unlooked < 0:
            self._check_space(0)
            self._unlooked = SPACE_EVERY
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._partial, view) :]


def _place(url: str, answer: aiohttp.ClientResponse) -> str:
    """Where a redirect leads. Raises Refused."""
    try:
        if location := answer.headers.get("Location", ""):
            return urljoin(url, location)
    except ValueError:
        pass
    raise Refused("network", f"status {answer.status} without a place that can be read")


def _total(answer: aiohttp.ClientResponse) -> int | None:
    """The bytes of the whole file, as the answer says."""
    found = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(found[3]) if found and found[3] != "*" else None


def _first(answer: aiohttp.ClientResponse) -> int | None:
    found = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(found[1]) if found and found[1] else None


async def _run(request: DownloadRequest, partial: int) -> None:
    await Download(request, partial).run()


def download(request: DownloadRequest) -> DownloadAnswer:
    """Append to the partial file until it is complete, or say why it is not."""
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        partial = os.open(request.partial, flags, 0o600)
        try:
            asyncio.run(_run(request, partial))
        finally:
            os.close(partial)
    except Refused as refused:
        return DownloadAnswer(refused.kind, str(refused), refused.hint)
    except UnsupportedProxy as error:
        return DownloadAnswer("network", str(error), error.hint)
    except TimeoutError:
        return DownloadAnswer(
            "timeout", f"nothing, or too little, came within {request.stall_seconds:g} s", LATER
        )
    except aiohttp.ClientError as error:
        return DownloadAnswer("network", _words(error, request.url), LATER)
    except OSError as error:
        kind = "disk-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "disk"
        return DownloadAnswer(
            kind, f"it was not stored: {error.strerror}", "see `df`; it is tried again"
        )
    return DownloadAnswer()


def _words(error: aiohttp.ClientError, url: str) -> str:
    """What happened, without secrets of the URL or the proxy."""
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection ended in the middle of it"
    proxy = proxy_for(url)
    said = redacted_text(str(error) or type(error).__name__, url)[:300]
    return f"{redacted_text(said, proxy)} (by way of the proxy {shown(proxy)})" if proxy else said


def main() -> int:
    """Answer one request."""
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    given: dict[str, Any] = json.loads(line)
    request = DownloadRequest(**{**given, "allowed": tuple(given["allowed"])})
    confine(Bounds(CPU_SECONDS, file_bytes=request.most_bytes, network=True))
    sys.stdout.write(json.dumps(asdict(download(request))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
