"""What is read from a console that anybody inside a guest can write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model.guest_reports import ConsoleText
from reconciler.supervisor import console


def log(folder: Path, text: str) -> None:
    with (folder / "console.log").open("a", encoding="utf-8") as file:
        file.write(text)


def test_a_guest_without_a_console_has_no_last_words(tmp_path: Path) -> None:
    assert console.last_words(tmp_path, "i") == console.LastWords((), panicked=False)


def test_only_the_last_twenty_lines_are_kept(tmp_path: Path) -> None:
    log(tmp_path, "".join(f"line {n}\n" for n in range(100)))
    words = console.last_words(tmp_path, "i")
    assert words.lines == tuple(f"line {n}" for n in range(80, 100))


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    log(tmp_path, "x" * 5000)
    assert console.last_words(tmp_path, "i").lines == ("x" * 200,)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[2J\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("a\x00b\x07c\x7f", r"a\x00b\x07c\x7f"),
        ("tab\there", "tab here"),
        ("right \u202eto left", r"right \u202eto left"),
        ("\u009b31mred", "red"),
    ],
)
def test_control_characters_do_not_reach_a_terminal(tmp_path: Path, said: str, shown: str) -> None:
    log(tmp_path, said + "\n")
    assert console.last_words(tmp_path, "i").lines == (shown,)


def test_bytes_that_are_not_text_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_bytes(b"ok \xff\xfe\n")
    assert console.last_words(tmp_path, "i").lines == ("ok \ufffd\ufffd",)


def test_what_was_before_the_guest_is_not_its_doing(tmp_path: Path) -> None:
    console.announce(tmp_path, "first", 1)
    log(tmp_path, "[    1.0] Kernel panic - not syncing: x\n")
    console.announce(tmp_path, "second", 2)
    log(tmp_path, "login:\n")
    assert console.last_words(tmp_path, "second") == console.LastWords(("login:",), panicked=False)


def test_a_panic_is_shown_with_what_led_to_it_however_long_its_trace(tmp_path: Path) -> None:
    log(tmp_path, "No init found\n[    1.0] Kernel panic - not syncing: x\n" + "trace\n" * 50)
    words = console.last_words(tmp_path, "i")
    assert words.panicked
    assert words.lines[:2] == ("No init found", "[    1.0] Kernel panic - not syncing: x")
    assert len(words.lines) <= 20


@pytest.mark.parametrize(
    "said", ["we fear a Kernel panic - not syncing", "no Kernel panic today", "kernel: panic"]
)
def test_a_service_that_talks_of_panic_has_not_panicked(tmp_path: Path, said: str) -> None:
    log(tmp_path, said + "\n")
    assert not console.last_words(tmp_path, "i").panicked


def test_a_small_console_is_not_rotated(tmp_path: Path) -> None:
    log(tmp_path, "small\n")
    console.bound(tmp_path, 100)
    assert not (tmp_path / "console.log.1").exists()


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("reconciler-failed: no schema", "no schema"),
        ("[    3.141592] reconciler-failed: no schema  ", "no schema"),
        ("<3>reconciler-failed: no \x1b[31mschema", "no schema"),
        ("reconciler-failed: first\nreconciler-failed: second", "second"),
        ("say: reconciler-failed: no schema", ""),
        ("reconciler-failed:", ""),
        ("reconciler-failed: " + "x" * 1000, "x" * 181),
    ],
)
def test_what_a_guest_reports_of_itself_is_found(tmp_path: Path, line: str, reported: str) -> None:
    console.announce(tmp_path, "i", 1)
    with (tmp_path / "console.log").open("a") as log:
        log.write(f"login:\n{line}\nreboot: Power down\n")
    assert console.last_words(tmp_path, "i").reported == reported


@pytest.mark.shows(fault=116)
def test_the_reason_of_our_own_init_comes_before_the_panic_that_follows_it(tmp_path: Path) -> None:
    noise = "".join(f"[    0.{n}] driver {n}\n" for n in range(10, 40))
    log(
        tmp_path,
        "[    0.5] reconciler-init: FAILED: no layer has /sbin/init\n"
        + noise
        + "[    1.0] Kernel panic - not syncing: Attempted to kill init!\n"
        + "trace\n" * 30,
    )
    words = console.last_words(tmp_path, "i")
    assert words.reported == "init: no layer has /sbin/init"
    assert words.lines[0] == "[    0.5] reconciler-init: FAILED: no layer has /sbin/init"
    assert "Kernel panic" in "".join(words.lines)
    assert len(words.lines) <= 20


def test_what_one_guest_printed_is_whole_while_its_mark_is_in_the_log(tmp_path: Path) -> None:
    console.announce(tmp_path, "first", 1)
    log(tmp_path, "ready\n")
    console.announce(tmp_path, "second", 2)
    log(tmp_path, "booting\n")
    assert console.printed(tmp_path, "second") == ConsoleText("booting\n")


def test_what_was_copied_before_a_log_was_cut_is_read_too(tmp_path: Path) -> None:
    console.announce(tmp_path, "first", 1)
    log(tmp_path, "ready\n")
    console.bound(tmp_path, 10)
    log(tmp_path, "later\n")
    found = console.printed(tmp_path, "first")
    assert found.cut
    assert found.text.endswith("later\n")


@pytest.mark.parametrize("cuts", [1, 2])
def test_no_text_of_an_earlier_guest_is_taken_for_this_one_s_after_a_cut_without_a_copy(
    tmp_path: Path, cuts: int
) -> None:
    console.announce(tmp_path, "first", 1)
    for _ in range(cuts):
        log(tmp_path, "ready to serve\n" * 10)
        console.bound(tmp_path, 100)
    console.announce(tmp_path, "second", 2)
    log(tmp_path, "booting\n" * 100)
    console.bound_file(str(tmp_path / "console.log"), 100, copied=False)
    log(tmp_path, "still booting\n")
    assert console.printed(tmp_path, "second") == ConsoleText("still booting\n", cut=True)


def test_more_than_a_check_reads_is_cut_at_its_beginning(tmp_path: Path) -> None:
    console.announce(tmp_path, "i", 1)
    log(tmp_path, "x" * console.MOST_PRINTED + "end")
    found = console.printed(tmp_path, "i")
    assert (len(found.text), found.text[-3:], found.cut) == (console.MOST_PRINTED, "end", True)


def test_a_console_that_this_host_cannot_read_is_not_a_silent_guest(tmp_path: Path) -> None:
    missing = console.printed(tmp_path, "i")
    assert missing == ConsoleText(unreadable="console.log: No such file or directory")
    (tmp_path / "console.log").symlink_to("/etc/passwd")
    assert console.printed(tmp_path, "i").unreadable


def test_marks_of_guests_that_print_nothing_do_not_fill_the_copy(tmp_path: Path) -> None:
    copy = tmp_path / "console.log.1"
    copy.write_bytes(b"x" * (2 * console.MOST_BYTES + 1))
    console.announce(tmp_path, "i", 1)
    assert copy.stat().st_size < 1000
