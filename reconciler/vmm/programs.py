"""Programs that make and mend file systems: with a deadline, and bounded in what they may say."""

from __future__ import annotations

import asyncio
import contextlib

from reconciler.errors import DriverError
from reconciler.safe_text import clean_lines

MOST_BYTES = 2000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def run(argv: tuple[str, ...], seconds: float) -> tuple[int, str]:
    """Exit status and the beginning of what it said. Raises DriverError past the deadline."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": PATH, "LC_ALL": "C"},
    )
    try:
        async with asyncio.timeout(seconds):
            assert process.stdout is not None  # noqa: S101  a PIPE was asked for
            said = b""
            while chunk := await process.stdout.read(65536):
                said = (said + chunk)[:MOST_BYTES]
            return await process.wait(), clean_lines(said.decode("utf-8", "replace").strip())
    except TimeoutError as error:
        raise DriverError(
            f"{argv[0]} did not end within {seconds:g} s", kind="volume",
            hint="is the disk overloaded? it is tried again",
        ) from error  # fmt: skip
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
