"""What every kind of sink does with the messages that it is given, whatever it is made of."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from reconciler.config import SINKS, SinkConfig
from reconciler.errors import DeliveryError
from reconciler.notify.delivery import is_passing
from reconciler.notify.message import Message
from reconciler.notify.registry import open_sink
from tests.contract.stubs import SINK_KINDS, FileConfig
from tests.fakes.clock import FakeClock
from tests.unit.notify.receivers import MailServer, http_receiver
from tests.unit.notify.stories import WALL, sink
from tests.unit.probe.servers import a_free_port

FIRST = Message("1" * 32, 1, "firing", "update", "error", "web: condemned", WALL, "host", vm="web")
SECOND = replace(FIRST, id="2" * 32, sequence=2, summary="web: quarantined")
ID = re.compile(r"[12]{32}")
HTTP = ("webhook", "slack", "alertmanager")


@dataclass
class Receiver:
    """A sink's entry of the config, and the place where its messages go."""

    config: SinkConfig
    taken: Callable[[], list[str]]
    """Ids of messages, as they came."""
    refuse: Callable[[], object]
    """From now on it wants none like these."""


@contextlib.asynccontextmanager
async def http(kind: str, folder: Path) -> AsyncIterator[Receiver]:
    async with http_receiver() as receiver:
        yield Receiver(
            entry(kind, folder, receiver.url),
            lambda: [post.headers["Idempotency-Key"] for post in receiver.posts],
            lambda: receiver.answers.append(web.Response(status=400)),
        )


@contextlib.asynccontextmanager
async def mail(_: str, folder: Path) -> AsyncIterator[Receiver]:
    server = MailServer()
    async with server.serving() as port:
        yield Receiver(
            entry("email", folder, port),
            lambda: [found[0] for one in server.letters if (found := ID.search(one))],
            lambda: server.refuses.update(DATA="554 spam"),
        )


@contextlib.asynccontextmanager
async def file(_: str, folder: Path) -> AsyncIterator[Receiver]:
    path = folder / "messages"
    path.touch()
    yield Receiver(
        entry("file", folder, path),
        lambda: [json.loads(line)["id"] for line in path.read_text().splitlines()],
        (folder / "full").touch,
    )


def entry(kind: str, folder: Path, place: Any) -> Any:
    (folder / "secret").write_text("hush\n" if kind == "webhook" else f"{place}\n")
    secret = str(folder / "secret")
    match kind:
        case "webhook":
            return sink(type=kind, url=place, secret_file=secret)
        case "slack":
            return sink(type=kind, url_file=secret)
        case "alertmanager":
            return sink(type=kind, url=place)
        case "email":
            keys = {"server": "127.0.0.1", "sender": "vm@example.org", "to": ["ops@example.org"]}
            return sink(type=kind, port=place, tls="none", **keys)
        case _:
            return FileConfig(name="ops", type="file", path=str(place))


RECEIVERS = {**dict.fromkeys(HTTP, http), "email": mail, "file": file}
NOWHERE: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys(HTTP, lambda _: f"http://127.0.0.1:{a_free_port()}/x"),
    "email": lambda _: a_free_port(),
    "file": lambda folder: folder / "missing/messages",
}


@pytest.fixture(params=RECEIVERS)
async def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Receiver]:
    async with RECEIVERS[request.param](request.param, tmp_path) as receiver:
        yield receiver


@contextlib.asynccontextmanager
async def opened(config: SinkConfig) -> AsyncIterator[Callable[[Message], Any]]:
    found = open_sink(config, FakeClock(wall=WALL), SINK_KINDS)
    try:
        yield found.send
    finally:
        await found.close()


def test_every_kind_that_the_config_knows_is_held_to_this() -> None:
    assert set(RECEIVERS) == {*SINKS, "file"}


async def test_messages_arrive_in_their_order_under_their_ids(receiver: Receiver) -> None:
    async with opened(receiver.config) as send:
        await send(FIRST)
        await send(SECOND)
    assert receiver.taken() == [FIRST.id, SECOND.id]


async def test_a_message_that_is_sent_again_has_the_same_id(receiver: Receiver) -> None:
    for _ in "ab":
        async with opened(receiver.config) as send:
            await send(FIRST)
    assert receiver.taken() == [FIRST.id, FIRST.id]


async def test_a_refusal_for_good_is_told_apart(receiver: Receiver) -> None:
    receiver.refuse()
    async with opened(receiver.config) as send:
        with pytest.raises(DeliveryError) as caught:
            await send(FIRST)
    assert not is_passing(caught.value)


@pytest.mark.parametrize("kind", RECEIVERS)
async def test_a_receiver_that_is_away_may_come_back(kind: str, tmp_path: Path) -> None:
    async with opened(entry(kind, tmp_path, NOWHERE[kind](tmp_path))) as send:
        with pytest.raises(DeliveryError) as caught:
            await send(FIRST)
    assert is_passing(caught.value)
