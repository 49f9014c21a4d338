"""On a terminal lines break between words and hang below where they began; in a pipe they stay whole."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from reconciler.cli import follow, vm_view, why
from reconciler.cli.terminal import say
from reconciler.control.describe import vm_answer, why_answer
from reconciler.model.event import Event
from reconciler.model.status import WaitStatus
from tests.unit.control.fake_operator import WALL, fleet, record, vm

pytestmark = pytest.mark.shows(fault=114)

LONG = " ".join(f"word{number}" for number in range(40))


def terminal(width: int = 80) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, color_system=None, width=width, highlight=False
    )


def lines_of(out: Console) -> list[str]:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


def words_of(lines: list[str]) -> list[str]:
    return " ".join(lines).split()


@pytest.mark.parametrize("width", [80, 60, 40, 20])
def test_why_breaks_no_word_at_any_width(width: int) -> None:
    waits = (WaitStatus("budget", LONG, WALL - 60, WALL + 60),)
    one = vm("web", healthy=False, sync="blocked", waits=waits, digest="0badcafe" * 8)
    out = terminal(width)
    why.show_why(why_answer(fleet(one, alerts=(LONG,)), one, record("web")), out, WALL)
    lines = lines_of(out)
    assert max(map(len, lines)) <= width
    assert set(LONG.split()) <= set(words_of(lines))
    assert "nginx:" in words_of(lines)


def test_a_vm_in_full_breaks_no_word() -> None:
    one = vm("web", probe=LONG)
    out = terminal()
    vm_view.show_vm(vm_answer(fleet(one), one, record("web")), out, WALL)
    checks = [line for line in lines_of(out) if "word" in line]
    assert set(LONG.split()) <= set(words_of(checks))
    assert all(line.startswith(" " * 10) for line in checks[1:]), "below the label"


def test_events_break_no_word_and_stand_below_their_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = terminal()
    monkeypatch.setattr(follow, "console", lambda: out)
    follow._shown_on_a_terminal()(Event("generation-committed", LONG, WALL))
    lines = lines_of(out)
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80
    assert {line[: follow.MESSAGE_AT].strip() for line in lines[1:]} == {""}
    assert lines[0].index("word0") == follow.MESSAGE_AT
    assert words_of([line[follow.MESSAGE_AT :] for line in lines]) == LONG.split()


def test_a_line_in_a_pipe_stays_whole() -> None:
    out = Console(file=io.StringIO(), width=40)
    say(out, LONG)
    assert lines_of(out) == [LONG]


def test_only_a_word_that_is_longer_than_the_terminal_is_broken() -> None:
    out = terminal(40)
    say(out, Text("short ").append("x" * 100, "red"), hang=4)
    assert "".join(line.strip() for line in lines_of(out)).replace("short", "") == "x" * 100
    assert max(map(len, lines_of(out))) <= 40
