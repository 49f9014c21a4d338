"""A real Prometheus and a real Alertmanager on the loopback, and a receiver for what they send."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import yaml

from demo.daemon import free_port
from tests.integration.unpacked import as_unpacked
from tests.wait import wait_until

READY = 30.0
ANSWER = 15.0
END = 20.0
HOUR = 3600.0
RULES = Path(__file__).resolve().parents[2] / "dashboards/alerts.rules.yaml"


class Receiver:
    """An HTTP server that keeps the JSON that Alertmanager, or the daemon itself, posts to it."""

    def __init__(self, port: int = 0) -> None:
        self.posts: list[Any] = []
        self.ids: list[str | None] = []
        posts, ids = self.posts, self.ids

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                ids.append(self.headers["Idempotency-Key"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silent: the test shows what came."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def alerts(self, name: str) -> list[dict[str, Any]]:
        sent = [alert for post in list(self.posts) for alert in post["alerts"]]
        return [alert for alert in sent if alert["labels"]["alertname"] == name]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(END)
        self._server.server_close()


class Prometheus:
    """Questions to a running server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an answer. Raises AssertionError with the server's words for an error."""
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=ANSWER) as answer:  # noqa: S310 - our own
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def value(self, query: str) -> float | None:
        """What a query of one number answers now."""
        result = self.get("/api/v1/query", query=query)["result"]
        return float(result[0]["value"][1]) if result else None

    def series(self, query: str, begin: float, end: float) -> list[Any]:
        """What a panel would draw."""
        step = max(1.0, (end - begin) / 200)
        answer = self.get("/api/v1/query_range", query=query, start=begin, end=end, step=step)
        found: list[Any] = answer["result"]
        return found

    def exemplars(self, series: str) -> set[str]:
        """The traces that stand beside these series."""
        now = self.get("/api/v1/query", query="time()")["result"][1]
        found = self.get(
            "/api/v1/query_exemplars", query=series, start=float(now) - HOUR, end=float(now)
        )
        return {one["labels"]["trace_id"] for each in found for one in each["exemplars"]}

    def firing(self) -> set[str]:
        alerts = self.get("/api/v1/alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


@contextmanager
def prometheus(folder: Path, target: int, alertmanager: int, token: str) -> Iterator[Prometheus]:
    """A server that scrapes this port each second with a token, by our rules."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "reconciler",
                "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
                "authorization": {"credentials": token},
            }
        ],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
        },
    }
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = [
        "prometheus",
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with running(arguments, folder / "prometheus.log", f"http://127.0.0.1:{port}/-/ready"):
        yield Prometheus(port)


@contextmanager
def alertmanager(folder: Path, receiver: str) -> Iterator[int]:
    """A server that passes everything on at once; its port."""
    port = free_port()
    config = {
        "route": {
            "receiver": "test", "group_by": ["alertname"],
            "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h",
        },
        "receivers": [{"name": "test", "webhook_configs": [{"url": receiver}]}],
    }  # fmt: skip
    path = folder / "alertmanager.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = [
        "prometheus-alertmanager",
        f"--config.file={path}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(
        as_unpacked(arguments), folder / "alertmanager.log", f"http://127.0.0.1:{port}/-/ready"
    ):
        yield port


@contextmanager
def running(arguments: list[str], log: Path, ready: str) -> Iterator[None]:
    """A server until the end of the block, from when it says that it is ready."""
    with log.open("wb") as output, subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output
    ) as process:  # fmt: skip
        try:
            wait_until(lambda: is_ready(process, ready, log), READY, f"{arguments[0]} is ready")
            yield
        finally:
            process.terminate()
            try:
                process.wait(END)
            except subprocess.TimeoutExpired:
                process.kill()


def is_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
    try:
        with urllib.request.urlopen(url, timeout=ANSWER) as answer:  # noqa: S310 - our own
            return bool(answer.status == http.HTTPStatus.OK)
    except OSError:
        return False
