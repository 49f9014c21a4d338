"""The layer input `script`: a program of the host's policy writes a tree, and what it left is judged."""

from __future__ import annotations

import asyncio
import hashlib
import math
import shutil
import sys
from pathlib import Path

from reconciler.children.confinement import Bounds
from reconciler.children.process_tree import GRACE, TREE
from reconciler.children.program import Ended
from reconciler.config import ScriptConfig
from reconciler.content_store import named
from reconciler.errors import BuildFailed, BuildUnavailable
from reconciler.image.build_site import BuildSite
from reconciler.image.layer_input import LayerInput
from reconciler.image.written_tree import check_tree
from reconciler.model.layer_kinds.script_layer import ScriptSource

OFFLINE = "reconciler.children.offline"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_NOW = 75
"""Exit status of a program for which it may work later: EX_TEMPFAIL."""
BY_SIGNAL = 128
LEAST_FREE_BYTES = 256 << 20
"""Of the state directory's disk, while a program writes to it."""
LOOK_SECONDS = 0.5
MOST_SECONDS = 6 * 3600.0


async def build_script(source: ScriptSource, site: BuildSite) -> None:
    with named(source.title):
        allowed = site.tools.sources.scripts.get(source.run)
        if allowed is None:
            raise BuildUnavailable(
                "is not in policy.scripts any more", kind="refused",
                hint="allow it again and restart the daemon, or change the manifest",
            )  # fmt: skip
        await asyncio.to_thread(check_program, allowed.path, source.program)
        variables = await _prepare(source, site)
        ways = (TREE,) if allowed.network else (OFFLINE, TREE)
        within = tuple(word for way in ways for word in (sys.executable, "-P", "-m", way))
        argv = (*within, "env", "-i", *variables, allowed.path, *source.args)
        site.progress.begin(f"running {source.run}", site.folder)
        _judge(await _run(argv, allowed, site), site)
        await asyncio.to_thread(check_program, allowed.path, source.program)
        await site.make_image(await asyncio.to_thread(check_tree, site.folder))


async def _prepare(source: ScriptSource, site: BuildSite) -> tuple[str, ...]:
    """Make the folders that the program gets; returns its whole environment."""
    home = site.workspace / "home"
    for folder in (home, site.folder):
        await asyncio.to_thread(folder.mkdir)
    variables = [
        f"PATH={PATH}", "LC_ALL=C.UTF-8", "TZ=UTC", "SOURCE_DATE_EPOCH=0",
        f"HOME={home}", f"TMPDIR={home}", f"OUT={site.folder}",
    ]  # fmt: skip
    if source.inputs:
        inputs = site.workspace / "inputs"
        site.progress.begin("copying from the repository", inputs)
        await site.content.export(source.tree, inputs)
        variables.append(f"IN={inputs}")
    return tuple(variables)


async def _run(argv: tuple[str, ...], allowed: ScriptConfig, site: BuildSite) -> Ended:
    """Run it to its end. Raises BuildUnavailable."""
    bounds = Bounds(math.ceil(allowed.seconds), network=allowed.network)
    program = asyncio.create_task(
        site.tools.programs.run(
            argv, seconds=allowed.seconds, bounds=bounds, cwd=site.workspace / "home", grace=GRACE
        )
    )
    try:
        while not program.done():
            await asyncio.wait({program}, timeout=LOOK_SECONDS)
            if not program.done() and _is_full(site):
                raise BuildUnavailable(
                    f"it left less than {LEAST_FREE_BYTES >> 20} MiB of the disk free, and was ended",
                    kind="disk-full", hint="free some space; it is tried again",
                )  # fmt: skip
    finally:
        if not program.done():
            program.cancel()
            await asyncio.wait({program})
    return await program


def _is_full(site: BuildSite) -> bool:
    return shutil.disk_usage(site.workspace).free < LEAST_FREE_BYTES


def _judge(ended: Ended, site: BuildSite) -> None:
    """Raises BuildFailed or BuildUnavailable."""
    if ended.status == 0:
        return
    said = f": {ended.tail}" if ended.tail else " without a word"
    if _is_full(site):
        raise BuildUnavailable(f"the disk is full{said}", kind="disk-full", hint="see `df`")
    if ended.status < 0 or ended.status > BY_SIGNAL:
        number = -ended.status if ended.status < 0 else ended.status - BY_SIGNAL
        raise BuildUnavailable(
            f"was ended by signal {number}{said}", kind="limit",
            hint="too much memory, CPU time, or too large a file? see policy.scripts",
        )  # fmt: skip
    if ended.status == NOT_NOW:
        raise BuildUnavailable(f"cannot work now{said}", hint="it is tried again")
    raise BuildFailed(
        f"ended with status {ended.status}{said}",
        hint="correct its arguments or inputs and push; or mend the program, and `retry` the VM",
    )


def check_program(path: str, sha256: str) -> None:
    """Raises BuildUnavailable if the program is not the one that the manifest was read with. Blocks."""
    try:
        with Path(path).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BuildUnavailable(f"{path}: {error.strerror}", hint="put the program back") from error
    if found != sha256:
        raise BuildUnavailable(
            f"{path} has changed since the manifest was read", kind="changed-file",
            hint="`reconciler reconcile` reads it again, and builds the layer of the new one",
        )  # fmt: skip


INPUT = LayerInput(build_script, seconds=MOST_SECONDS)
