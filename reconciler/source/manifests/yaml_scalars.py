"""The value of an unquoted YAML scalar: YAML 1.2's core schema without ambiguous and infinite numbers."""

from __future__ import annotations

import math
import re

WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
FIRST_OF_NUMBERS = frozenset("+-.0123456789")
INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
MOST_DIGITS = 40


class NotPlain(ValueError):
    """A scalar that is refused; `hint` says how to write it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def resolve(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar. Raises NotPlain for ambiguous, infinite and overlong numbers."""
    if text in WORDS:
        return WORDS[text]
    if text[0] not in FIRST_OF_NUMBERS:
        return text
    if INTEGER.fullmatch(text):
        return int(_bounded(text))
    if BASED.fullmatch(text):
        return int(_bounded(text), 0)
    if LEADING_ZERO.fullmatch(text):
        raise NotPlain(
            f"{text[:MOST_DIGITS]} may be decimal or octal",
            "remove the zero, write 0o..., or quote it",
        )
    if NOT_FINITE.fullmatch(text):
        raise NotPlain(f"{text} is not a finite number", "write a number, or quote the text")
    if FLOAT.fullmatch(text):
        value = float(_bounded(text))
        if not math.isfinite(value):
            raise NotPlain(f"{text} is too large a number", "write a number, or quote the text")
        return value
    return text


def _bounded(text: str) -> str:
    if len(text) > MOST_DIGITS:
        raise NotPlain("the number has too many digits", f"{MOST_DIGITS} at most, or quote it")
    return text
