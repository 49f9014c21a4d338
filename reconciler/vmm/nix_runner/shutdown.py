"""Has a runner's own command end its guest, until the VMM is gone: `nix_shutdown.py SECONDS COMMAND...`.

A program of its own that needs nothing but Python: systemd runs it as the unit's ExecStop, and a person by
`microvm-shutdown`. microvm.nix's command waits only while its standard input is open, which under systemd
it never is, and PID 1 then ends the guest as by a power cut; and a guest that still boots does not hear it.
So its input is held open, it is run again and again, and what is waited for is the VMM's own end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

PRESS_AGAIN = 3.0
"""Seconds that one run of the command has, and between two of them."""
GONE, STAYED = 0, 1


def end(vmm: int, command: list[str], seconds: float) -> bool:
    """Whether the process `vmm` ended in time; 0: it is not known, and the command is run once."""
    deadline = time.monotonic() + seconds
    try:
        gone = os.pidfd_open(vmm) if vmm else -1
    except ProcessLookupError:
        return True
    while (left := deadline - time.monotonic()) > 0:
        pause = min(PRESS_AGAIN, left) if vmm else left
        again = time.monotonic() + pause
        ended = _run(command, gone, pause)
        if gone < 0:
            return ended
        if _is_readable(gone, max(0.0, again - time.monotonic())):
            return True
    return False


def _run(command: list[str], gone: int, seconds: float) -> bool:
    """Run it until it ends by itself, the VMM is gone, or the time is up; whether it did the first."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as child:
        watched = os.pidfd_open(child.pid)
        try:
            ready, _, _ = select.select([watched, *([gone] if gone >= 0 else [])], [], [], seconds)
        finally:
            os.close(watched)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # also what it left behind
    return watched in ready


def _is_readable(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


def main(seconds: str, *command: str) -> int:
    try:
        if end(int(os.environ.get("MAINPID", "0")), list(command), float(seconds)):
            return GONE
        why = f"the guest did not turn itself off within {seconds} s"
    except (OSError, ValueError) as error:
        why = f"cannot ask the guest to end: {error}"
    sys.stderr.write(f"{why}; it is ended as by a power cut\n")
    return STAYED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
