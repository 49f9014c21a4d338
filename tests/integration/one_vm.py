"""One VM named `app` in a daemon's life: what tests of a single image push, wait for, and ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from demo.client import DaemonAway, Fleet
from demo.daemon import Daemon, Settings, free_port
from demo.screen import in_words
from demo.stage import Stage
from tests.integration import evidence
from tests.integration.harness import request
from tests.wait import wait_until

ROLL = 200.0


@contextmanager
def stage_that_allows(
    allowed: Mapping[str, Sequence[str]], node: pytest.Item, *, more: str = ""
) -> Iterator[Stage]:
    """A stage whose daemon has these keys of `policy`, and further tables of the config in `more`."""
    stage = Stage.open()
    settings = Settings(
        repository=stage.repository.bare, state=stage.state,
        socket=stage.daemon.settings.socket, http_port=free_port(), allowed=allowed, more=more,
    )  # fmt: skip
    stage.daemon = Daemon(stage.root, settings)
    try:
        with evidence.kept_of(stage, node):
            yield stage
    finally:
        assert stage.close() == []


class OneVM:
    """The VM, which a port of the host leads to."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.port = free_port()

    def declare(
        self, layers: Sequence[Mapping[str, Any]], guest_port: int, message: str, **spec: Any
    ) -> str:
        """Push its manifest, with these fields of `spec` beside those of all tests; returns the commit."""
        health = {"minHealthyTime": "1s", "startupDeadline": "90s", **spec.pop("health", {})}
        document = {
            "apiVersion": "reconciler/v1",
            "kind": "MicroVM",
            "metadata": {"name": "app"},
            "spec": {
                "store": {"layers": list(layers)},
                "interfaces": [
                    {"type": "user", "forward": [{"host": self.port, "guest": guest_port}]}
                ],
                "health": health,
                **spec,
            },
        }
        self.stage.repository.write("app.yaml", yaml.safe_dump(document))
        return self.stage.repository.push(message)

    def start(self) -> None:
        self.stage.seed()
        self.stage.daemon.start()

    def until(
        self, what: str, condition: Callable[[Fleet], object], deadline: float = ROLL
    ) -> Fleet:
        last: Fleet | None = None

        def look() -> Fleet | None:
            nonlocal last
            try:
                last = self.stage.daemon.fleet()
            except DaemonAway:
                last = None
            return last if last is not None and condition(last) else None

        try:
            return wait_until(look, deadline, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{in_words(last)}") from None

    def answer(self, path: str = "/") -> str:
        return request(self.port, path)[1]
