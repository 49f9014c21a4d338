"""The templates of the page, and how they become HTML that is safe by construction.

Every text that a template shows is cleaned of what acts unseen, then escaped, unless a template made it
(`Markup`). Templates do without what would go around that: `tests/unit/control/test_page_templates.py`.
"""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.environment import TemplateModule
from markupsafe import Markup

from reconciler.now import in_utc
from reconciler.safe_text import clean_lines

GOOD, BAD, BUSY, CALM = "good", "bad", "busy", "calm"
SIGNS = {GOOD: "●", BAD: "▲", BUSY: "◐", CALM: "○"}
LOOKS = {
    # of a VM
    "running": GOOD, "stopped": CALM, "starting": BUSY, "stopping": BUSY, "failed": BAD, "unknown": CALM,
    # against the repository
    "synced": GOOD, "out-of-sync": BUSY, "blocked": BAD, "suspended": CALM,
    # of a group
    "idle": GOOD, "rolling out": BUSY, "held": BAD,
    # of a generation
    "trial": BUSY, "committed": GOOD, "condemned": BAD,
    # of a check
    "healthy": GOOD, "not healthy": BAD,
    # of an event
    "info": CALM, "warning": BUSY, "error": BAD,
}  # fmt: skip
"""How the word of a state looks: its colour and its sign."""


PIECES = "pieces.html"


def macro(template: str, name: str, *values: object) -> Markup:
    """One piece of a page: the macro `name` of a template, called with `values`."""
    made: Markup = getattr(_macros(template), name)(*values)
    return made


def render(template: str, **values: object) -> str:
    """A whole document. Raises jinja2.UndefinedError for a value that the template misses."""
    return _environment().get_template(template).render(values)


def join(pieces: list[Markup]) -> Markup:
    """Pieces one after the other."""
    return Markup("\n").join(pieces)


# The smallest pieces are filters, and kept: the page of many VMs shows the same few many times.


@lru_cache(maxsize=256)
def badge(word: str, look: str | None = None) -> Markup:
    """A state as a word with a sign and a colour; a word that is not known is shown calmly."""
    kind = look or LOOKS.get(word, CALM)
    return macro(PIECES, "badge", word, kind, SIGNS[kind])


@lru_cache(maxsize=4096)
def moment(wall: float | None) -> Markup:
    """A time of day in UTC, from seconds of the wall clock; None and 0 are no time."""
    return macro(PIECES, "moment", in_utc(wall) if wall else None)


@lru_cache(maxsize=1024)
def short(revision: str | None) -> Markup:
    """The head of a commit or digest, with all of it when pointed at."""
    return macro(PIECES, "short", revision)


@lru_cache(maxsize=1024)
def generation(number: int | None) -> Markup:
    """The number of a generation, or a dash for none."""
    return macro(PIECES, "generation", number)


@lru_cache(maxsize=2048)
def vm_link(name: str) -> Markup:
    """A VM's name as a link to its page."""
    return macro(PIECES, "vm_link", name)


@lru_cache(maxsize=32)
def _macros(template: str) -> TemplateModule:
    return _environment().get_template(template).module


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reconciler.control.page"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pieces = (badge, moment, short, generation, vm_link)
    environment.filters.update({piece.__name__: piece for piece in pieces})
    return environment


def _clean(value: object) -> object:
    """Of what a template shows, before it is escaped: None is nothing."""
    if value is None:
        return ""
    if isinstance(value, Markup | int):
        return value
    text = str(value)
    return text if text.isascii() and text.isalnum() else clean_lines(text)
