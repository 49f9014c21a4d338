"""HTML that is safe by construction: every text is escaped unless it was made here."""

from __future__ import annotations

import html
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from reconciler.now import in_utc
from reconciler.safe_text import clean_lines

VOID = frozenset({"br", "hr", "input", "link", "meta"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | int | None
"""A plain text is escaped, `Html` is taken as it is, None is nothing."""


def escape(child: Child) -> str:
    if isinstance(child, Html):
        return child
    if child is None:
        return ""
    text = str(child)
    return text if text.isascii() and text.isalnum() else html.escape(clean_lines(text))


def h(tag: str, *children: Child, **attributes: str | bool | None) -> Html:
    """An element; `class_` is the attribute class, `data_x` is data-x, True is one without a value."""
    head = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        spelled = name.rstrip("_").replace("_", "-")
        head.append(spelled if value is True else f'{spelled}="{escape(value)}"')
    opened = f"<{' '.join(head)}>"
    if tag in VOID:
        return Html(opened)
    return Html(f"{opened}{''.join(map(escape, children))}</{tag}>")


def join(pieces: Iterable[Child], between: str = "") -> Html:
    return Html(escape(between).join(map(escape, pieces)))


def moment(wall: float | None) -> Html:
    """A time of day in UTC; the script shows how long ago that is."""
    return _moment(in_utc(wall)) if wall else h("span", "-", class_="none")


@lru_cache(maxsize=4096)
def _moment(when: datetime) -> Html:
    return h(
        "time", when.strftime("%Y-%m-%d %H:%M UTC"), datetime=when.strftime("%Y-%m-%dT%H:%M:%SZ")
    )


def short(revision: str | None) -> Html:
    """The head of a commit or digest; all of it when pointed at."""
    if not revision:
        return h("span", "none", class_="none")
    return h("code", revision[:10], title=revision)
