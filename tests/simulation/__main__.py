"""`./dev simulate --seeds N [--from S]`: many lives, a line of figures, and the seed of each that broke a law."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.oracles import Broken
from tests.simulation.story import Story, Tale


def live(seed: int) -> Tale | str:
    logging.disable(logging.CRITICAL)
    try:
        return asyncio.run(Story(seed).live())
    except Broken as broken:
        return str(broken)
    except Exception:  # noqa: BLE001  # reported with its seed, whatever it is
        return f"seed {seed}: {traceback.format_exc()}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    given = parser.parse_args()
    began = time.monotonic()
    with ProcessPoolExecutor() as pool:
        ends = list(pool.map(live, range(given.first, given.first + given.seeds), chunksize=20))
    seconds = time.monotonic() - began
    tales = [end for end in ends if isinstance(end, Tale)]
    broken = [end for end in ends if isinstance(end, str)]
    for line in broken[:20]:
        sys.stdout.write(f"{line}\n")
    rollouts = sum(t.rollouts for t in tales)
    sys.stdout.write(
        f"{len(ends)} seeds from {given.first}, {rollouts} rollouts,"
        f" {sum(t.faults for t in tales)} faults, {sum(t.crashes for t in tales)} crashes,"
        f" {sum(t.reboots for t in tales)} reboots, {sum(t.rollbacks for t in tales)} rollbacks, {sum(t.steps for t in tales)} passes;"
        f" {seconds:.0f} s, {rollouts / seconds * 60:.0f} rollouts a minute; {len(broken)} broken\n"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
