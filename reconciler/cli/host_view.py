"""The host's VMs as lines of text: a header, aligned columns, and reasons for VMs that are not well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from reconciler.cli.terminal import age, build_lines, count, short
from reconciler.control.reports import VMAnswer
from reconciler.model.names import GenerationNumber
from reconciler.model.status import GroupStatus, HostStatus, SourceStatus, SyncState, VMStatus
from reconciler.safe_text import clean

GAP = 2
ROOM_FOR_WHY = 40
"""Columns that the reason needs to stand beside its row, and not below it."""
NARROWEST_NAME = 8
INDENT = "  "

GOOD, BAD, BUSY, DIM = "green", "bold red", "yellow", "dim"
STATE_STYLES = {"running": GOOD, "failed": BAD, "starting": BUSY, "stopping": BUSY}
SYNC_STYLES = {"synced": GOOD, "blocked": BAD, "out-of-sync": BUSY, "suspended": BUSY}

NOTABLE_SYNCS: tuple[SyncState, ...] = ("out-of-sync", "blocked", "suspended")

FAILED = {
    "rolled-back": "was rolled back",
    "rollback-failed": "failed, and so did the rollback",
    "failed": "failed",
    "waiting": "waits",
}
"""Results of a revision that get a line; for others the rows are enough."""

Fleet = HostStatus | VMAnswer


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell, with a style of rich."""

    text: str
    style: str = ""


HEADINGS = ("NAME", "GROUP", "STATE", "HEALTHY", "SYNC", "RUN", "WANT", "GOOD")
NUMBERS = ("RUN", "WANT", "GOOD")
PROBLEMS = 3
"""Problems of a refused revision that are shown, so that the VMs stay visible."""


def fleet_lines(fleet: Fleet, width: int, now: float) -> list[Text]:
    """All lines, each for one line of a terminal of this width; `now` is unix time."""
    if not fleet.vms and fleet.revision.observed is None:
        none = Text("no revision was read yet, so no VM is known", DIM)
        return [*header(fleet, width, now), Text(), none]
    return [*header(fleet, width, now), Text(), *rows(fleet.vms, width)]


def header(fleet: Fleet, width: int, now: float) -> list[Text]:
    """The lines above the table: revision, summary, alerts, sources, groups and builds."""
    revision = fleet.revision
    lines = [Text(f"revision {_revision(revision.observed, revision.applied)}")]
    if revision.result in FAILED:
        words = f"{short(revision.observed)} {FAILED[revision.result]}: {clean(revision.why)}"
        lines.append(Text(words, BAD))
    if len(fleet.vms) > 1:
        lines.append(_summary(fleet.vms))
    if fleet.suspended:
        lines.append(
            Text("this host is suspended: the daemon changes nothing until `resume`", BUSY)
        )
    if revision.rejected:
        problems = count(revision.problem_count, "problem")
        text = f"revision {short(revision.rejected)} is rejected: {problems}; the one before stays in force"
        lines.append(Text(text, BAD))
        lines += [Text(f"{INDENT}{clean(one)}", "red") for one in revision.problems[:PROBLEMS]]
        if (more := revision.problem_count - PROBLEMS) > 0:
            others = f"{INDENT}and {more} more: `reconciler validate` of its files names them"
            lines.append(Text(others, "red"))
    lines += [line for source in fleet.sources if (line := _source(source, now))]
    lines += [Text(clean(alert), BAD) for alert in fleet.alerts]
    lines += [line for group in fleet.groups if (line := _group(group))]
    lines += [Text(line, BUSY) for line in build_lines(fleet.builds, now)]
    return [piece for line in lines for piece in _wrapped(line, width, INDENT)]


def _revision(observed: str | None, applied: str | None) -> str:
    if observed is None:
        return "none was read yet"
    if observed == applied:
        return f"{short(observed)} applied"
    return f"{short(observed)} observed, {short(applied)} applied"


def _summary(vms: Sequence[VMStatus]) -> Text:
    healthy = sum(vm.healthy for vm in vms)
    parts = [f"{healthy} of {count(len(vms), 'VM')} healthy"]
    unasked = sum(vm.unasked for vm in vms)
    if unasked:
        parts.append(f"{unasked} not asked yet")
    counted = Counter(vm.sync for vm in vms)
    parts += [f"{counted[sync]} {sync}" for sync in NOTABLE_SYNCS if counted[sync]]
    return Text(", ".join(parts), GOOD if healthy == len(vms) else BUSY)


def _source(source: SourceStatus, now: float) -> Text | None:
    if not source.error:
        return None
    last = source.last_success_wall
    since = f"last read {age(now - last)} ago" if last else "never read"
    words = f"source {clean(source.name)} cannot be read: {clean(source.error)} ({since})"
    return Text(f"{words}; the daemon tries again, `reconciler reconcile` shows a hint", BAD)


def _group(group: GroupStatus) -> Text | None:
    name = clean(group.name)
    if name.startswith("~") and group.state != "held":
        return None  # a VM without a group: its own row is enough
    label = f"{name[1:]} by itself" if name.startswith("~") else f"group {name}"
    match group.state:
        case "held":
            return Text(f"{label} is held: {clean(group.hold)}", BAD)
        case "running":
            pending = f"{group.pending} of {group.members} to go"
            down = f"{group.unavailable} down (at most {group.max_unavailable})"
            return Text(f"{label} is rolling out: {pending}, {down}", BUSY)
        case "suspended":
            return Text(f"{label} is suspended", BUSY)
        case _:
            return None


def rows(vms: Sequence[VMStatus], width: int) -> list[Text]:
    """The table of VMs, with each reason beside or below its row."""
    if not vms:
        return [Text("no VMs are declared", DIM)]
    table = [_cells(vm) for vm in vms]
    shown = [i for i, name in enumerate(HEADINGS) if name != "GROUP" or any(vm.group for vm in vms)]
    widths = _widths(table, shown, width)
    left = sum(widths[i] for i in shown) + GAP * len(shown)
    beside = width - left >= ROOM_FOR_WHY
    lines = [_row([Cell(name, DIM) for name in HEADINGS], shown, widths)]
    if beside and any(vm.why for vm in vms):
        lines[0].append(" " * GAP + "WHY", DIM)
    for vm, cells in zip(vms, table, strict=True):
        lines += _row_with_why(_row(cells, shown, widths), vm.why, width, beside=beside)
    return lines


def _cells(vm: VMStatus) -> list[Cell]:
    state, sync, numbers = clean(vm.state), clean(vm.sync), vm.generation
    moving = numbers.running != numbers.desired
    return [
        Cell(clean(vm.name)),
        Cell(clean(vm.group) or "-"),
        Cell(state, STATE_STYLES.get(state, "")),
        _health(vm),
        Cell(sync, SYNC_STYLES.get(sync, "")),
        Cell(_number(numbers.running)),
        Cell(_number(numbers.desired), BUSY if moving else ""),
        Cell(_number(numbers.last_good)),
    ]


def _health(vm: VMStatus) -> Cell:
    if vm.healthy:
        return Cell("yes", GOOD)
    return Cell("?", BUSY) if vm.unasked else Cell("no", BAD if vm.state == "running" else "")


def _number(number: GenerationNumber | None) -> str:
    return "-" if number is None else str(number)


def _widths(table: list[list[Cell]], shown: list[int], width: int) -> list[int]:
    """Column widths; names and groups are shortened if the terminal is too narrow."""
    widths = [
        max(len(HEADINGS[i]), *(len(cells[i].text) for cells in table))
        for i in range(len(HEADINGS))
    ]
    excess = sum(widths[i] for i in shown) + GAP * (len(shown) - 1) - width
    for i in sorted((0, 1), key=lambda i: -widths[i]):
        if excess > 0 and i in shown:
            given = min(excess, max(0, widths[i] - NARROWEST_NAME))
            widths[i] -= given
            excess -= given
    return widths


def _row(cells: Sequence[Cell], shown: list[int], widths: list[int]) -> Text:
    line = Text()
    for i in shown:
        text = cells[i].text
        if len(text) > widths[i]:
            text = text[: widths[i] - 1] + "…"
        text = text.rjust(widths[i]) if HEADINGS[i] in NUMBERS else text.ljust(widths[i])
        line.append((" " * GAP if line else "") + text, cells[i].style)
    return line


def _row_with_why(row: Text, why: str, width: int, *, beside: bool) -> Iterator[Text]:
    if not why:
        yield row
        return
    words = Text(clean(why))
    if not beside:
        yield row
        yield from _wrapped(Text(INDENT).append_text(words), width, INDENT)
        return
    blank = Text(" " * len(row))
    for piece in _wrapped(words, width - len(row) - GAP, ""):
        yield row.append(" " * GAP).append_text(piece)
        row = blank.copy()


def _wrapped(line: Text, width: int, indent: str) -> list[Text]:
    """A line wrapped to the width, with all but the first piece indented."""
    if len(line) <= width:
        return [line]
    pieces: list[Text] = []
    rest = line
    while len(rest) > width:
        lead = len(indent) if pieces or line.plain.startswith(indent) else 0
        cut = rest.plain.rfind(" ", lead + 1, width + 1)
        cut = cut if cut > lead else width
        pieces.append(rest[:cut])
        rest = Text(indent).append_text(rest[cut:])
        rest = _left_trimmed(rest, len(indent))
    return [*pieces, rest]


def _left_trimmed(text: Text, lead: int) -> Text:
    """The text without the spaces that follow its first `lead` characters."""
    blanks = len(text.plain[lead:]) - len(text.plain[lead:].lstrip(" "))
    return text[:lead].append_text(text[lead + blanks :])
