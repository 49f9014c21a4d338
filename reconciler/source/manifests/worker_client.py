"""The daemon's handle on the child that reads manifests: whatever a revision holds, the daemon goes on."""

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

BREATH = 100
"""Lines of an answer after which others of the daemon get on."""
START_SECONDS = 60.0
LAST_SECONDS = 1.0
SMALLER = "make the revision smaller, or narrow source.path; it is tried again, less and less often"


class TooCostly(SourceError):
    """A revision that cannot be read within the bounds. kind: limit, or timeout."""


class Died(Exception):
    """The child ended, or spoke nonsense, in the middle of an answer."""


class ManifestReader(ChildProcess):
    def __init__(self, settings: Settings, seconds: float) -> None:
        super().__init__("reconciler.source.manifests.worker", str(seconds))
        self._settings = settings
        self._seconds = seconds
        self._receiver = Receiver()
        self.parsed_files = 0
        """Files of manifests that were parsed, ever."""
        self.entries = 0
        """Of folders of the newest revisions, kept to read only what a push changed."""
        self._parsed_before = 0

    async def read(self, revision: Revision) -> DesiredState:
        """What the manifests of a fetched revision say.

        Raises ManifestErrors, TooCostly, or SourceError when the mirror or the child is at fault.
        """
        used = self.alive
        if not used:
            await self._begin()
        try:
            async with asyncio.timeout(self._seconds):
                header = await self._exchange(revision)
        except Died as died:
            await self.close()
            if used:  # it may have been killed long before it was asked
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
            await self.close()  # half an exchange is no state to go on from
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
                if index % BREATH == 0:
                    await asyncio.sleep(0)
        except (ValueError, TypeError, ConnectionError) as error:
            why = f"reading its manifests ended without an answer ({await self._end()})"
            raise Died(why) from error
        return header

    async def _begin(self) -> None:
        """Start a child, which knows nothing yet, and tell it once what it must know.

        Its start is not the revision's cost. Raises SourceError.
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
                "limit", f"the child that reads manifests did not start ({end})",
                "look for memory and processes: `systemctl status reconciler`, `free -m`",
            )  # fmt: skip

    async def _greeting(self) -> bool:
        to_child, from_child = await self._pipes()
        with contextlib.suppress(ConnectionError):
            to_child.write(self._settings.model_dump_json().encode() + b"\n")
            await to_child.drain()
        return await from_child.readline() == READY

    async def _end(self) -> str:
        """How the child ended, in words; one that lives on after half an answer is ended by `read`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                return f"exit {await self._exit_code()}"
        return "half an answer"
