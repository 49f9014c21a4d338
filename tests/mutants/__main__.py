"""`./dev mutants`: take each guard out of a copy of the tree; a mutant that no test notices is a hole.

With words, only those mutants whose name or file has one of them; with --sample N, some.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.mutants.every import MUTANTS
from tests.mutants.finding import Code, NotFound, find, tree_of
from tests.mutants.mutant import Mutant
from tests.mutants.trial import ROOT, Verdict, try_mutant, try_unchanged

KILLERS = ROOT / ".cache/mutants.json"
"""Which test noticed each mutant the last time: it is tried first."""


def sample(count: int, code: Mapping[Path, Code], of: Sequence[Mutant] = MUTANTS) -> list[Mutant]:
    """Others whenever their code changed, and the same ones for the same commit."""

    def draw(mutant: Mutant) -> bytes:
        text = code[find(mutant, code).file].text
        return hashlib.sha256(f"{mutant.name}\n{text}".encode()).digest()

    return sorted(of, key=draw)[:count]


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev mutants", description=__doc__)
    parser.add_argument("--sample", type=int, metavar="N", help="no more than N")
    parser.add_argument("--jobs", type=int, metavar="N", default=min(2, os.cpu_count() or 1))
    parser.add_argument("words", nargs="*", metavar="WORD")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace, code: Mapping[Path, Code]) -> Sequence[Mutant]:
    some = [
        mutant
        for mutant in MUTANTS
        if not options.words
        or any(word in mutant.name or word in mutant.file for word in options.words)
    ]
    return some if options.sample is None else sample(options.sample, code, some)


def killers() -> dict[str, str]:
    with suppress(OSError, ValueError):
        return dict(json.loads(KILLERS.read_text(encoding="utf-8")))
    return {}


def commit() -> str:
    """The commit that is tried, with a word when it is not that one alone; empty outside of git."""
    git = ("git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=, changed since")
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()


def tell(mutant: Mutant, verdict: Verdict) -> None:
    sys.stdout.write(f"{verdict.outcome:<14}  {mutant.name}  {verdict.evidence}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    code = tree_of(ROOT)
    begun, known, options = time.monotonic(), killers(), options_of(arguments)
    try:
        mutants = chosen(options, code)
    except NotFound as error:
        sys.stderr.write(f"dev: {error}\n")
        return 1
    if not mutants:
        sys.stderr.write("dev: no mutant has such a word in its name or its file\n")
        return 1

    def one(mutant: Mutant) -> Verdict:
        verdict = try_mutant(mutant, code, known.get(mutant.name, ""))
        tell(mutant, verdict)
        return verdict

    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        tests = sorted({path for mutant in mutants for path in mutant.tests})
        control = pool.submit(try_unchanged, tests)
        verdicts = list(pool.map(one, mutants))
        unchanged = control.result()
    if unchanged.outcome != "survived":
        sys.stdout.write(f"{unchanged.evidence}\n")
        sys.stdout.write("the tests fail on the tree as it is: no mutant proves anything\n")
        return 1
    for mutant, verdict in zip(mutants, verdicts, strict=True):
        if verdict.outcome == "killed":
            known[mutant.name] = verdict.evidence
    KILLERS.parent.mkdir(exist_ok=True)
    KILLERS.write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")
    left = [verdict.outcome for verdict in verdicts if verdict.outcome != "killed"]
    sys.stdout.write(
        f"commit {commit()}: {len(mutants)} of {len(MUTANTS)} mutants in"
        f" {time.monotonic() - begun:.0f} s; {len(mutants) - len(left)} killed,"
        f" {left.count('survived')} survived, {left.count('proves nothing')} prove nothing\n"
    )
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
