"""Errors as answers: the right status, one safe line, a hint, and never a dead daemon."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from reconciler.control.responses import Failure, FailureAnswer
from reconciler.control.serialization import encode
from reconciler.errors import (
    LedgerError,
    ManifestErrors,
    ReconcilerError,
    RequestRefused,
    SourceError,
)

log = logging.getLogger(__name__)

CHALLENGE = 'Bearer realm="reconciler"'
"""Of answers to those who must show a token; no browser asks for a password because of it."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BadQuestionError(ReconcilerError):
    """What was asked is malformed."""

    default_kind = "bad-request"


class NotFoundError(ReconcilerError):
    """What was asked about does not exist."""

    default_kind = "not-found"


class UnauthorizedError(ReconcilerError):
    """Who asks has shown no token, or a wrong one."""

    default_kind = "unauthorized"


class ForbiddenError(ReconcilerError):
    """What was shown does not allow this."""

    default_kind = "forbidden"


class ThrottledError(ReconcilerError):
    """More is tried within a short time than the listener allows."""

    default_kind = "throttled"


class MisdirectedError(ReconcilerError):
    """It was asked by a name that is not this host's."""

    default_kind = "misdirected"


class StoppingError(ReconcilerError):
    """The daemon ends before it could answer."""

    default_kind = "stopping"


class BusyError(ReconcilerError):
    """More is asked at once than the listener allows."""

    default_kind = "busy"


STATUS_BY_ERROR: tuple[tuple[type[ReconcilerError], int], ...] = (
    (BadQuestionError, 400),
    (UnauthorizedError, 401),
    (ForbiddenError, 403),
    (NotFoundError, 404),
    (RequestRefused, 409),
    (MisdirectedError, 421),
    (ManifestErrors, 422),
    (ThrottledError, 429),
    (SourceError, 502),
    (StoppingError, 503),
    (BusyError, 503),
    (LedgerError, 503),
)


def status_of(error: ReconcilerError) -> int:
    """The HTTP status; 500 for an error without one of its own."""
    return next((status for kind, status in STATUS_BY_ERROR if isinstance(error, kind)), 500)


def json_answer(value: object, status: int = 200) -> web.Response:
    """A value as JSON of one line."""
    return web.Response(text=encode(value) + "\n", status=status, content_type="application/json")


def failure_answer(failure: Failure, status: int) -> web.Response:
    """A failure as the JSON that the command line reads."""
    return json_answer(FailureAnswer(failure), status)


@web.middleware
async def answer_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer."""
    try:
        return await handler(request)
    except ReconcilerError as error:
        problems, more = (
            (error.problems, error.more) if isinstance(error, ManifestErrors) else ((), 0)
        )
        named = tuple(str(problem) for problem in problems)
        failure = Failure(error.kind, str(error), error.hint, named, more)
        answer = failure_answer(failure, status_of(error))
        if isinstance(error, UnauthorizedError):
            answer.headers["WWW-Authenticate"] = CHALLENGE
        return answer
    except web.HTTPException as error:
        answer = failure_answer(_http_failure(error), error.status)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except web.RequestPayloadError:  # a body that is not what its headers say
        answer = failure_answer(Failure("body", "the body does not fit its headers"), 400)
        answer.force_close()
        return answer
    except Exception as error:
        if isinstance(error, ConnectionError) and _has_left(
            request
        ):  # no one is left to read an answer
            return failure_answer(Failure("gone", "the connection was lost"), 400)
        log.exception("answering %s %s failed", request.method, request.path)
        return failure_answer(
            Failure("internal", "the daemon could not answer", "its log says why"), 500
        )


def _has_left(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _http_failure(error: web.HTTPException) -> Failure:
    if error.status == web.HTTPRequestEntityTooLarge.status_code:
        return Failure("too-large", "the body is larger than 64 KiB", "send less")
    if error.status == web.HTTPMethodNotAllowed.status_code:
        return Failure("method", "this method is not allowed here")
    if error.status == web.HTTPNotFound.status_code:
        return Failure("not-found", "no such resource", "do daemon and command have one version?")
    return Failure("http", error.reason)
