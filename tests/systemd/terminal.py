"""A person at a terminal: a program on a pseudo-terminal, its screen, and answers to its prompts."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from collections.abc import Sequence

LINES = 4096
"""Bytes read at once."""


def converse(argv: Sequence[str], answers: Sequence[tuple[str, str]], timeout: float) -> str:
    """Wait for each prompt in turn and type its answer; all that was on the screen in the end.

    Raises AssertionError with the screen if a prompt does not come in time, or the program fails.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(argv[0], list(argv))  # noqa: S606 - the caller's own words
    screen, until = _Screen(terminal), time.monotonic() + timeout
    try:
        for prompt, answer in answers:
            screen.read_until(prompt, until)
            os.write(terminal, f"{answer}\n".encode())
        screen.read_until("", until)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"{' '.join(argv)}: {status}\n{screen.text}"
    return screen.text


class _Screen:
    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._raw = b""
        self._seen = 0

    @property
    def text(self) -> str:
        return self._raw.decode(errors="replace").replace("\r\n", "\n")

    def read_until(self, prompt: str, until: float) -> None:
        """Or to the end of the program, where no prompt is named."""
        while not prompt or (found := self.text.find(prompt, self._seen)) < 0:
            ready, _, _ = select.select([self._terminal], [], [], max(0, until - time.monotonic()))
            assert ready, f"not in time: {prompt or 'the end'}\n{self.text}"
            try:
                more = os.read(self._terminal, LINES)
            except OSError:  # EIO: the program is gone, and its terminal with it
                more = b""
            if not more:
                assert not prompt, f"it ended without asking: {prompt}\n{self.text}"
                return
            self._raw += more
        self._seen = found + len(prompt)
