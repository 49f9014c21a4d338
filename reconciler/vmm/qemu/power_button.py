"""Presses a guest's power button and waits for its end: `press.py SOCKET SECONDS`.

A program of its own that needs nothing but Python: systemd runs it in the guest's cage when the host
goes down, and a person by `microvm-shutdown`, both without the daemon.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

PRESS_AGAIN = 1.0
"""Seconds between presses: a guest that was still booting has not heard the first."""
GONE, STAYED = 0, 1
MOST_UNREAD = 1024 * 1024
"""Bytes without an end of line; more is no QMP."""


def press(path: str, seconds: float) -> bool:
    """Whether the VMM behind a QMP socket ended in time. Raises OSError, ValueError."""
    end = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX) as qmp:
        # QEMU serves one client at a time: a second client waits for the greeting.
        qmp.settimeout(seconds)
        if os.path.islink(path):  # noqa: PTH114 - no more is imported than is needed
            raise OSError(f"{path} is a link: a VMM makes none, and it may lead to another guest's")
        try:
            qmp.connect(path)
            return _until_gone(qmp, end)
        except (FileNotFoundError, ConnectionError):
            return True  # no process listens: the VMM is gone, or is going
        except TimeoutError:
            return False


def _until_gone(qmp: socket.socket, end: float) -> bool:
    unread, again = b"", float("inf")
    while (left := end - time.monotonic()) > 0:
        if time.monotonic() >= again:
            _say(qmp, "system_powerdown")
            again = time.monotonic() + PRESS_AGAIN
        qmp.settimeout(min(left, PRESS_AGAIN))
        try:
            got = qmp.recv(65536)
        except TimeoutError:
            continue
        if not got:
            return True
        *lines, unread = (unread + got).split(b"\n")
        if len(unread) > MOST_UNREAD:
            raise ValueError("not QMP")
        if any(_greets(line) for line in lines if line.strip()):
            _say(qmp, "qmp_capabilities")
            again = 0.0
    return False


def _greets(line: bytes) -> bool:
    said = json.loads(line)
    return isinstance(said, dict) and "QMP" in said


def _say(qmp: socket.socket, command: str) -> None:
    qmp.sendall(json.dumps({"execute": command}).encode() + b"\n")


def main(path: str, seconds: str) -> int:
    try:
        if press(path, float(seconds)):
            return GONE
        why = f"the guest did not turn itself off within {seconds} s"
    except (OSError, ValueError) as error:
        why = f"cannot press the power button: {error}"
    sys.stderr.write(f"{why}; it is ended as by a power cut\n")
    return STAYED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
