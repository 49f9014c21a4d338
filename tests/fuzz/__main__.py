"""`./dev fuzz [--runs N] [--seed S] [TARGET...]`: strangers' bytes for manifests, the webhook and the faces.

Coverage guides the inputs where atheris is there (`./dev fuzz` gets it for the Pythons that it knows), else,
and with --unguided, seeds are changed at random, which takes a third of the time. An exception, an error in the log, an input of more than SECONDS or
memory beyond MEMORY_MIB ends a target with 1, and the input is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import LONGEST, inputs

TARGETS = ("manifests", "webhook", "faces")
SECONDS = 20
MEMORY_MIB = 2048
INSTRUMENTED = ("reconciler.source", "reconciler.control", "reconciler.model")
Target = Callable[[bytes], object]


@contextlib.contextmanager
def target_of(name: str) -> Iterator[tuple[Target, Sequence[bytes], Sequence[str]]]:
    """What takes an input, seeds for it, and words that it knows."""
    if name == "manifests":
        manifests = importlib.import_module("tests.fuzz.manifests")
        yield manifests.load, manifests.seeds(), manifests.WORDS
        return
    module = importlib.import_module("tests.fuzz.faces")
    with module.Faces() as faces:
        if name == "webhook":
            yield faces.webhook, module.webhook_seeds(), module.WORDS
        else:
            yield faces.request, faces.seeds(), module.WORDS


def guided(atheris: Any, name: str, runs: int, seed: int, folder: Path) -> None:
    """Does not return: the fuzzer ends the process."""
    opened = target_of(name)  # for as long as the process lives
    with atheris.instrument_imports(include=list(INSTRUMENTED), enable_loader_override=False):
        target, seeds, words = opened.__enter__()
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds):
        (corpus / str(number)).write_bytes(data[:LONGEST])
    known = [word for word in words if word.isascii() and word.isprintable() and "\\" not in word]
    quoted = (word.replace('"', '\\"') for word in known)
    (folder / "words").write_text("".join(f'"{word}"\n' for word in quoted))
    options = (
        f"-runs={runs}", f"-seed={seed}", f"-max_len={LONGEST}", f"-timeout={SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}", f"-dict={folder / 'words'}", "-print_final_stats=1", "-verbosity=0",
    )  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()


def at_random(name: str, runs: int, seed: int) -> None:
    """Raises what the target raises, with the input in a file."""
    with target_of(name) as (target, seeds, words):
        for number, data in enumerate(inputs(random.Random(seed), seeds, words, runs)):  # noqa: S311
            signal.alarm(SECONDS)
            try:
                target(data)
            except BaseException:
                kept = Path(f"crash-{name}-{seed}-{number}")
                kept.write_bytes(data)
                sys.stderr.write(f"the input is in {kept}\n")
                raise
        signal.alarm(0)


def run_one(name: str, runs: int, seed: int, *, guide: bool) -> None:
    try:
        atheris = importlib.import_module("atheris") if guide else None
    except ImportError:
        atheris = None
    if atheris is None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB << 20, MEMORY_MIB << 20))
        at_random(name, runs, seed)
        return
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        guided(atheris, name, runs, seed, Path(folder))


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unguided", action="store_true", help="change seeds at random")
    parser.add_argument("--one", choices=TARGETS, help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    given = parser.parse_args()
    if given.one:
        run_one(given.one, given.runs, given.seed, guide=not given.unguided)
        return 0
    failed = []
    for name in given.targets or TARGETS:
        began = time.monotonic()
        options = [f"--runs={given.runs}", f"--seed={given.seed}", f"--one={name}"]
        options += ["--unguided"] if given.unguided else []
        done = subprocess.run((sys.executable, "-m", "tests.fuzz", *options), check=False)
        seconds = time.monotonic() - began
        end = "failed" if done.returncode else "no crash, hang or unbounded memory"
        sys.stdout.write(f"{name}: {given.runs} inputs, {seconds:.0f} s: {end}\n")
        sys.stdout.flush()
        if done.returncode:
            failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
