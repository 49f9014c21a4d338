"""Acting on the page: nobody without the token, no foreign page, no guessing; and it has its effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from reconciler.control.page.acting import MOST_ACTIONS
from reconciler.control.page.forms import MOST_BODY
from reconciler.control.servers import serve_http
from reconciler.engine.api import EngineAPI
from reconciler.engine.loop import Engine
from reconciler.errors import ConfigError, RequestRefused
from reconciler.model.desired import GroupSpec
from reconciler.model.names import GroupName
from reconciler.model.request import Promote, Resume, Retry, RollbackTo, Suspend
from reconciler.secret_file import read_secret
from tests.unit.control.fake_operator import FakeOperator
from tests.unit.control.opening import ANY_PORT, KNOWN, access, shown
from tests.unit.control.pages import HOSTILE, get, next_change
from tests.world import World, state, vm


class Page:
    """A page's script: it keeps the session, sends it in a header, and its browser says the origin."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self.session = session
        self.origin = f"http://127.0.0.1:{port}"
        self.said: dict[str, Any] = {}

    async def post(self, path: str, headers: dict[str, str] | None = None, /, **fields: str) -> int:
        given = {"Origin": self.origin, **(headers or {})}
        async with self.session.post(path, data=fields, headers=given) as answer:
            assert "Set-Cookie" not in answer.headers
            self.said = await answer.json()
            return answer.status

    async def give(self, token: str) -> int:
        return await self.post("/login", token=token)

    async def sign_in(self) -> None:
        assert await self.give(KNOWN) == 200
        self.session.headers["Authorization"] = f"Bearer {self.said['session']}"


@asynccontextmanager
async def opened(operator: EngineAPI) -> AsyncIterator[Page]:
    face = await serve_http(operator, bytes, ANY_PORT, access(KNOWN))
    home = f"http://127.0.0.1:{face.port}"
    async with aiohttp.ClientSession(home) as session:
        yield Page(session, face.port)
    await face.close()


@pytest.fixture
async def acting(operator: FakeOperator) -> AsyncIterator[Page]:
    async with opened(operator) as found:
        yield found


async def test_without_a_token_of_the_operator_there_is_nothing_to_act_by(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    assert "/act" not in await get(page, "/vm/web")
    async with page.post("/act", data={"op": "retry", "vm": "web"}) as answer:
        assert answer.status == 405
    assert operator.requests == []


async def test_nobody_acts_without_signing_in(acting: Page, operator: FakeOperator) -> None:
    assert await acting.post("/act", op="retry", vm="web") == 401
    for wrong in ("guessed", "act.9999999999.x.y", "", access().begin("act"), "act.9999999999.x."):
        assert await acting.post("/act", shown(wrong), op="retry", vm="web") == 401
    assert await acting.give("another token of that length") == 403
    assert await acting.post("/act", op="retry", vm="web") == 401
    assert operator.requests == []


async def test_who_may_read_does_not_act(acting: Page, operator: FakeOperator) -> None:
    assert await acting.give(access().token("read")) == 200
    for only_reads in (acting.said["session"], access().token("read"), access().token("metrics")):
        assert await acting.post("/act", shown(only_reads), op="retry", vm="web") == 403
    acting.session.headers.update(shown())
    assert "/act" not in await get(acting.session, "/vm/web")
    assert operator.requests == []


@pytest.mark.shows(fault=34)
async def test_no_cookie_means_anything(acting: Page, operator: FakeOperator) -> None:
    """Browsers send them to every port of a host, so also to a guest's page."""
    await acting.sign_in()
    session = acting.said["session"]
    del acting.session.headers["Authorization"]
    replayed = {"Cookie": f"reconciler-session={session}; session={session}; token={KNOWN}"}
    assert await acting.post("/act", replayed, op="retry", vm="web") == 401
    for path in ("/", "/vm/web", "/events", "/metrics", "/api/status"):
        async with acting.session.get(path, headers=replayed) as answer:
            assert answer.status == 401
            assert "web" not in await answer.text()
    assert operator.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://attacker.example"}, {"Origin": "null"}, {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
    ],
)  # fmt: skip
async def test_a_form_of_another_origin_is_refused_even_with_the_session(
    acting: Page, operator: FakeOperator, headers: dict[str, str]
) -> None:
    await acting.sign_in()
    assert await acting.post("/act", headers, op="retry", vm="web") == 403
    assert await acting.post("/login", headers, token=KNOWN) == 403
    assert operator.requests == []


async def test_by_a_foreign_name_nobody_acts(acting: Page, operator: FakeOperator) -> None:
    """The name of an attacker that was made to point here: then even its Origin fits."""
    await acting.sign_in()
    foreign = {"Host": "attacker.example", "Origin": "http://attacker.example"}
    assert await acting.post("/act", foreign, op="retry", vm="web") == 421
    assert operator.requests == []


@pytest.mark.parametrize(
    ("fields", "request_", "back"),
    [
        ({"op": "retry", "vm": "web"}, Retry("web"), "/vm/web"),
        ({"op": "rollback", "vm": "web", "to": "2"}, RollbackTo("web", 2), "/vm/web"),  # type: ignore[arg-type]  # a number is a number
        ({"op": "promote", "group": "frontend"}, Promote("frontend"), "/group/frontend"),
        ({"op": "suspend", "subject": "web", "reason": "disk"}, Suspend("web", "disk"), "/vm/web"),
        ({"op": "suspend"}, Suspend(), "/"),
        ({"op": "resume", "subject": "frontend"}, Resume("frontend"), "/group/frontend"),
        ({"op": "suspend", "subject": "vm/web"}, Suspend("vm/web"), "/vm/web"),
        (
            {"op": "resume", "subject": "group/frontend"},
            Resume("group/frontend"),
            "/group/frontend",
        ),
    ],
)
async def test_each_action_is_asked_by_the_page_and_its_words_come_back(
    acting: Page, operator: FakeOperator, fields: dict[str, str], request_: object, back: str
) -> None:
    await acting.sign_in()
    assert await acting.post("/act", **fields) == 200
    assert operator.requests == [request_]
    assert operator.askers == ["page"]
    assert acting.said["back"] == back
    assert acting.said["done"] is True
    assert "is noted" in acting.said["message"]


async def test_a_refusal_is_told_with_what_to_do_and_escaped(
    acting: Page, operator: FakeOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> str:
        raise RequestRefused(HOSTILE, hint="try another")

    await acting.sign_in()
    monkeypatch.setattr(operator, "request", refuse)
    assert await acting.post("/act", op="retry", vm="web") == 200
    assert acting.said["done"] is False
    assert acting.said["message"] == f"{HOSTILE} (try another)", "the script shows it as text"


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "confirm", "revision": "abcdef0"}, {"op": "adopt", "vm": "web"}, {"op": "restart", "vm": "web"},
        {"op": "retry", "vm": "../x"}, {"op": "retry", "vm": "web", "more": "1"}, {},
        {"op": "rollback", "vm": "web", "to": "x"}, {"op": "suspend", "reason": "x" * 1001},
    ],
)  # fmt: skip
async def test_what_the_page_does_not_offer_is_refused(
    acting: Page, operator: FakeOperator, fields: dict[str, str]
) -> None:
    await acting.sign_in()
    assert await acting.post("/act", **fields) == 400
    assert operator.requests == []


async def test_bodies_are_small_forms(acting: Page) -> None:
    await acting.sign_in()
    assert await acting.post("/act", op="retry", vm="x" * MOST_BODY) == 400
    assert await acting.post("/act", **{f"f{n}": "1" for n in range(20)}) == 400
    as_json = {"Origin": acting.origin, "Content-Type": "application/json"}
    async with acting.session.post("/act", data=b"{}", headers=as_json) as answer:
        assert answer.status == 400

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"a" * 1024

    chunked = {"Origin": acting.origin, "Content-Type": "application/x-www-form-urlencoded"}
    async with acting.session.post("/login", data=endless(), headers=chunked) as answer:
        assert answer.status == 400


async def test_actions_of_all_sessions_are_so_many_a_minute(
    acting: Page, operator: FakeOperator
) -> None:
    await acting.sign_in()
    for _ in range(MOST_ACTIONS):
        assert await acting.post("/act", op="resume") == 200
    assert await acting.post("/act", op="resume") == 429
    assert len(operator.requests) == MOST_ACTIONS


async def test_signing_out_ends_the_session_and_its_streams(acting: Page) -> None:
    await acting.sign_in()
    async with acting.session.get("/events?view=fleet&seen=old") as stream:
        await next_change(stream)
        assert await acting.post("/logout") == 200
        assert await acting.post("/act", op="resume") == 401
        async with asyncio.timeout(10):
            await stream.read()


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("short", 0o600, "16 to 512"), ("x" * 600, 0o600, "16 to 512"),
        (KNOWN, 0o644, "read by everyone"), (None, 0, "No such file"),
    ],
)  # fmt: skip
def test_a_bad_token_file_is_a_config_error(
    tmp_path: Path, text: str | None, mode: int, why: str
) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(ConfigError, match=why):
        read_secret("http.token_file", path, private=True)


def test_a_token_file_may_end_with_a_new_line(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(KNOWN + "\n")
    path.chmod(0o640)
    assert read_secret("http.token_file", path, private=True) == KNOWN


async def test_actions_have_their_effect_in_the_world() -> None:
    """The real planner and engine over fakes, asked through the real page."""
    world = World()
    front = GroupSpec(GroupName("front"), approval="manual")
    bad = {2}
    world.hypervisor.behaviour = lambda m: "bad" if m.generation in bad else "good"
    engine = Engine(world.adapters, world.policy)
    world.reconciler = engine._reconciler

    async def push(content: str) -> None:
        await world.push(state(vm("web", content, group="front"), groups=(front,)))
        await world.settle()

    async with opened(engine) as found:
        await push("v1")
        await found.sign_in()
        await push("v2")
        assert world.hypervisor.running() == {"web": 1}, "it waits for a person"
        assert await found.post("/act", op="promote", group="front") == 200
        await world.settle()
        assert world.generation("web", 2).verdict == "condemned"
        bad.clear()
        assert await found.post("/act", op="retry", vm="web") == 200
        await world.settle()
        assert world.hypervisor.running() == {"web": 3}
        assert await found.post("/act", op="rollback", vm="web", to="1") == 200
        await world.settle()
        assert world.hypervisor.running() == {"web": 1}
        assert await found.post("/act", op="suspend", subject="web", reason="why") == 200
        world.hypervisor.kill("web")
        await world.step()
        await world.step()
        assert world.hypervisor.running() == {}, "nothing is done while it is suspended"
        assert await found.post("/act", op="resume", subject="web") == 200
        await world.settle()
        assert world.hypervisor.running() == {"web": 3}
    asked = [e for e in world.ledger.history if e.message.endswith("(by page)")]
    assert [e.kind for e in asked] == ["promoted", "retried", "pinned", "suspended", "resumed"]


async def test_who_may_act_sees_a_form_for_each_action_of_what_is_shown(acting: Page) -> None:
    await acting.sign_in()
    vm_page = await get(acting.session, "/vm/web")
    assert '<input type="hidden" name="op" value="rollback">' in vm_page
    assert '<select name="to">' in vm_page
    assert '<option value="1">generation 1</option>' in vm_page
    assert '<input name="reason" maxlength="200">' in vm_page
    group = await get(acting.session, "/group/frontend")
    assert '<input type="hidden" name="subject" value="group/frontend">' in group
