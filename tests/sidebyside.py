"""All tests for `./dev test`: those on real guests mostly wait, so the fast ones run beside them.

Two rows of runs, side by side, each with what the other leaves free of two cores. Arguments are pytest's;
with any the two kinds run one after the other, as somebody looks at a few.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType

FAST = "not integration and not bench"
GUESTS = "integration"
FLEET, STACKS = "integration and fleet", "integration and stacks"
OTHERS = "integration and not fleet and not stacks"
NOTHING_CHOSEN = 5
"""pytest's exit code."""
REPORT = re.compile(r"^=+ (?!test session starts)")
"""From here on pytest sums up; until then it tells how far it is."""


@dataclass(frozen=True)
class Run:
    """One pytest, in a row with others."""

    name: str
    arguments: tuple[str, ...]


ROWS = (
    (Run("fleet", ("-m", FLEET)), Run("stacks", ("-m", STACKS))),
    (Run("fast", ("-m", FAST)), Run("alone", ("-m", OTHERS))),
)
"""Every test is in exactly one run: fast or not; on the fleet, of what guests are made of, or neither."""


CHILDREN: set[subprocess.Popen[str]] = set()
"""In sessions of their own: Ctrl-C is for us, and each of them hears of it exactly once."""


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def names(row: Sequence[Run]) -> str:
    return ", then ".join(run.name for run in row)


def pytest_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "--no-header", *arguments]


def passes(run: Run) -> bool:
    """Run it, each line marked with its name; what it sums up comes in one piece."""
    begun, summary = time.monotonic(), list[str]()
    with subprocess.Popen(
        pytest_command(*run.arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    ) as child:  # fmt: skip
        CHILDREN.add(child)
        assert child.stdout is not None
        for line in child.stdout:
            if summary or REPORT.match(line):
                summary.append(f"{run.name}: {line}")
            elif line.strip():
                say(f"{run.name}: {line}")
    CHILDREN.discard(child)
    say("".join(summary))
    say(f"==> {run.name}: exit {child.returncode} after {time.monotonic() - begun:.0f} s\n")
    return child.returncode == 0


def row_passes(row: Sequence[Run]) -> bool:
    """All of a row, also after one that failed: one round shows everything."""
    passed = [not STOPPED and passes(run) for run in row]
    return all(passed)


def everything(rows: Sequence[Sequence[Run]] = ROWS) -> int:
    """A run without any test fails, too: it would prove nothing."""
    say(f"==> tests: {', and beside it '.join(names(row) for row in rows)}\n")
    with ThreadPoolExecutor(max_workers=min(len(rows), os.cpu_count() or 1)) as pool:
        return 0 if all(list(pool.map(row_passes, rows))) else 1


STOPPED: list[int] = []


def stop(number: int, _frame: FrameType | None) -> None:
    """pytest ends its guests when it is interrupted, and by no other signal."""
    if not STOPPED:
        STOPPED.append(number)
        for child in tuple(CHILDREN):
            child.send_signal(signal.SIGINT)


def chosen(arguments: Sequence[str]) -> int:
    """Those that pytest's arguments choose, in the terminal as it is; of one kind there may be none."""
    signal.signal(signal.SIGINT, lambda *_: None)  # pytest hears it too, and tells by its exit code
    codes = []
    for marks in (FAST, GUESTS):
        say(f"==> tests: {marks}\n")
        with subprocess.Popen(pytest_command("-m", marks, *arguments)) as child:
            codes.append(child.wait())
        if codes[-1] not in (0, NOTHING_CHOSEN):
            return codes[-1]
    if 0 in codes:
        return 0
    sys.stderr.write(f"dev: no test was chosen by: {' '.join(arguments)}\n")
    sys.stderr.write("  hint: pytest's own arguments are meant, such as -k NAME\n")
    return 1


def main(arguments: Sequence[str]) -> int:
    if arguments:
        return chosen(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    return everything()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
