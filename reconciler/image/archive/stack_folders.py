"""The child that finds the folders which a stack of layers only implies: `python -m reconciler.image.archive.stack_folders CONTENTS...`.

Layers that strangers made may list a million paths each, so this is no work for the daemon. CONTENTS are those of
each layer, bottom first. It prints a JSON list of path, mode, user, group and time for each folder.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from reconciler.children.confinement import Bounds
from reconciler.children.spare import ConfinedPrograms
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.archive.contents import FolderValues, implied_folders
from reconciler.image.archive.packing import BAD_INPUT
from reconciler.safe_text import clean

SECONDS = 600.0
BOUNDS = Bounds(cpu_seconds=300, memory_bytes=2 << 30, file_bytes=64 << 20)
MOST_FOLDERS = 20_000
"""With values that a top layer repeats: the daemon has these in memory."""


async def find_implied(
    layers: Sequence[Path], programs: ConfinedPrograms, found: Path
) -> dict[str, FolderValues]:
    """As `implied_folders`, in a child; `found` is a file that is not there yet. Raises BuildFailed or BuildUnavailable."""
    argv = (sys.executable, "-P", "-m", __name__, *map(str, layers))
    ended = await programs.run(argv, seconds=SECONDS, bounds=BOUNDS, stdout=found)
    if ended.status == BAD_INPUT:
        reason, hint = json.loads(ended.output.splitlines()[-1])
        raise BuildFailed(clean(reason), hint=hint)
    if ended.status != 0:
        how = f"signal {-ended.status}" if ended.status < 0 else ended.tail[-200:]
        raise BuildUnavailable(f"folders of the layers could not be looked at: {how}", kind="limit")
    text = await asyncio.to_thread(found.read_bytes)
    return {path: FolderValues(*values) for path, *values in json.loads(text)}


def main(arguments: Sequence[str]) -> int:
    """Print them, or the reason and what to do as a JSON list on standard error."""
    try:
        folders = implied_folders([Path(argument) for argument in arguments])
        if len(folders) > MOST_FOLDERS:
            raise BuildFailed(  # noqa: TRY301 - one way for both refusals
                f"its layers have files in more than {MOST_FOLDERS} folders of lower layers that they do not list",
                hint="squash the image into one layer",
            )
    except BuildFailed as error:
        sys.stderr.write(json.dumps([str(error), error.hint]))
        return BAD_INPUT
    sys.stdout.write(json.dumps([[path, *astuple(one)] for path, one in sorted(folders.items())]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
