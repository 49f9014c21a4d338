"""What guests announce on their consoles: heard once, for the instance that it is about, within bounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.guest_reports import NOTHING_ANNOUNCED, Announced
from reconciler.supervisor import announcements, console
from reconciler.supervisor.announcements import Listener, listen_all

pytestmark = pytest.mark.shows(fault=68)

ID = "web-g3-1a2b"


def say(folder: Path, text: str) -> None:
    with (folder / "console.log").open("a", encoding="utf-8") as log:
        log.write(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[    2.5] reconciler-up: {ID}\n", Announced(up=7.0)),
        (f"half a line[    2.5] reconciler-up: {ID}\r\n", Announced(up=7.0)),
        (f"reconciler-handed-over: {ID}\n", Announced(handed_over=7.0)),
        (f"reconciler-ended: {ID} rc.local status 127\n", Announced(ended="rc.local status 127")),
        (f"reconciler-ended: {ID}\n", Announced(ended="status unknown")),
        (f"reconciler-ended: {ID} \x1b[31mred\n", Announced(ended="red")),
        (f"reconciler-up: {ID}", NOTHING_ANNOUNCED),
        ("reconciler-up: web-g2-9999\n", NOTHING_ANNOUNCED),
        (f"reconciler-up: {ID}x\n", NOTHING_ANNOUNCED),
        ("reconciler-up: -\n", NOTHING_ANNOUNCED),
        ("reconciler-up:\n", NOTHING_ANNOUNCED),
    ],
)
def test_a_line_counts_for_the_instance_that_it_names(
    tmp_path: Path, text: str, said: Announced
) -> None:
    say(tmp_path, text)
    listener = Listener(tmp_path, ID)
    assert listener.listen(7.0) == (said != NOTHING_ANNOUNCED)
    assert replace(listener.said, console=()) == said


def test_a_guest_that_does_not_know_its_name_is_heard_after_the_mark_of_its_start(
    tmp_path: Path,
) -> None:
    say(tmp_path, "reconciler-up: -\n")
    console.announce(tmp_path, ID, 3)
    listener = Listener(tmp_path, ID)
    assert not listener.listen(1.0)
    say(tmp_path, "reconciler-up: -\n")
    assert listener.listen(2.0)
    assert listener.said.up == 2.0


def test_a_line_that_comes_in_pieces_is_heard_when_it_is_whole(tmp_path: Path) -> None:
    listener = Listener(tmp_path, ID)
    assert not listener.listen(0.0), "there is no console yet"
    say(tmp_path, "boot\nreconciler-")
    assert not listener.listen(1.0)
    say(tmp_path, f"up: {ID}\n")
    assert listener.listen(2.0)
    assert listener.said == Announced(up=2.0)


@pytest.mark.shows(fault=100)
@pytest.mark.parametrize("before", ["x" * 3000, "\r 10 % done" * 300])
@pytest.mark.parametrize("apart", [False, True])
def test_a_line_is_heard_behind_much_that_a_program_left_unfinished(
    tmp_path: Path, before: str, *, apart: bool
) -> None:
    listener = Listener(tmp_path, ID)
    say(tmp_path, before)
    if apart:
        listener.listen(1.0)
    say(tmp_path, f"[   12.5] reconciler-up: {ID}\n")
    listener.listen(2.0)
    assert listener.said.up == 2.0


def test_what_was_heard_first_stays_so(tmp_path: Path) -> None:
    say(tmp_path, f"reconciler-up: {ID}\nreconciler-ended: {ID} a status 1\n")
    listener = Listener(tmp_path, ID)
    listener.listen(1.0)
    say(tmp_path, f"reconciler-up: {ID}\nreconciler-ended: {ID} b status 2\n")
    assert not listener.listen(2.0)
    assert (listener.said.up, listener.said.ended) == (1.0, "a status 1")


def test_the_end_of_an_application_comes_with_the_lines_before_it(tmp_path: Path) -> None:
    lines = "".join(f"line {n}\n" for n in range(50))
    say(
        tmp_path,
        f"{lines}/etc/rc.local: line 3: serve: not \x1b[31mfound\nreconciler-ended: {ID} rc.local status 127\n",
    )
    listener = Listener(tmp_path, ID)
    listener.listen(1.0)
    assert listener.said.console[-2:] == (
        "/etc/rc.local: line 3: serve: not found",
        f"reconciler-ended: {ID} rc.local status 127",
    )
    assert len(listener.said.console) == 20


def test_a_console_that_was_made_smaller_is_read_from_its_beginning(tmp_path: Path) -> None:
    say(tmp_path, "x\n" * 1000)
    listener = Listener(tmp_path, ID)
    listener.listen(1.0)
    (tmp_path / "console.log").write_text(f"reconciler-up: {ID}\n")
    assert listener.listen(2.0)


def test_one_look_reads_no_more_than_its_bound_however_much_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "MOST_BYTES", 1000)
    listener = Listener(tmp_path, ID)
    listener.listen(0.0)
    say(tmp_path, "booting\n")
    listener.listen(0.0)
    say(tmp_path, "x" * 2500 + f"\nreconciler-up: {ID}\n")
    looks = [listener.listen(float(n)) for n in range(4)]
    assert looks.index(True) == 2
    assert len(listener._rest) <= announcements.MOST_LINE_BYTES


def test_a_console_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(f"reconciler-up: {ID}\n")
    (tmp_path / "console.log").symlink_to(tmp_path / "elsewhere")
    assert not listen_all([Listener(tmp_path, ID)], 1.0)


CORRUPTED = "device-mapper: verity: 254:16: data block 3 is corrupted"


@pytest.mark.parametrize(
    ("line", "damaged"),
    [
        (f"[   12.345678] {CORRUPTED}", 7.0),
        (f"half a line[   12.345678] {CORRUPTED}", 7.0),
        (CORRUPTED.replace("data", "metadata"), 7.0),
        ("device-mapper: verity: sha256 using implementation sha256-generic", None),
        ("device-mapper: verity: ../../etc: data block 3 is corrupted", None),
        (f"device-mapper: verity: 254:16: data block {'9' * 40} is corrupted", None),
    ],
)
def test_a_block_that_its_kernel_calls_damaged_is_heard(
    tmp_path: Path, line: str, damaged: float | None
) -> None:
    console.announce(tmp_path, ID, 3)
    say(tmp_path, f"{line}\r\n")
    listener = Listener(tmp_path, ID)
    assert listener.listen(7.0) == (damaged is not None)
    assert listener.said == Announced(damaged=damaged)
    say(tmp_path, f"{line}\n" * 100)
    assert not listener.listen(9.0), "once is enough"


def test_what_a_guest_before_it_said_of_blocks_is_not_its_own(tmp_path: Path) -> None:
    say(tmp_path, f"{CORRUPTED}\n")
    console.announce(tmp_path, ID, 3)
    listener = Listener(tmp_path, ID)
    assert not listener.listen(1.0)
    say(tmp_path, f"{CORRUPTED}\n")
    assert listener.listen(2.0)


def test_a_log_that_lost_the_mark_of_its_guest_is_all_of_that_guest(tmp_path: Path) -> None:
    say(tmp_path, f"{CORRUPTED}\n")
    listener = Listener(tmp_path, ID)
    assert listener.listen(1.0)
    assert listener.said.damaged == 1.0
