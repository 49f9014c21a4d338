"""The child that fetches, and looks whom a commit is from: `python -m reconciler.source.git.fetch_worker MIB SECONDS`.

It reads tasks from standard input and answers on standard output, a JSON line each. It is
killed when it is late, so it holds nothing that matters; it ends when its parent does.
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
from reconciler.source.git.fetch import look, sweep
from reconciler.source.git.libgit2_limits import MIB, bound_library
from reconciler.source.git.protocol import MOST_LINE, Task, WorkerAnswer, WorkerRequest, task_of
from reconciler.source.git.verify import scrutinise

MEMORY = 1024 * MIB
"""Address space beside what a pack's index of the largest repository takes."""
CONNECT_SECONDS = 10.0
GRACE = 5
"""Seconds past the deadline after which the child ends itself."""


def main(arguments: list[str]) -> None:
    repository_mib, seconds = int(arguments[0]), float(arguments[1])
    limit(repository_mib)
    settings = bound_library()
    settings.owner_validation = False  # root may read a repository of another user
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
        answer = answer_to(task)
        signal.alarm(0)
        sys.stdout.buffer.write(answer.line())
        sys.stdout.buffer.flush()


def limit(repository_mib: int) -> None:
    """Bound memory and files; a write past the bound fails instead of killing."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    largest = repository_mib * MIB
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    memory = MEMORY + 2 * largest
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def listen(tasks: queue.SimpleQueue[Task]) -> None:
    """Take tasks, and end when the parent is gone, even in the middle of a fetch."""
    while line := sys.stdin.buffer.readline(MOST_LINE):
        tasks.put(task_of(line))
    os._exit(0)


def answer_to(task: Task) -> WorkerAnswer:
    try:
        return look(task) if isinstance(task, WorkerRequest) else scrutinise(task)
    except Exception as error:  # noqa: BLE001 - the parent raises it again, by its kind
        found = sorted_failure(error)
        message = str(found)
        if isinstance(task, WorkerRequest):
            message = redacted_text(message, task.url)
        message = message[:500]
        return WorkerAnswer(kind=found.kind, message=message, hint=found.hint)


if __name__ == "__main__":
    main(sys.argv[1:])
