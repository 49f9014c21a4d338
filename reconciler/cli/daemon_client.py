"""The client of the daemon's control socket; uses only the standard library, so that commands start fast."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

from reconciler.control.responses import FailureAnswer
from reconciler.control.serialization import encode, revive
from reconciler.errors import ConfigError, ReconcilerError

ANSWER_SECONDS = 15.0
"""Time limit of a request. Answers take milliseconds, except `plan` and `reconcile`, which may fetch first."""
LONGEST_LINE = 64 * 1024
"""Bytes of one line of a stream."""
LONGEST_ANSWER = 256 * 1024 * 1024
"""Bytes of an answer; 10,000 VMs take about 10 MiB."""

T = TypeVar("T")
Query = dict[str, str | int | None]
# Copies of constants in reconciler.config, whose import takes longer than a whole `status`.
CONFIG_ENVIRONMENT = "RECONCILER_CONFIG"
DEFAULT_CONFIG = Path("/etc/reconciler/config.toml")
DEFAULT_SOCKET = Path("/run/reconciler/control.sock")


class DaemonError(ReconcilerError):
    """The daemon did not answer, or it refused the request."""

    default_kind = "daemon"

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        hint: str = "",
        problems: tuple[str, ...] = (),
        more: int = 0,
    ) -> None:
        super().__init__(message, kind=kind, hint=hint)
        self.problems = problems
        self.more = more


class UnixConnection(http.client.HTTPConnection):
    """HTTP/1.1 over a unix socket."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.close()
            raise


class Daemon:
    """A running daemon. Every method raises DaemonError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, shape: type[T], *where: str, timeout: float = ANSWER_SECONDS, **query: Any) -> T:
        """The answer to a GET request as a `shape`; `where` are parts of the path below `/v1`."""
        return self._shaped(shape, self.ask("GET", _target(where, query), timeout=timeout))

    def post(self, shape: type[T], where: str, body: dict[str, object]) -> T:
        """The answer to a POST request as a `shape`."""
        return self._shaped(shape, self.ask("POST", _target((where,), {}), body=body))

    def ask(
        self,
        method: str,
        target: str,
        *,
        body: dict[str, object] | None = None,
        timeout: float = ANSWER_SECONDS,
    ) -> Any:
        """The answer to a request as plain JSON data."""
        with _named_failures(self.path), _Exchange(self.path, timeout) as exchange:
            exchange.send(method, target, body)
            return exchange.answer()

    def post_while(
        self,
        shape: type[T],
        where: str,
        body: dict[str, object],
        meanwhile: Callable[[], float],
        timeout: float,
    ) -> T:
        """Post a request, and call `meanwhile` until the answer arrives; it returns seconds until its next call."""
        until = time.monotonic() + timeout
        with _named_failures(self.path), _Exchange(self.path, None) as exchange:
            exchange.send("POST", _target((where,), {}), body)
            while not exchange.ready(max(0.0, min(meanwhile(), until - time.monotonic()))):
                if time.monotonic() >= until:
                    raise TimeoutError
            return self._shaped(shape, exchange.answer())

    def stream(self, *where: str, **query: Any) -> Iterator[bytes]:
        """Lines of at most LONGEST_LINE bytes, until the daemon ends the stream."""
        with _named_failures(self.path), _Exchange(self.path, None) as exchange:
            exchange.send("GET", _target(where, query), None)
            response = exchange.response()
            while line := response.readline(LONGEST_LINE):
                yield line

    def stream_values(self, shape: type[T], *where: str, **query: Any) -> Iterator[T]:
        """Values decoded from JSON lines, until the daemon ends the stream."""
        for line in self.stream(*where, **query):
            with _named_failures(self.path):
                data = json.loads(line)
            yield self._shaped(shape, data)

    def _shaped(self, shape: type[T], data: Any) -> T:
        try:
            return revive(shape, data)
        except ValueError as error:
            raise DaemonError(
                f"the daemon's answer is not understood: {error}",
                hint="daemon and command may have different versions: see `reconciler version`",
            ) from error


class _Exchange:
    """One connection for one request."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        self._connection = UnixConnection(path, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, method: str, target: str, body: dict[str, object] | None) -> None:
        content = None if body is None else encode(body).encode("ascii")
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, target, content, headers)

    def ready(self, seconds: float) -> bool:
        return bool(select.select([self._connection.sock], [], [], seconds)[0])

    def response(self) -> http.client.HTTPResponse:
        response = self._connection.getresponse()
        if response.status >= http.client.BAD_REQUEST:
            raise _refusal(response)
        return response

    def answer(self) -> Any:
        return json.loads(self.response().read(LONGEST_ANSWER))


def _refusal(response: http.client.HTTPResponse) -> DaemonError:
    raw = response.read(LONGEST_ANSWER)
    try:
        error = revive(FailureAnswer, json.loads(raw)).error
    except ValueError:
        return DaemonError(f"the daemon answered {response.status} and gave no reason")
    return DaemonError(
        error.message, kind=error.kind, hint=error.hint, problems=error.problems, more=error.more
    )


def _target(where: tuple[str, ...], query: Query) -> str:
    path = "/v1/" + "/".join(quote(part, safe="") for part in where)
    given = {key: str(value) for key, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


@contextlib.contextmanager
def _named_failures(path: Path) -> Iterator[None]:
    """Turn failures of the socket into a DaemonError with the socket's path and a hint."""
    try:
        yield
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise DaemonError(
            f"no daemon listens on {path}: guests keep running, but nothing manages them",
            kind="not-running",
            hint="`systemctl start reconciler`, or run `reconciler run`; name another socket with --socket",
        ) from error
    except PermissionError as error:
        raise DaemonError(
            f"{path}: permission denied",
            hint="run the command as root, or as a member of the socket's group",
        ) from error
    except TimeoutError as error:
        raise DaemonError(
            f"the daemon on {path} did not answer in time", hint="see what it is doing in its log"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DaemonError(
            f"the daemon on {path} closed the connection: {str(error) or type(error).__name__}",
            hint="see its log for the reason, and try again when it is back",
        ) from error


def find_daemon(given: Path | None, config: Path | None = None) -> Daemon:
    """The daemon at `--socket`, RECONCILER_SOCKET, the config's control_socket, or the default path.

    Raises ConfigError if a named config cannot be read.
    """
    return Daemon(given or _configured(config) or DEFAULT_SOCKET)


def _configured(config: Path | None) -> Path | None:
    import tomllib  # noqa: PLC0415 - not needed when a socket is named

    named = config or os.environ.get(CONFIG_ENVIRONMENT)
    path = Path(named or DEFAULT_CONFIG)
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if not named:
            return None
        words = error.strerror if isinstance(error, OSError) else f"not TOML: {error}"
        raise ConfigError(
            f"{path}: {words}", hint="correct it, or name the socket with --socket"
        ) from error
    socket = settings.get("control_socket")
    return path.absolute().parent / socket if isinstance(socket, str) else None
