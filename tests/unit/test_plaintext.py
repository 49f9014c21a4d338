"""Foreign text: what acts unseen is seen, wherever people read it."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.children.program import Ended
from reconciler.cli.follow import event_line
from reconciler.control.page.rendering import macro
from reconciler.host import layout
from reconciler.logs import Lines, datagram
from reconciler.model.event import Event
from reconciler.notify.message import plain
from reconciler.safe_text import clean, clean_console_line, clean_lines, is_plain
from reconciler.source.manifests.places import shortened
from reconciler.supervisor.console import last_words

pytestmark = pytest.mark.shows(fault=42)

ACTING = (
    "\u200b",  # zero-width space
    "\u200d",  # zero-width joiner
    "\u2060",  # word joiner
    "\ufeff",  # byte order mark
    "\u00ad",  # soft hyphen
    "\u3164",  # a letter without a shape
    "\u061c", "\u200f", "\u202e", "\u2066",  # directions
    "\u2028",  # a line's end that is no line feed
    "\U000e0041",  # a tag: text that nobody sees
    "\x00", "\x07", "\x08", "\x7f", "\x85", "\x9b",
    "\udc80",
)  # fmt: skip


def in_log(text: str) -> str:
    return Lines(as_json=False).format(record(text))


def in_journal(text: str) -> str:
    value = datagram(record(text)).partition(b"MESSAGE\n")[2]
    return value[8 : 8 + int.from_bytes(value[:8], "little")].decode()


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("reconciler", logging.INFO, "", 0, text, None, None)


def in_page(text: str) -> str:
    return macro("vm.html", "console", text)


def in_terminal(text: str) -> str:
    return event_line(Event("pinned", text, 0.0))


def in_build(text: str) -> str:
    return Ended(1, text.encode("utf-8", "surrogateescape")).tail


PLACES: tuple[Callable[[str], str], ...] = (
    in_terminal, in_page, in_log, in_journal, in_build, plain, shortened, clean, clean_lines,
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("acting", ACTING, ids=ascii)
def test_no_character_that_acts_unseen_reaches_a_reader(
    place: Callable[[str], str], acting: str
) -> None:
    shown = place(f"we{acting}b")
    assert acting not in shown
    assert "we" in shown


def test_evidence_of_a_guest_shows_what_would_act_unseen(tmp_path: Path) -> None:
    text = "".join(f"we{acting}b \x1b]0;title\x07" for acting in ACTING if acting.isprintable())
    hidden = "a\u200bb \x1b[31mred\x1b[0m \x1b]0;title\x07\u202ec"
    layout.console(tmp_path).write_text(f"{hidden}\n{text}\n", encoding="utf-8")
    assert last_words(tmp_path, "i").lines[0] == "a\\u200bb red \\u202ec"


def test_every_default_ignorable_format_character_of_this_unicode_is_unsafe() -> None:
    shown_before_digits = {
        0x600,
        0x601,
        0x602,
        0x603,
        0x604,
        0x605,
        0x6DD,
        0x70F,
        0x890,
        0x891,
        0x8E2,
    }
    shown_before_digits |= {0x110BD, 0x110CD, *range(0x13430, 0x13440)}
    for code in range(0x110000):
        kind = unicodedata.category(chr(code))
        if kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and code not in shown_before_digits):
            assert chr(code) == "\t" or not is_plain(chr(code)), hex(code)


def test_letters_of_the_world_stay_as_they_are() -> None:
    for text in ("tab\tand spaces", "größer", "日本語", "العربية", "עברית", "हिन्दी", "✔ 🎉"):
        assert clean(text) == clean_lines(text) == text


def test_terminal_sequences_are_removed_and_lines_are_kept_where_they_are_meant() -> None:
    told = "\x1b[1;31mred\x1b[0m\x1b]52;c;ZXZpbA==\x07 \x1bPq\x1b\\done\nnext"
    assert clean_lines(told) == "red done\nnext"
    assert clean(told) == "red done\\nnext"
    assert clean_console_line(b"old text\rnew \xff\x1b[2J\r\n") == "new \ufffd"


def test_an_unfinished_sequence_takes_its_own_line_alone() -> None:
    assert clean_lines("a\x1b]8;;http://x\nb") == "a\nb"
    assert clean("\x1b") == "\\x1b"
