"""A process that writes to a ledger, to be killed, starved or refused: `python -m ... ROLE PATH`."""

import asyncio
import itertools
import os
import resource
import sys
import tempfile
from pathlib import Path

from reconciler.errors import LedgerUnwritable
from reconciler.ledger.sqlite import SqliteLedger, open_ledger
from reconciler.model.change import (
    AddEvent,
    BeginIntent,
    Change,
    EndIntent,
    PutVM,
)
from reconciler.model.record import Intent
from tests.unit.ledger.ledger_samples import StillClock, event, vm_record

VMS = 5
NOBODY = 65_534
KIB = 1024


def step(number: int) -> list[Change]:
    """The changes of the n-th write: the record says how far it came, and so does the log of events."""
    return [
        PutVM(vm_record(f"vm-{number % VMS}", number % 4)),
        AddEvent(event(str(number))),
        BeginIntent(Intent(f"i{number}", "start", f"vm-{number % VMS}", 1.0)),
        EndIntent(f"i{number - 1}", "done"),
    ]


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def write_for_ever(path: Path) -> None:
    """Say each number once its write is acknowledged."""
    ledger = open_ledger(path, StillClock()).ledger
    newest = await ledger.latest_events(1)
    for number in itertools.count(int(newest[0].message) + 1 if newest else 1):
        await ledger.write(step(number))
        say(number)


async def fill(ledger: SqliteLedger) -> None:
    for number in range(10_000):
        await ledger.write([PutVM(vm_record(f"vm-{number}"))])


async def run_out_of_space(path: Path) -> None:
    """Write up to a limit of the file's size, see that nothing was half done, then go on without it."""
    ledger = open_ledger(path, StillClock()).ledger
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300 * KIB, hard))
    for _ in range(3):
        try:
            await fill(ledger)
        except LedgerUnwritable as error:
            say(error.kind, bool(error.hint))
    before = ledger.record()
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = await ledger.write([PutVM(vm_record("space-is-back"))])
    say(set(after.vms) == {*before.vms, "space-is-back"})
    await ledger.close()
    again = open_ledger(path, StillClock())
    say(again.recovered, again.ledger.record() == after)
    await again.ledger.close()


async def write_as_nobody(path: Path) -> None:
    """Open and write where only root may, without being root."""
    with tempfile.TemporaryDirectory() as folder:
        # Imports and builds all that is lazy, while it still may read everything.
        await open_ledger(Path(folder) / "ledger.db", StillClock()).ledger.close()
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        open_ledger(path, StillClock())
    except LedgerUnwritable as error:
        say(error.kind, bool(error.hint))


ROLES = {"write": write_for_ever, "space": run_out_of_space, "nobody": write_as_nobody}

if __name__ == "__main__":
    asyncio.run(ROLES[sys.argv[1]](Path(sys.argv[2])))
