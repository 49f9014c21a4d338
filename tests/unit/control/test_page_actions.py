"""Acting on the page: nobody without the token, no foreign page, no guessing; and it has its effect."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from reconciler.control.page import sessions
from reconciler.control.page.acting import MOST_BODY
from reconciler.control.page.token import Token, read_token
from reconciler.control.serve import serve_http
from reconciler.engine.loop import Engine
from reconciler.engine.operator import Operator
from reconciler.errors import ConfigError, RequestRefused
from reconciler.model.desired import GroupSpec
from reconciler.model.names import GroupName
from reconciler.model.request import Promote, Resume, Retry, RollbackTo, Suspend
from tests.unit.control.fake_operator import FakeOperator
from tests.unit.control.pages import HOSTILE, Read, get
from tests.world import World, state, vm

KNOWN = "a token of some length"


class Page:
    """A browser that keeps cookies and says where its forms come from."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self.session = session
        self.origin = f"http://127.0.0.1:{port}"

    async def post(self, path: str, headers: dict[str, str] | None = None, /, **fields: str) -> int:
        given = {"Origin": self.origin, **(headers or {})}
        async with self.session.post(
            path, data=fields, headers=given, allow_redirects=False
        ) as answer:
            self.location = answer.headers.get("Location", "")
            self.cookie = answer.headers.get("Set-Cookie", "")
            return answer.status

    async def give(self, token: str) -> int:
        return await self.post("/login", token=token)

    async def sign_in(self) -> str:
        assert await self.give(KNOWN) == 303
        return await self.word()

    async def word(self, path: str = "/") -> str:
        """What forms of this session carry."""
        found = re.search(r'name="csrf" value="([^"]+)"', await get(self.session, path))
        assert found is not None
        return found[1]


@asynccontextmanager
async def opened(operator: Operator, token: Token | None = None) -> AsyncIterator[Page]:
    face = await serve_http(operator, bytes, "127.0.0.1", 0, token=token or Token(KNOWN))
    jar = aiohttp.CookieJar(unsafe=True)  # it keeps cookies of addresses, as browsers do
    home = f"http://127.0.0.1:{face.port}"
    async with aiohttp.ClientSession(home, cookie_jar=jar) as session:
        yield Page(session, face.port)
    await face.close()


@pytest.fixture
async def acting(operator: FakeOperator) -> AsyncIterator[Page]:
    async with opened(operator) as found:
        yield found


async def test_without_a_token_there_is_nothing_to_sign_in_to_and_nothing_to_post(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    assert "/login" not in await get(page, "/vm/web")
    await get(page, "/login", 404)
    for path in ("/login", "/act", "/logout"):
        async with page.post(path, data={"op": "retry", "vm": "web", "token": ""}) as answer:
            assert answer.status == 405
    assert operator.requests == []


async def test_nobody_acts_without_signing_in(acting: Page, operator: FakeOperator) -> None:
    assert 'href="/login"' in await get(acting.session, "/vm/web")
    assert await acting.post("/act", op="retry", vm="web") == 403
    assert await acting.post("/act", {"Cookie": f"{sessions.COOKIE}=guessed"}, op="retry") == 403
    assert await acting.give("another token of that length") == 403
    assert await acting.post("/act", op="retry", vm="web") == 403
    assert operator.requests == []


async def test_the_session_is_a_cookie_that_no_script_and_no_other_site_can_use(
    acting: Page,
) -> None:
    assert await acting.give(KNOWN) == 303
    for words in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="):
        assert words in acting.cookie
    assert KNOWN not in acting.cookie


async def test_a_form_without_the_word_of_its_session_is_refused(
    acting: Page, operator: FakeOperator
) -> None:
    word = await acting.sign_in()
    assert await acting.post("/act", op="retry", vm="web") == 403
    nearly = word[:-1] + ("y" if word.endswith("x") else "x")
    assert await acting.post("/act", op="retry", vm="web", csrf=nearly) == 403
    assert await acting.post("/logout", csrf="") == 403
    assert operator.requests == []
    assert await acting.post("/act", op="retry", vm="web", csrf=word) == 303
    assert operator.requests == [Retry("web")]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://attacker.example"}, {"Origin": "null"}, {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
    ],
)  # fmt: skip
async def test_a_form_of_another_origin_is_refused_even_with_the_word(
    acting: Page, operator: FakeOperator, headers: dict[str, str]
) -> None:
    word = await acting.sign_in()
    assert await acting.post("/act", headers, op="retry", vm="web", csrf=word) == 403
    assert await acting.post("/login", headers, token=KNOWN) == 403
    assert operator.requests == []


async def test_by_a_foreign_name_nobody_acts(acting: Page, operator: FakeOperator) -> None:
    """The name of an attacker that was made to point here: then even its Origin fits."""
    word = await acting.sign_in()
    foreign = {"Host": "attacker.example", "Origin": "http://attacker.example"}
    assert await acting.post("/act", foreign, op="retry", vm="web", csrf=word) == 421
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
async def test_each_action_is_asked_by_the_page_and_its_words_are_shown_once(
    acting: Page, operator: FakeOperator, fields: dict[str, str], request_: object, back: str
) -> None:
    word = await acting.sign_in()
    assert await acting.post("/act", csrf=word, **fields) == 303
    assert operator.requests == [request_]
    assert operator.askers == ["page"]
    assert acting.location == back
    assert "is noted" in await get(acting.session, back)
    assert "is noted" not in await get(acting.session, back)


async def test_a_refusal_is_told_with_what_to_do_and_escaped(
    acting: Page, operator: FakeOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> str:
        raise RequestRefused(HOSTILE, hint="try another")

    word = await acting.sign_in()
    monkeypatch.setattr(operator, "request", refuse)
    assert await acting.post("/act", op="retry", vm="web", csrf=word) == 303
    shown = await get(acting.session, "/vm/web")
    assert "(try another)" in Read(shown).text
    assert "<script>alert" not in shown


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
    word = await acting.sign_in()
    assert await acting.post("/act", csrf=word, **fields) == 400
    assert operator.requests == []


async def test_bodies_are_small_forms(acting: Page) -> None:
    word = await acting.sign_in()
    assert await acting.post("/act", csrf=word, op="retry", vm="x" * MOST_BODY) == 400
    assert await acting.post("/act", csrf=word, **{f"f{n}": "1" for n in range(20)}) == 400
    as_json = {"Origin": acting.origin, "Content-Type": "application/json"}
    async with acting.session.post("/act", data=b"{}", headers=as_json) as answer:
        assert answer.status == 400

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"a" * 1024

    chunked = {"Origin": acting.origin, "Content-Type": "application/x-www-form-urlencoded"}
    async with acting.session.post("/login", data=endless(), headers=chunked) as answer:
        assert answer.status == 400


async def test_guessing_and_hammering_are_slowed_for_all(
    acting: Page, operator: FakeOperator
) -> None:
    word = await acting.sign_in()
    for _ in range(sessions.MOST_FAILURES):
        assert await acting.give("wrong") == 403
    assert await acting.give(KNOWN) == 429
    for _ in range(sessions.MOST_ACTIONS):
        assert await acting.post("/act", op="resume", csrf=word) == 303
    assert await acting.post("/act", op="resume", csrf=word) == 429
    assert len(operator.requests) == sessions.MOST_ACTIONS


async def test_signing_out_ends_the_session(acting: Page) -> None:
    word = await acting.sign_in()
    kept = acting.session.cookie_jar.filter_cookies(acting.session._base_url)  # type: ignore[arg-type]  # it has one
    assert await acting.post("/logout", csrf=word) == 303
    name = kept[sessions.COOKIE].value
    old = {"Cookie": f"{sessions.COOKIE}={name}"}
    assert await acting.post("/act", old, op="resume", csrf=word) == 403


async def test_sessions_end_by_themselves_and_are_few() -> None:
    now = 0.0
    kept = sessions.Sessions(lambda: now)
    answer = web.Response()
    first = kept.begin(answer)
    asked = make_request(answer)
    assert kept.of(asked) is first
    now = sessions.LASTS
    assert kept.of(asked) is None
    for _ in range(sessions.MOST_SESSIONS + 3):
        kept.begin(web.Response())
    assert len(kept._sessions) == sessions.MOST_SESSIONS


def make_request(answer: web.Response) -> web.Request:
    cookie = answer.cookies[sessions.COOKIE].value
    found = make_mocked_request("GET", "/", headers={"Cookie": f"{sessions.COOKIE}={cookie}"})
    assert isinstance(found, web.Request)
    return found


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("short", 0o600, "16 to 512"), ("x" * 600, 0o600, "16 to 512"),
        (KNOWN, 0o644, "read by everybody"), (None, 0, "No such file"),
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
        read_token(path)


def test_a_token_file_may_end_with_a_new_line(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(KNOWN + "\n")
    path.chmod(0o640)
    assert read_token(path).matches(KNOWN)
    assert not read_token(path).matches(KNOWN + "\n")


async def test_actions_have_their_effect_in_the_world() -> None:
    """The real planner and engine over fakes, asked through the real page."""
    world = World()
    front = GroupSpec(GroupName("front"), approval="manual")
    bad = {2}
    world.hypervisor.behaviour = lambda m: "bad" if m.generation in bad else "good"
    engine = Engine(world.ports, world.policy)
    world.reconciler = engine._reconciler

    async def push(content: str) -> None:
        await world.push(state(vm("web", content, group="front"), groups=(front,)))
        await world.settle()

    async with opened(engine) as found:
        await push("v1")
        word = await found.sign_in()
        await push("v2")
        assert world.hypervisor.running() == {"web": 1}, "it waits for a person"
        assert await found.post("/act", csrf=word, op="promote", group="front") == 303
        await world.settle()
        assert world.generation("web", 2).verdict == "condemned"
        bad.clear()
        assert await found.post("/act", csrf=word, op="retry", vm="web") == 303
        await world.settle()
        assert world.hypervisor.running() == {"web": 3}
        assert await found.post("/act", csrf=word, op="rollback", vm="web", to="1") == 303
        await world.settle()
        assert world.hypervisor.running() == {"web": 1}
        assert await found.post("/act", csrf=word, op="suspend", subject="web", reason="why") == 303
        world.hypervisor.kill("web")
        await world.step()
        await world.step()
        assert world.hypervisor.running() == {}, "nothing is done while it is suspended"
        assert await found.post("/act", csrf=word, op="resume", subject="web") == 303
        await world.settle()
        assert world.hypervisor.running() == {"web": 3}
    asked = [e for e in world.ledger.history if e.message.endswith("(by page)")]
    assert [e.kind for e in asked] == ["promoted", "retried", "pinned", "suspended", "resumed"]
