"""Makes untrusted text safe to show in terminals, pages, logs, evidence and messages.

Guests, commits, manifests, peers and child programs write text that people read. It must not control a
terminal, reorder what is displayed, or contain anything invisible.
"""

from __future__ import annotations

import re

SEQUENCES = re.compile(
    # CSI: colours and the cursor.
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    # OSC, DCS, PM, APC and SOS: titles, links, the clipboard. One that never ends takes its line.
    r"|(?:\x1b[\]P^_X]|[\x9d\x90\x9e\x9f\x98])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    # Two-byte ones.
    r"|\x1b[ -/]*[0-~]"
)
"""Terminal sequences; they are removed."""

_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Unicode's Default_Ignorable_Code_Point, its two line separators, annotations: zero-width characters,
direction overrides, tags. As ranges, because each Python has its own version of Unicode."""
_SURROGATES = "\ud800-\udfff"

UNSAFE = re.compile(f"[\x00-\x08\x0a-\x1f\x7f-\x9f{_INVISIBLE}{_SURROGATES}]")
"""Characters that are shown as an escape. A tab is safe."""
UNSAFE_IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_INVISIBLE}{_SURROGATES}]")
"""The same for text with several lines."""


def clean(text: str) -> str:
    """One line without terminal sequences, with invisible and control characters shown as escapes."""
    return UNSAFE.sub(_escaped, SEQUENCES.sub("", text))


def clean_lines(text: str) -> str:
    """The same for a text of several lines."""
    return UNSAFE_IN_LINES.sub(_escaped, SEQUENCES.sub("", text))


def clean_console_line(raw: bytes) -> str:
    """A line of a console, cleaned. Serial consoles end lines with CR LF, and redraw them with CR."""
    return clean(raw.decode("utf-8", "replace").rstrip("\r\n").rsplit("\r", 1)[-1])


def is_plain(text: str) -> bool:
    """Whether `clean` would leave it as it is."""
    return not UNSAFE.search(text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
