"""The webhook: who knows the secret may ask for a look at the source, and nobody can do more."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import aiohttp
import pytest

from reconciler.control.servers import serve_http
from reconciler.control.webhook import MOST_BODY, SERVERS, STATUS, UNKNOWN, Webhook
from reconciler.metrics.label_sets import GIT_SERVERS, NO_WEBHOOK, WEBHOOK_RESULTS
from tests.eventually import eventually
from tests.unit.control.fake_operator import FakeOperator
from tests.unit.control.opening import ANY_PORT, access, shown

SECRET = b"a secret of sixteen bytes, and more"
BODY = b'{"ref": "refs/heads/main"}'


@dataclass
class Hooked:
    """A daemon's TCP face, what its webhook asked for, and what it counted."""

    http: aiohttp.ClientSession
    port: int
    looks: list[float] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def post(self, headers: Mapping[str, str], body: bytes = BODY) -> tuple[int, str]:
        async with self.http.post("/webhook", data=body, headers=headers) as answer:
            return answer.status, (await answer.json())["result"]


@pytest.fixture
async def hooked(operator: FakeOperator) -> AsyncIterator[Hooked]:
    found: list[Hooked] = []

    def look() -> None:
        found[0].looks.append(asyncio.get_running_loop().time())

    def count(server: str, result: str) -> None:
        found[0].counts[server, result] += 1

    hook = Webhook(SECRET, look, count, seconds=0.5)
    face = await serve_http(operator, bytes, ANY_PORT, access(), webhook=hook)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{face.port}") as http:
        found.append(Hooked(http, face.port))
        yield found[0]
    await face.close()


def signed(body: bytes = BODY, secret: bytes = SECRET) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def github(body: bytes = BODY, event: str = "push", secret: bytes = SECRET) -> dict[str, str]:
    return {"X-GitHub-Event": event, "X-Hub-Signature-256": f"sha256={signed(body, secret)}"}


PUSHES = {
    "github": github(),
    "gitea": {"X-Gitea-Event": "push", "X-Gitea-Signature": signed(), **github(secret=b"other")},
    "gitlab": {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": SECRET.decode()},
    "bitbucket": {"X-Event-Key": "repo:push", "X-Hub-Signature": f"sha256={signed()}"},
}


@pytest.mark.parametrize("server", PUSHES)
async def test_a_push_that_any_git_server_tells_of_is_looked_at_at_once(
    hooked: Hooked, server: str
) -> None:
    assert await hooked.post(PUSHES[server]) == (202, "accepted")
    assert len(hooked.looks) == 1
    assert hooked.counts == {(server, "accepted"): 1}


@pytest.mark.shows(row=53)
@pytest.mark.parametrize("server", PUSHES)
async def test_who_does_not_know_the_secret_is_not_heard(hooked: Hooked, server: str) -> None:
    proofs = {s.name: s.proof for s in SERVERS}
    without = {name: value for name, value in PUSHES[server].items() if name != proofs[server]}
    for proof in ("", "sha256=", signed(secret=b"another"), "\u00fc\u00df", "x" * 4000):
        assert await hooked.post({**without, proofs[server]: proof}) == (401, "bad_signature")
    assert await hooked.post(without) == (401, "bad_signature")
    assert hooked.looks == []


async def test_a_body_that_was_changed_is_not_what_was_signed(hooked: Hooked) -> None:
    assert await hooked.post(github(), BODY + b" ") == (401, "bad_signature")


@pytest.mark.shows(row=53)
@pytest.mark.parametrize("body", [b"", b"null", b"[[[[", b"\x00\xff", b'{"commits": null}'])
async def test_what_a_body_says_is_nobodys_business(hooked: Hooked, body: bytes) -> None:
    assert await hooked.post(github(body), body) == (202, "accepted")


async def test_other_events_are_answered_and_ignored(hooked: Hooked) -> None:
    assert await hooked.post(github(event="ping")) == (200, "ignored")
    assert await hooked.post({"Content-Type": "application/json"}) == (400, "malformed")
    assert hooked.looks == []
    assert hooked.counts == {("github", "ignored"): 1, ("unknown", "malformed"): 1}


@pytest.mark.shows(row=53)
async def test_a_body_that_is_too_large_is_refused_before_it_came(hooked: Hooked) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hooked.port)
    head = [f"{name}: {value}" for name, value in github().items()]
    lines = ["POST /webhook HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {2**30}", *head, "", ""]
    writer.write("\r\n".join(lines).encode())
    assert b" 413 " in await reader.readline()
    writer.close()


async def test_a_body_of_unknown_size_is_refused_when_it_grows_too_large(hooked: Hooked) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MOST_BODY // 65536 + 2):
            yield b"x" * 65536

    async with hooked.http.post("/webhook", data=endless(), headers=github()) as answer:
        assert answer.status == 413
    assert hooked.looks == []


@pytest.mark.shows(row=53)
async def test_a_body_that_never_ends_is_not_waited_for(hooked: Hooked) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hooked.port)
    head = [f"{name}: {value}" for name, value in github().items()]
    lines = ["POST /webhook HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 100", *head, "", "{"]
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(10):
        assert b" 400 " in await reader.readline()
        await reader.read()
        assert reader.at_eof(), "the connection is closed"
    writer.close()
    assert hooked.counts == {("github", "malformed"): 1}


@pytest.mark.shows(row=52)
async def test_row_52_a_flood_of_pushes_and_of_replays_is_two_looks(hooked: Hooked) -> None:
    results = [(await hooked.post(github()))[1] for _ in range(50)]
    assert results == ["accepted"] + ["rate_limited"] * 49
    await eventually(lambda: len(hooked.looks) == 2, 5)
    assert hooked.looks[1] - hooked.looks[0] > 0.9


async def test_without_a_secret_there_is_no_webhook(operator: FakeOperator) -> None:
    face = await serve_http(operator, bytes, ANY_PORT, access())
    async with aiohttp.ClientSession(f"http://127.0.0.1:{face.port}", headers=shown()) as http:
        async with http.post("/webhook", data=BODY, headers=github()) as answer:
            assert answer.status == 405
        async with http.get("/webhook") as answer:
            assert answer.status == 404
    await face.close()


async def test_the_webhook_can_only_be_posted_to(hooked: Hooked) -> None:
    for method in ("GET", "PUT", "DELETE"):
        async with hooked.http.request(method, "/webhook") as answer:
            assert answer.status == 405


def test_every_server_and_result_has_its_series() -> None:
    assert set(GIT_SERVERS) == {s.name for s in SERVERS}
    assert NO_WEBHOOK == (UNKNOWN, "malformed"), "nothing else is said of a stranger's request"
    assert set(WEBHOOK_RESULTS) == set(STATUS)


async def test_a_body_that_is_not_what_its_headers_say_is_malformed(hooked: Hooked) -> None:
    headers = {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": SECRET.decode()}
    status, result = await hooked.post({**headers, "Content-Encoding": "gzip"}, b"no gzip at all")
    assert (status, result) == (400, "malformed")
    assert not hooked.looks


async def test_what_is_left_of_a_body_after_the_answer_brings_no_traceback(
    hooked: Hooked, caplog: pytest.LogCaptureFixture
) -> None:
    body = b"no gzip at all"
    head = (
        f"POST /webhook HTTP/1.1\r\nHost: 127.0.0.1:{hooked.port}\r\nContent-Encoding: gzip\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", hooked.port)
    writer.write(head.encode())
    answered = await reader.readuntil(b"\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 4"), "before the body came"
    writer.write(body)
    await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert [record.message for record in caplog.records if record.exc_info] == []
