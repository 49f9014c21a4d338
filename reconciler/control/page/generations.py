"""A VM's generations with their verdicts, and what differs between any two of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from reconciler.control.page.badges import badge
from reconciler.control.page.html import Html, h, join, moment, short
from reconciler.model.names import GenerationNumber
from reconciler.model.plan import FieldChange
from reconciler.model.record import Evidence, Generation, VMRecord

Differ = Callable[[GenerationNumber, GenerationNumber], Sequence[FieldChange]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two generations that a person wants to compare."""

    a: GenerationNumber
    b: GenerationNumber


def history(record: VMRecord | None, differ: Differ) -> Html:
    made = list(reversed(record.generations)) if record else []
    older: dict[GenerationNumber, GenerationNumber] = {
        newer.number: before.number for newer, before in pairwise(made)
    }
    rows = [_generation(one, older.get(one.number), differ) for one in made]
    columns = ("Generation", "Verdict", "Revision", "Made", "Why")
    heads = [h("th", column, scope="col") for column in columns]
    caption = h("caption", "Generations, the newest first", class_="hidden")
    table = h("table", caption, h("thead", h("tr", *heads)), h("tbody", *rows))
    return h(
        "section",
        h("h2", "Generations"),
        table if rows else h("p", "None was made yet.", class_="empty"),
        id="history",
    )


def _generation(one: Generation, before: GenerationNumber | None, differ: Differ) -> Html:
    why = join([h("span", one.reason, class_="why"), _evidence(one), _changes(one, before, differ)])
    return h(
        "tr",
        h("th", one.number, scope="row", data_label="Generation"),
        h("td", badge(one.verdict), data_label="Verdict"),
        h("td", short(one.revision), data_label="Revision"),
        h("td", moment(one.created_wall), data_label="Made"),
        h("td", why, data_label="Why", class_="words"),
    )


def _evidence(one: Generation) -> Html | None:
    found: Evidence | None = one.evidence
    if found is None:
        return None
    lines = [h("p", text) for text in (found.exit, found.probe) if text]
    words = "\n".join(found.console)
    name = f"Console of generation {one.number}"
    last_words = h("pre", words, tabindex="0", role="region", aria_label=name) if words else None
    return h(
        "details", h("summary", f"Evidence: {found.kind}"), *lines, last_words,
        id=f"evidence-{one.number}",
    )  # fmt: skip


def _changes(one: Generation, before: GenerationNumber | None, differ: Differ) -> Html | None:
    found = differ(before, one.number) if before is not None else ()
    if not found:
        return None
    title = f"{_count(found)} since generation {before}"
    return h("details", h("summary", title), field_changes(found), id=f"changes-{one.number}")


def field_changes(found: Sequence[FieldChange]) -> Html:
    items = [
        h(
            "li", h("code", change.path), " ", h("del", change.old), " ", h("ins", change.new), " ",
            h("span", f"({change.effect})", class_="none"),
        )
        for change in found
    ]  # fmt: skip
    return h("ul", *items, class_="changes")


def _count(found: Sequence[FieldChange]) -> str:
    return f"{len(found)} {'change' if len(found) == 1 else 'changes'}"


def upcoming(found: Sequence[FieldChange]) -> Html:
    """What the next generation changes; an empty element when there is none on the way."""
    if not found:
        return h("div", id="upcoming")
    title = h("h2", "What the repository changes next")
    return h("section", title, field_changes(found), id="upcoming")


def compare(name: str, record: VMRecord | None, pair: Pair | None, differ: Differ) -> Html:
    """A question as a form, and its answer; with fewer than two generations there is none."""
    numbers = [one.number for one in record.generations] if record else []
    if len(numbers) < 2:  # noqa: PLR2004 - it takes two to compare
        return h("div", id="compare")
    asked = pair or Pair(numbers[-2], numbers[-1])
    fields = [
        h("label", f"{word} ", _choice(key, numbers, chosen))
        for word, key, chosen in (("From", "a", asked.a), ("to", "b", asked.b))
    ]
    form = h("form", *fields, h("button", "Compare"), method="get", action=f"/vm/{name}")
    answer: Html | None = None
    if pair is not None:
        found = differ(pair.a, pair.b)
        same = h("p", "Nothing that they are made of differs.", class_="empty")
        answer = field_changes(found) if found else same
    return h("section", h("h2", "Compare generations"), form, answer, id="compare")


def _choice(key: str, numbers: Sequence[GenerationNumber], chosen: GenerationNumber) -> Html:
    options = [
        h("option", f"generation {number}", value=str(number), selected=number == chosen)
        for number in numbers
    ]
    return h("select", *options, name=key)
