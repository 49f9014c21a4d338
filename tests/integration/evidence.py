"""What is kept of a test on real guests that failed: consoles, VMM logs, ledger, plan, and what was pushed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from demo.client import DaemonAway
from demo.stage import Stage

RESULTS = Path(__file__).resolve().parents[2] / "results"
FAILED = pytest.StashKey[bool]()
"""Set as soon as any part of a test failed."""
LAST_LINES = 40


def folder_of(node: pytest.Item) -> Path:
    return RESULTS / re.sub(r"[^A-Za-z0-9_.-]+", "-", node.name)[:120]


@contextmanager
def kept_of(stage: Stage, node: pytest.Item) -> Iterator[None]:
    """Around the `yield` of a fixture: when the test is over and failed, its evidence is saved and summed up."""
    yield
    if node.stash.get(FAILED, False):
        save(stage, folder_of(node))
        # Where only the output is left of a run, the files are gone.
        node.add_report_section("teardown", "evidence", "\n".join(summed_up(stage)))


def summed_up(stage: Stage) -> Iterator[str]:
    """How each log ends."""
    for log in (stage.daemon.log, *sorted(stage.state.glob("vms/*/*.log"))):
        yield f"{log.relative_to(stage.root)}:"
        with suppress(OSError):
            yield from log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]


def save(stage: Stage, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in (stage.daemon.log, stage.daemon.config, *stage.state.glob("ledger.db*")):
        with suppress(OSError):
            shutil.copy2(path, folder)
    for log in stage.state.glob("vms/*/*.log*"):
        with suppress(OSError):
            shutil.copy2(log, folder / f"{log.parent.name}-{log.name}")
    for question in ("status", "plan", "events"):
        with suppress(DaemonAway, RuntimeError):
            answer = stage.daemon.control.get(f"/v1/{question}")
            (folder / f"{question}.json").write_text(json.dumps(answer, indent=2))
    with suppress(RuntimeError):
        (folder / "git.log").write_text(stage.repository.git("log", "--stat", "-n", "20"))
