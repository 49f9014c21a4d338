"""The manifest reader: `python -m reconciler.source.manifests.worker SECONDS`; a line of settings, then one revision a line.

Manifests that anyone may push are parsed, resolved and compared in this process, within limits of time
and memory, and never in the daemon. Results are cached by content, so a commit costs what it changed.
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
"""Limit of the address space."""
BLOATED_MIB = 256
"""Resident memory above which the worker exits after a refusal: its cache holds refused content."""
READY = b"ready\n"


def main(arguments: list[str]) -> None:
    """Serve until standard input ends. Argument: seconds that reading one revision may take."""
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
    write_answer([READY])
    while True:
        revision = revisions.get()
        signal.alarm(int(seconds) + 1)  # in case the daemon hangs and does not kill us
        answer(revision, mirror, resolver, sender)
        signal.alarm(0)


def answer(revision: Revision, mirror: Mirror, resolver: Resolver, sender: Sender) -> None:
    """Read one revision and write its state or its refusal. Exits if memory ran out or stays large."""
    try:
        with mirror.open(revision) as commit:
            state = resolver.resolve(commit)
    except (ManifestErrors, SourceError) as error:
        counted = replace(
            refusal(error), parsed_files=resolver.parsed_files, entries=mirror.entries
        )
        write_answer([counted.line()])
    except MemoryError:
        write_answer(
            [refusal(failure("limit", f"reading it takes more than {MEMORY_MIB} MiB")).line()]
        )
        os._exit(1)
    else:
        write_answer(sender.lines(state, resolver.parsed_files, mirror.entries))
        return
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > BLOATED_MIB * 1024:
        os._exit(0)


def write_answer(lines: Iterable[bytes]) -> None:
    """Write an answer to standard output."""
    for line in lines:
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def limit() -> None:
    """Bound the address space, and allow no core dump."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB * MIB, MEMORY_MIB * MIB))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def listen(revisions: queue.SimpleQueue[Revision]) -> None:
    """Queue revisions; end the process when the parent is gone, whatever it is doing."""
    while line := sys.stdin.buffer.readline(MOST_LINE):
        revisions.put(Revision(line.decode("ascii", "replace").strip()))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
