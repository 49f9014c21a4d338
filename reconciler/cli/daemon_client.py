"""Asking the daemon over its unix socket; the standard library alone, so that commands start fast."""

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
"""A daemon that is alive answers in milliseconds; only `plan` and `reconcile` may fetch first."""
LONGEST_LINE = 64 * 1024
LONGEST_ANSWER = 256 * 1024 * 1024
"""Bytes; 10,000 VMs are some 10 MiB."""

T = TypeVar("T")
Query = dict[str, str | int | None]


class DaemonError(ReconcilerError):
    """The daemon could not be asked, or it refused."""

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
    """HTTP/1.1 to a path instead of an address."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
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
        return self._shaped(shape, self.ask("GET", _target(where, query), timeout=timeout))

    def post(self, shape: type[T], where: str, body: dict[str, object]) -> T:
        return self._shaped(shape, self.ask("POST", _target((where,), {}), body=body))

    def ask(
        self,
        method: str,
        target: str,
        *,
        body: dict[str, object] | None = None,
        timeout: float = ANSWER_SECONDS,
    ) -> Any:
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
        """Ask, and until the answer comes call `meanwhile`, which says in how many seconds again."""
        until = time.monotonic() + timeout
        with _named_failures(self.path), _Exchange(self.path, None) as exchange:
            exchange.send("POST", _target((where,), {}), body)
            while not exchange.ready(max(0.0, min(meanwhile(), until - time.monotonic()))):
                if time.monotonic() >= until:
                    raise TimeoutError
            return self._shaped(shape, exchange.answer())

    def stream(self, *where: str, **query: Any) -> Iterator[bytes]:
        """Lines, until the daemon ends the stream; each at most LONGEST_LINE long."""
        with _named_failures(self.path), _Exchange(self.path, None) as exchange:
            exchange.send("GET", _target(where, query), None)
            response = exchange.response()
            while line := response.readline(LONGEST_LINE):
                yield line

    def stream_values(self, shape: type[T], *where: str, **query: Any) -> Iterator[T]:
        """Values of JSON lines, until the daemon ends the stream."""
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
                hint="are the daemon and this command of one version? see `reconciler version`",
            ) from error


class _Exchange:
    """One connection, one question."""

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
    """Failures of the socket as one error that says which socket, and what to do."""
    try:
        yield
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise DaemonError(
            f"no daemon listens on {path}: guests run on, and nobody looks after them",
            kind="not-running",
            hint="`systemctl start reconciler`, or `reconciler run` by hand; else name its socket"
            " with --socket",
        ) from error
    except PermissionError as error:
        raise DaemonError(
            f"{path}: permission denied",
            hint="ask as root, or as a member of the socket's group",
        ) from error
    except TimeoutError as error:
        raise DaemonError(
            f"the daemon on {path} did not answer in time", hint="its log says what it is doing"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DaemonError(
            f"the daemon on {path} broke off: {str(error) or type(error).__name__}",
            hint="its log says why; ask again when it is back",
        ) from error


# Twins of what reconciler.config says; importing that costs more than a whole `status`.
CONFIG_ENVIRONMENT = "RECONCILER_CONFIG"
DEFAULT_CONFIG = Path("/etc/reconciler/config.toml")
DEFAULT_SOCKET = Path("/run/reconciler/control.sock")


def find_daemon(given: Path | None, config: Path | None = None) -> Daemon:
    """`--socket`, RECONCILER_SOCKET, the config's control_socket, or the usual place."""
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
            f"{path}: {words}", hint="mend it, or name the socket with --socket"
        ) from error
    socket = settings.get("control_socket")
    return path.absolute().parent / socket if isinstance(socket, str) else None
