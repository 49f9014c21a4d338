"""Hints for names that are spelled wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ALL_NAMES = "see `reconciler status` for all names"
MOST_COMPARED = 2_000
"""Names; comparing costs about 10 microseconds for each."""
MOST_CHARACTERS = 64
"""Of the wrong name: comparing grows with its length."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str, most: int = 1) -> str:
    """`did you mean web?`, with up to `most` names that are spelled alike, or else `otherwise`."""
    names = sorted(known)[:MOST_COMPARED]
    same = [one for one in names if one.casefold() == name.casefold()]
    close = same or difflib.get_close_matches(name[:MOST_CHARACTERS], names, n=most)
    return f"did you mean {' or '.join(close)}?" if close else otherwise
