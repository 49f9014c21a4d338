"""What may be sent to the control API; anything else is refused before it means something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reconciler.control.error_responses import BadQuestionError
from reconciler.model.request import Name, Number, Request, Subject

LONGEST_WAIT = 3600.0
"""Seconds that one `reconcile` may keep a connection open."""

NO_NAME = ("that is no name of a VM or group", "`reconciler status` lists them")
MALFORMED = {
    "revision": ("that is no revision", "7 or more of its digits, as `reconciler status` shows it"),
    "ref": (
        "that is no branch, tag or commit",
        "as in `--ref main`, `--ref v1.2` or `--ref 1a2b3c4`",
    ),
}
"""What is wrong with a text of another form, by its field, and what to write."""
UNKNOWN_KEY = frozenset(("extra_forbidden", "unexpected_keyword_argument"))
"""Pydantic's words for it, of a model and of a dataclass."""
NO_SUCH_KEY = "Extra inputs are not permitted"


class Body(BaseModel):
    """A body or query: no unknown keys, no conversions, no input in error messages."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class ReconcileBody(Body):
    """What `POST /v1/reconcile` takes; `timeout` in seconds."""

    wait: bool = False
    timeout: float = Field(default=600.0, gt=0, le=LONGEST_WAIT)
    subject: Subject | None = None


class EventsQuery(Body):
    """Which events: those with a sequence number above `after`."""

    after: int | None = Field(default=None, ge=0, le=2**62)
    """None: the newest `limit` events."""
    limit: int = Field(default=100, ge=1, le=10_000)
    follow: bool = False


class LogsQuery(Body):
    """How many lines of which console; `candidate`: of the guest that starts beside the serving one."""

    lines: int = Field(default=100, ge=0, le=10_000)
    follow: bool = False
    candidate: bool = False


class PlanQuery(Body):
    """Which revision to plan for; None: the one that is followed."""

    ref: str | None = Field(
        default=None, max_length=256, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./@+~^-]*$"
    )


class DiffQuery(Body):
    """Two generations."""

    a: Number
    b: Number


class ImageQuery(Body):
    """An image, by the first digits of its key or by its title."""

    name: str = Field(min_length=1, max_length=512)


class ImagesQuery(Body):
    """Images of which VM; None: all."""

    vm: Name | None = None


class CheckQuery(Body):
    """Which image to read again; None: all."""

    name: str | None = Field(default=None, min_length=1, max_length=512)


class NoQuery(Body):
    """For questions that take no parameters."""


RECONCILE: TypeAdapter[ReconcileBody] = TypeAdapter(ReconcileBody)
REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="op")])

B = TypeVar("B")
Q = TypeVar("Q", bound=Body)


def parse_body(shape: TypeAdapter[B], raw: bytes) -> B:
    """Raises BadQuestionError."""
    try:
        return shape.validate_json(raw or b"{}")
    except ValidationError as error:
        raise _bad(error, "body") from error


def parse_form(fields: Mapping[str, str]) -> Request:
    """A request as a form gives it: all values are texts, and an empty one is a field not filled in.

    Raises BadQuestionError.
    """
    try:
        return REQUEST.validate_strings({name: text for name, text in fields.items() if text})
    except ValidationError as error:
        raise _bad(error, "form") from error


def parse_query(shape: type[Q], query: dict[str, str]) -> Q:
    """Raises BadQuestionError."""
    try:
        return shape.model_validate_strings(query)
    except ValidationError as error:
        raise _bad(error, "query") from error


def _bad(error: ValidationError, where: str) -> BadQuestionError:
    first: Any = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # Keys come from the peer: they are cut, and escaped by JSON on their way back.
    key = ".".join(str(part)[:60] for part in first["loc"])
    if first["type"] == "string_pattern_mismatch":
        return _malformed(key.rpartition(".")[2])
    message = NO_SUCH_KEY if first["type"] in UNKNOWN_KEY else str(first["msg"])[:300]
    return BadQuestionError(f"{where}: {key}: {message}" if key else f"{where}: {message}")


def _malformed(field: str) -> BadQuestionError:
    what, hint = MALFORMED.get(field, NO_NAME)
    return BadQuestionError(what, hint=hint)
