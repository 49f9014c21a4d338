"""The fetch worker: fetches commits and verifies them. `python -m reconciler.source.git.fetch_worker MIB SECONDS`.

It reads tasks from standard input and writes one JSON line for each to standard output. The daemon
kills it when it is late, so it holds no state that matters. It ends when its parent does.
"""

from __future__ import annotations

import os
import queue
import resource
import signal
import sys
import threading
from pathlib import Path

from reconciler.git_url import redacted_text
from reconciler.source.git.error_kinds import sorted_failure
from reconciler.source.git.fetch import sweep, update_mirror
from reconciler.source.git.libgit2_limits import MIB, bound_library
from reconciler.source.git.protocol import MOST_LINE, Task, WorkerAnswer, WorkerRequest, task_of
from reconciler.source.git.verify import verify

MEMORY = 1024 * MIB
"""Bytes of address space beside what indexing the largest allowed pack takes."""
CONNECT_SECONDS = 10.0
GRACE = 5
"""Seconds past a task's deadline after which SIGALRM ends the worker, in case the daemon hangs."""


def main(arguments: list[str]) -> None:
    """Serve tasks until standard input ends. Arguments: MiB that the repository may have, seconds for a connection."""
    repository_mib, seconds = int(arguments[0]), float(arguments[1])
    limit(repository_mib)
    settings = bound_library()
    # The daemon is root, and may read a repository that another user owns.
    settings.owner_validation = False
    settings.server_connect_timeout = int(min(CONNECT_SECONDS, seconds) * 1000)
    settings.server_timeout = int(seconds * 1000)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(tasks,), daemon=True).start()
    swept = set[str]()
    while True:
        task = tasks.get()
        if task.mirror not in swept:
            sweep(Path(task.mirror))
            swept.add(task.mirror)
        signal.alarm(int(task.deadline) + GRACE)
        answer = _answer_to(task)
        signal.alarm(0)
        sys.stdout.buffer.write(answer.line())
        sys.stdout.buffer.flush()


def limit(repository_mib: int) -> None:
    """Bound memory and file sizes. SIGXFSZ is ignored so that a write past the bound fails with EFBIG."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    largest = repository_mib * MIB
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    memory = MEMORY + 2 * largest
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def listen(tasks: queue.SimpleQueue[Task]) -> None:
    """Queue tasks; end the process when the parent is gone, even in the middle of a fetch."""
    while line := sys.stdin.buffer.readline(MOST_LINE):
        tasks.put(task_of(line))
    # Not sys.exit, which would end only this thread.
    os._exit(0)


def _answer_to(task: Task) -> WorkerAnswer:
    try:
        return update_mirror(task) if isinstance(task, WorkerRequest) else verify(task)
    except Exception as error:  # noqa: BLE001 - sent to the daemon, which raises it by its kind
        found = sorted_failure(error)
        message = str(found)
        if isinstance(task, WorkerRequest):
            message = redacted_text(message, task.url)
        message = message[:500]
        return WorkerAnswer(kind=found.kind, message=message, hint=found.hint)


if __name__ == "__main__":
    main(sys.argv[1:])
