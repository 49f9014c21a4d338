"""A damaged ledger is found, kept aside and replaced, and never read as if it were whole."""

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.ledger.sqlite import Opened, open_ledger
from reconciler.model.change import (
    DropVM,
    PutSuspension,
    PutVM,
    apply,
)
from reconciler.model.names import VMName
from reconciler.model.record import Record
from tests.unit.ledger.ledger_samples import StillClock, as_text, everything, vm_record

pytestmark = pytest.mark.shows(row=16)

EXPECTED = apply(Record(), everything())
HEADER = 100

Look = Callable[[Opened], None]


async def written(path: Path) -> None:
    ledger = open_ledger(path, StillClock()).ledger
    await ledger.write(everything())
    await ledger.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "ledger.db"
    asyncio.run(written(path))
    return path.read_bytes()


async def still_writes(opened: Opened) -> None:
    record = await opened.ledger.write(
        [PutVM(vm_record("new", 1)), DropVM(VMName("db")), PutSuspension(None)]
    )
    assert "new" in record.vms
    await opened.ledger.close()


def outcome(content: bytes, what: str) -> str:
    """Open a ledger with this content. It is either whole, or set aside and begun anew."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        path.write_bytes(content)
        opened = open_ledger(path, StillClock())
        aside = path.with_name("ledger.db.corrupt-1")
        try:
            if opened.recovered is None:
                assert opened.ledger.record() == EXPECTED, what
                assert not aside.exists(), what
            else:
                assert opened.ledger.record() == Record(), what
                assert aside.read_bytes() == content, what
                assert aside.name in opened.recovered, what
        finally:
            asyncio.run(still_writes(opened))
        return "whole" if opened.recovered is None else "recovered"


def test_a_whole_ledger_is_whole(whole: bytes) -> None:
    assert outcome(whole, "nothing was changed") == "whole"


@pytest.mark.parametrize("part", ["header", "body"])
def test_a_flipped_bit_is_found_or_harmless(whole: bytes, part: str) -> None:
    chance = random.Random(20_260_601)  # noqa: S311 - which bits is no secret
    offsets = (
        range(0, HEADER, 2)
        if part == "header"
        else sorted(chance.sample(range(HEADER, len(whole)), 60))
    )
    seen = set()
    for offset in offsets:
        bit = chance.randrange(8)
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << bit
        seen.add(outcome(bytes(damaged), f"bit {bit} of byte {offset}"))
    assert seen == {"whole", "recovered"}, "the flips hit too little to tell anything"


def test_a_flipped_bit_in_any_value_of_the_record_is_found(whole: bytes) -> None:
    for text in (b'"memory_mib":256', b'"verdict":"condemned"', b"kernel panic", b"front"):
        at = whole.rindex(text) + len(text) - 1
        damaged = bytearray(whole)
        damaged[at] ^= 1
        assert outcome(bytes(damaged), repr(text)) == "recovered"


def test_a_flipped_bit_in_the_text_of_the_schema_is_found(whole: bytes) -> None:
    at = whole.index(b"CREATE TABLE vms") + len(b"CREATE")
    damaged = bytearray(whole)
    damaged[at] ^= 0x80  # no longer UTF-8: sqlite's message cannot be decoded either
    assert outcome(bytes(damaged), "the schema") == "recovered"


def test_a_truncated_ledger_is_found_at_any_length(whole: bytes) -> None:
    lengths = {0, 1, 15, 16, 99, 100, 4095, 4096, 4097, len(whole) - 4096}
    lengths |= set(range(512, len(whole), len(whole) // 25))
    for length in sorted(lengths):
        assert outcome(whole[:length], f"{length} bytes of {len(whole)}") == "recovered"
    outcome(whole[:-1], "a byte that may hold nothing")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8192,
        b"garbage\n" * 999,
        b"SQLite format 3\0",
        b"SQLite format 3\0" + b"\xff" * 8176,
    ],
    ids=["empty", "zeros", "garbage", "magic", "magic-and-ones"],
)
def test_what_is_no_ledger_is_set_aside(content: bytes) -> None:
    assert outcome(content, "no ledger") == "recovered"


def test_a_zeroed_page_is_found(whole: bytes) -> None:
    for page in range(len(whole) // 4096):
        start = page * 4096
        hollow = whole[:start] + bytes(4096) + whole[start + 4096 :]
        outcome(hollow, f"page {page}")


def test_every_damaged_ledger_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for _ in range(3):
        path.write_bytes(b"garbage")
        asyncio.run(open_ledger(path, StillClock()).ledger.close())
    assert sorted(each.name for each in tmp_path.glob("*corrupt*")) == [
        f"ledger.db.corrupt-{number}" for number in (1, 2, 3)
    ]


def test_a_log_without_its_ledger_is_not_replayed_into_a_new_one(tmp_path: Path) -> None:
    async def leave_a_log() -> None:
        ledger = open_ledger(tmp_path / "ledger.db", StillClock()).ledger
        await ledger.write(everything())
        shutil.copy(tmp_path / "ledger.db-wal", tmp_path / "kept")
        await ledger.close()

    asyncio.run(leave_a_log())
    (tmp_path / "ledger.db").unlink()
    (tmp_path / "kept").rename(tmp_path / "ledger.db-wal")
    opened = open_ledger(tmp_path / "ledger.db", StillClock())
    assert opened.ledger.record() == Record()
    assert opened.recovered is not None
    assert "missing" in opened.recovered
    assert (tmp_path / "ledger.db.corrupt-1-wal").exists()
    asyncio.run(opened.ledger.close())


def test_half_a_new_ledger_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "ledger.db.new").write_bytes(b"half")
    (tmp_path / "ledger.db.new-journal").write_bytes(b"half")
    opened = open_ledger(tmp_path / "ledger.db", StillClock())
    assert opened.recovered is None
    asyncio.run(opened.ledger.close())
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.db"]


def test_a_log_that_was_cut_or_flipped_gives_a_state_that_once_was(tmp_path: Path) -> None:
    states = [as_text(Record())]

    async def write_and_copy() -> None:
        ledger = open_ledger(tmp_path / "ledger.db", StillClock()).ledger
        vms = [vm_record(f"vm-{number}", 1) for number in range(6)]
        states.extend([as_text(await ledger.write([PutVM(vm)])) for vm in vms])
        for name in ("ledger.db", "ledger.db-wal"):
            shutil.copy(tmp_path / name, tmp_path / f"copy-of-{name}")
        await ledger.close()

    asyncio.run(write_and_copy())
    log = (tmp_path / "copy-of-ledger.db-wal").read_bytes()
    chance = random.Random(7)  # noqa: S311 - which bytes is no secret
    logs = [log[:length] for length in range(0, len(log), len(log) // 25)]
    flips = chance.sample(range(len(log)), 25)
    logs += [log[:at] + bytes([log[at] ^ 4]) + log[at + 1 :] for at in flips]
    seen = set()
    for number, damaged in enumerate(logs):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(tmp_path / "copy-of-ledger.db", folder / "ledger.db")
        (folder / "ledger.db-wal").write_bytes(damaged)
        opened = open_ledger(folder / "ledger.db", StillClock())
        assert opened.recovered is None
        seen.add(states.index(as_text(opened.ledger.record())))
        asyncio.run(opened.ledger.close())
    assert len(seen) > 3
