"""What may be sent to the control API; anything else is refused before it means something."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, assert_never

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reconciler.control.error_responses import BadQuestionError
from reconciler.model.names import NAME_PATTERN, GenerationNumber
from reconciler.model.request import (
    Abort,
    AcceptRewrite,
    Adopt,
    Confirm,
    Promote,
    Remove,
    Request,
    RestartVM,
    Resume,
    Retry,
    RollbackTo,
    Suspend,
)

LONGEST_WAIT = 3600.0
"""Seconds that one `reconcile` may keep a connection open."""
LONGEST_SUSPENSION = 366 * 86_400.0
"""Seconds; what is to rest for longer, a person wakes."""

NO_NAME = ("that is no name of a VM or group", "`reconciler status` lists them")
MALFORMED = {
    "revision": ("that is no revision", "7 or more of its digits, as `reconciler status` shows it"),
    "ref": (
        "that is no branch, tag or commit",
        "as in `--ref main`, `--ref v1.2` or `--ref 1a2b3c4`",
    ),
}
"""What is wrong with a text of another form, by its field, and what to write."""

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Subject = Annotated[str, Field(pattern=r"^((vm|group)/)?" + NAME_PATTERN.removeprefix("^"))]
"""A VM or a group; a name that is of both says which."""
Number = Annotated[int, Field(ge=1, le=2**31)]
Reason = Annotated[str, Field(max_length=1000)]
Prefix = Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class ReconcileBody(Body):
    wait: bool = False
    timeout: float = Field(default=600.0, gt=0, le=LONGEST_WAIT)
    subject: Subject | None = None


class RollbackBody(Body):
    op: Literal["rollback"]
    vm: Name
    to: Number | None = None


class RetryBody(Body):
    op: Literal["retry"]
    vm: Name


class RestartBody(Body):
    op: Literal["restart"]
    vm: Name


class SuspendBody(Body):
    op: Literal["suspend"]
    subject: Subject | None = None
    reason: Reason = ""
    seconds: float | None = Field(default=None, gt=0, le=LONGEST_SUSPENSION, allow_inf_nan=False)


class ResumeBody(Body):
    op: Literal["resume"]
    subject: Subject | None = None


class PromoteBody(Body):
    op: Literal["promote"]
    group: Name


class AbortBody(Body):
    op: Literal["abort"]
    group: Name
    reason: Reason = ""


class ConfirmBody(Body):
    op: Literal["confirm"]
    revision: Prefix


class RemoveBody(Body):
    op: Literal["remove"]
    vm: Name


class AdoptBody(Body):
    op: Literal["adopt"]
    vm: Name


class AcceptRewriteBody(Body):
    op: Literal["accept-rewrite"]
    revision: Prefix


AnyRequestBody = (
    RollbackBody
    | RetryBody
    | RestartBody
    | SuspendBody
    | ResumeBody
    | PromoteBody
    | AbortBody
    | ConfirmBody
    | RemoveBody
    | AdoptBody
    | AcceptRewriteBody
)


class EventsQuery(Body):
    after: int | None = Field(default=None, ge=0, le=2**62)
    """None: the newest `limit` events."""
    limit: int = Field(default=100, ge=1, le=10_000)
    follow: bool = False


class LogsQuery(Body):
    lines: int = Field(default=100, ge=0, le=10_000)
    follow: bool = False
    candidate: bool = False


class PlanQuery(Body):
    ref: str | None = Field(
        default=None, max_length=256, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./@+~^-]*$"
    )


class DiffQuery(Body):
    a: Number
    b: Number


class NoQuery(Body):
    """For questions that take no parameters."""


RECONCILE: TypeAdapter[ReconcileBody] = TypeAdapter(ReconcileBody)
REQUEST: TypeAdapter[AnyRequestBody] = TypeAdapter(
    Annotated[AnyRequestBody, Field(discriminator="op")]
)

B = TypeVar("B")
Q = TypeVar("Q", bound=Body)


def parse_body(shape: TypeAdapter[B], raw: bytes) -> B:
    """Raises BadQuestionError."""
    try:
        return shape.validate_json(raw or b"{}")
    except ValidationError as error:
        raise _bad(error, "body") from error


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
    message = str(first["msg"])[:300]
    return BadQuestionError(f"{where}: {key}: {message}" if key else f"{where}: {message}")


def _malformed(field: str) -> BadQuestionError:
    what, hint = MALFORMED.get(field, NO_NAME)
    return BadQuestionError(what, hint=hint)


def to_request(body: AnyRequestBody) -> Request:
    request: Request
    match body:
        case RollbackBody():
            request = RollbackTo(body.vm, None if body.to is None else GenerationNumber(body.to))
        case RetryBody():
            request = Retry(body.vm)
        case RestartBody():
            request = RestartVM(body.vm)
        case SuspendBody():
            request = Suspend(body.subject, body.reason, body.seconds)
        case ResumeBody():
            request = Resume(body.subject)
        case PromoteBody():
            request = Promote(body.group)
        case AbortBody():
            request = Abort(body.group, body.reason)
        case ConfirmBody():
            request = Confirm(body.revision)
        case RemoveBody():
            request = Remove(body.vm)
        case AdoptBody():
            request = Adopt(body.vm)
        case AcceptRewriteBody():
            request = AcceptRewrite(body.revision)
        case _:
            assert_never(body)
    return request
