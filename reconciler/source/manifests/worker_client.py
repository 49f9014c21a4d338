"""The daemon's side of the manifest reader. A revision that crashes or exhausts the reader leaves the daemon unharmed."""

from __future__ import annotations

import asyncio
import contextlib

from reconciler.errors import SourceError
from reconciler.model.desired import DesiredState
from reconciler.model.names import Revision
from reconciler.source.git.error_kinds import failure
from reconciler.source.manifests.transfer import MOST_STATE, Header, Receiver, Settings
from reconciler.source.manifests.worker import MEMORY_MIB, READY
from reconciler.source.worker_process import ChildProcess

LINES_PER_YIELD = 100
"""Lines of an answer after which other tasks of the daemon may run."""
START_SECONDS = 60.0
"""For an interpreter to start and import; a loaded host needs many seconds."""
LAST_SECONDS = 1.0
"""How long to wait for the exit status of a worker that stopped answering."""
SMALLER = (
    "make the revision smaller, or narrow source.path; the daemon tries again, at growing intervals"
)


class TooCostly(SourceError):
    """Reading a revision exceeded a limit. kind: limit (memory or size) or timeout."""


class ReaderEnded(Exception):
    """The worker ended, or sent an invalid line, in the middle of an answer."""


class ManifestReader(ChildProcess):
    """The manifest reader with its settings, and the seconds that reading one revision may take."""

    def __init__(self, settings: Settings, seconds: float) -> None:
        super().__init__("reconciler.source.manifests.worker", str(seconds))
        self._settings = settings
        self._seconds = seconds
        self._receiver = Receiver()
        self.parsed_files = 0
        """Number of manifest files parsed since the start."""
        self.entries = 0
        """Number of folder entries in the worker's cache."""
        self._parsed_before = 0

    async def read(self, revision: Revision) -> DesiredState:
        """The desired state of a fetched revision.

        Raises ManifestErrors, TooCostly, or SourceError if the mirror or the worker is at fault.
        """
        used = self.alive
        if not used:
            await self._begin()
        try:
            async with asyncio.timeout(self._seconds):
                header = await self._exchange(revision)
        except ReaderEnded as died:
            await self.close()
            if used:  # it may have been killed before this request
                return await self.read(revision)
            hint = f"it may have taken more than {MEMORY_MIB} MiB: {SMALLER}"
            raise TooCostly(str(died), kind="limit", hint=hint) from None
        except TimeoutError:
            await self.close()
            why = f"its manifests were not read within {self._seconds:g} s"
            raise TooCostly(
                why, kind="timeout", hint=f"{SMALLER}; or raise source.read_timeout"
            ) from None
        except BaseException:
            await self.close()  # the rest of this answer would be taken for the next one
            raise
        self.parsed_files = self._parsed_before + header.parsed_files
        self.entries = header.entries
        if (error := header.error(revision)) is not None:
            if isinstance(error, SourceError) and error.kind == "limit":
                raise TooCostly(str(error), kind="limit", hint=error.hint)
            raise error
        return self._receiver.state(header, revision)

    async def _exchange(self, revision: Revision) -> Header:
        to_child, from_child = await self._pipes()
        try:
            to_child.write(f"{revision}\n".encode())
            await to_child.drain()
            header, size = Header.of(await from_child.readline()), 0
            for index in range(header.fresh):
                line = await from_child.readline()
                if (size := size + len(line)) > MOST_STATE:
                    raise TooCostly(
                        f"its desired state has more than {MOST_STATE >> 20} MiB",
                        kind="limit", hint=SMALLER,
                    )  # fmt: skip
                self._receiver.take(line)
                if index % LINES_PER_YIELD == 0:
                    await asyncio.sleep(0)
        except (ValueError, TypeError, ConnectionError) as error:
            why = f"reading its manifests ended without an answer ({await self._end()})"
            raise ReaderEnded(why) from error
        return header

    async def _begin(self) -> None:
        """Start a worker and send it the settings. Raises SourceError.

        The time for this does not count against the revision's limit.
        """
        await self.close()
        self._receiver, self._parsed_before = Receiver(), self.parsed_files
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = await self._greeting()
                end = "" if ready else await self._end()
        except TimeoutError:
            ready, end = False, f"not within {START_SECONDS:g} s"
        except BaseException:
            await self.close()
            raise
        if not ready:
            await self.close()
            raise failure(
                "limit", f"the process that reads manifests did not start ({end})",
                "check memory and process limits: `systemctl status reconciler`, `free -m`",
            )  # fmt: skip

    async def _greeting(self) -> bool:
        to_child, from_child = await self._pipes()
        with contextlib.suppress(ConnectionError):
            to_child.write(self._settings.model_dump_json().encode() + b"\n")
            await to_child.drain()
        return await from_child.readline() == READY

    async def _end(self) -> str:
        """How the worker ended, for a message; `read` kills one that still lives."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                return f"exit {await self._exit_code()}"
        return "half an answer"
