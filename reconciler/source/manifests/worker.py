"""The child that reads manifests: `python -m reconciler.source.manifests.worker`, a JSON line of settings, then a revision a line.

What strangers push is parsed, resolved and compared here, within bounds of time and memory, and
never in the daemon. What was read is kept by its content, so that a commit costs what it changed.
"""

from __future__ import annotations

import os
import queue
import resource
import signal
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from reconciler.errors import ManifestErrors, SourceError
from reconciler.model.names import Revision
from reconciler.source.git.error_kinds import failure
from reconciler.source.git.libgit2_limits import MIB, bound_library
from reconciler.source.git.mirror import Mirror, ReadLimits
from reconciler.source.git.protocol import MOST_LINE
from reconciler.source.manifests.resolve import Resolver
from reconciler.source.manifests.transfer import Sender, Settings, refusal

MEMORY_MIB = 1024
"""Of address space."""
BLOATED_MIB = 256
"""Resident memory with which a child does not stay after a refusal: what it holds is of no use."""
READY = b"ready\n"


def main(arguments: list[str]) -> None:
    seconds = float(arguments[0])
    limit()
    bound_library()
    settings = Settings.model_validate_json(sys.stdin.buffer.readline(MOST_LINE))
    mirror = Mirror(
        Path(settings.mirror), settings.folder, ReadLimits(settings.files, settings.file_bytes)
    )
    resolver, sender = Resolver(settings.policy, settings.kernels), Sender()
    revisions: queue.SimpleQueue[Revision] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(revisions,), daemon=True).start()
    say([READY])
    while True:
        revision = revisions.get()
        signal.alarm(int(seconds) + 1)  # should the parent hang, too
        answer(revision, mirror, resolver, sender)
        signal.alarm(0)


def answer(revision: Revision, mirror: Mirror, resolver: Resolver, sender: Sender) -> None:
    try:
        with mirror.open(revision) as commit:
            state = resolver.resolve(commit)
    except (ManifestErrors, SourceError) as error:
        counted = replace(
            refusal(error), parsed_files=resolver.parsed_files, entries=mirror.entries
        )
        say([counted.line()])
    except MemoryError:
        say([refusal(failure("limit", f"it takes more than {MEMORY_MIB} MiB")).line()])
        os._exit(1)
    else:
        say(sender.lines(state, resolver.parsed_files, mirror.entries))
        return
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > BLOATED_MIB * 1024:
        os._exit(0)


def say(lines: Iterable[bytes]) -> None:
    for line in lines:
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB * MIB, MEMORY_MIB * MIB))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def listen(revisions: queue.SimpleQueue[Revision]) -> None:
    """Take revisions, and end when the parent is gone, whatever is being done."""
    while line := sys.stdin.buffer.readline(MOST_LINE):
        revisions.put(Revision(line.decode("ascii", "replace").strip()))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
