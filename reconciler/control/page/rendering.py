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


def look_of(word: str) -> str:
    """The look of a state; a word that is not known is shown calmly."""
    return LOOKS.get(word, CALM)


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
    environment.globals.update(in_utc=in_utc, look_of=look_of, signs=SIGNS)
    return environment


def _clean(value: object) -> object:
    """Of what a template shows, before it is escaped: None is nothing."""
    if value is None:
        return ""
    if isinstance(value, Markup | int):
        return value
    text = str(value)
    return text if text.isascii() and text.isalnum() else clean_lines(text)
