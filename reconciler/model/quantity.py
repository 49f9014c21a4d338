"""Durations, sizes and shares as manifests write them, and back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

DURATION_PATTERN = r"^(0|[1-9][0-9]{0,8})(ms|s|m|h)$"
SIZE_PATTERN = r"^([1-9][0-9]{0,8})(MiB|GiB)$"
SHARE_PATTERN = r"^([1-9][0-9]?|100)%$"
DURATION_RE, SIZE_RE, SHARE_RE = map(re.compile, (DURATION_PATTERN, SIZE_PATTERN, SHARE_PATTERN))

MS_OF = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
MIB_OF = {"MiB": 1, "GiB": 1024}
MOST_MS = 24 * MS_OF["h"]
MOST_WINDOW_MS = 7 * MOST_MS
MOST_MIB = 16 * 1024 * 1024
MOST_COUNT = 100_000


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a group, in percent."""

    percent: int

    def of(self, members: int) -> int:
        """The share of `members` as a count: rounded down, but at least 1, so that a rollout can proceed."""
        return max(1, members * self.percent // 100)


def refusal(says: str, hint: str) -> PydanticCustomError:
    """An error whose message the value completes: `"256" is not a size`."""
    return PydanticCustomError("quantity", "{says} ({hint})", {"says": says, "hint": hint})


def parse_duration(value: object, most_ms: int = MOST_MS) -> float:
    """Seconds, from `90s`, `500ms`, `5m` or `1h`; to the millisecond, and at most a day unless said."""
    found = DURATION_RE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise refusal("is not a duration", "write 500ms, 90s, 5m or 1h")
    ms = int(found[1]) * MS_OF[found[2]]
    if ms > most_ms:
        raise refusal("is too long", f"{most_ms // MS_OF['h']}h at most")
    return ms / 1000


def parse_positive_duration(value: object, most_ms: int = MOST_MS) -> float:
    """Seconds, as `parse_duration`; zero is refused."""
    seconds = parse_duration(value, most_ms)
    if not seconds:
        raise refusal("is zero", "write at least 1ms")
    return seconds


def _parse_duration_or_auto(value: object) -> float | None:
    return None if value == "auto" else parse_positive_duration(value)


def _format_duration_or_auto(seconds: float | None) -> str:
    return "auto" if seconds is None else format_duration(seconds)


def parse_window_duration(value: object) -> float:
    """Seconds of a window, which may be as long as a week."""
    return parse_positive_duration(value, MOST_WINDOW_MS)


def format_duration(seconds: float) -> str:
    """Seconds as a text in the largest unit that expresses them exactly."""
    ms = round(seconds * 1000)
    unit = next((u for u in ("h", "m", "s") if ms and ms % MS_OF[u] == 0), "ms" if ms else "s")
    return f"{ms // MS_OF[unit]}{unit}"


def parse_size(value: object) -> int:
    """MiB, from `256MiB` or `1GiB`."""
    found = SIZE_RE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise refusal("is not a size", "write 256MiB or 1GiB")
    mib = int(found[1]) * MIB_OF[found[2]]
    if mib > MOST_MIB:
        raise refusal("is too large", f"{MOST_MIB // 1024}GiB at most")
    return mib


def format_size(mib: int) -> str:
    """MiB as `256MiB` or `1GiB`."""
    return f"{mib // 1024}GiB" if mib % 1024 == 0 else f"{mib}MiB"


def parse_count_or_share(value: object) -> int | Share:
    """A count of VMs, or a percentage of the group."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_COUNT:
        return value
    found = SHARE_RE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise refusal("is neither a count nor a percentage", "write 1 or more, or 1% to 100%")
    return Share(int(found[1]))


def _format_count_or_share(value: int | Share) -> int | str:
    return value if isinstance(value, int) else f"{value.percent}%"


def text(pattern: str, example: str) -> WithJsonSchema:
    """The JSON schema of a text with this pattern."""
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


Duration = Annotated[
    float,
    PlainValidator(parse_positive_duration),
    PlainSerializer(format_duration),
    text(DURATION_PATTERN, "90s"),
]
WindowDuration = Annotated[
    float,
    PlainValidator(parse_window_duration),
    PlainSerializer(format_duration),
    text(DURATION_PATTERN, "2h"),
]
DurationOrNone = Annotated[
    float,
    PlainValidator(parse_duration),
    PlainSerializer(format_duration),
    text(DURATION_PATTERN, "10s"),
]
"""A duration that may be `0s`."""
DurationOrAuto = Annotated[
    float | None,
    PlainValidator(_parse_duration_or_auto),
    PlainSerializer(_format_duration_or_auto),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "auto"},
                {"type": "string", "pattern": DURATION_PATTERN, "examples": ["10s"]},
            ]
        }
    ),
]
"""A duration; None: `auto`."""
Size = Annotated[
    int, PlainValidator(parse_size), PlainSerializer(format_size), text(SIZE_PATTERN, "256MiB")
]
CountOrShare = Annotated[
    int | Share,
    PlainValidator(parse_count_or_share),
    PlainSerializer(_format_count_or_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MOST_COUNT},
                {"type": "string", "pattern": SHARE_PATTERN},
            ]
        }
    ),
]
