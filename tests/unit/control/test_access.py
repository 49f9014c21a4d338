"""Tokens and sessions of the TCP face: what each may read, and that wrong ones slow only themselves."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given, strategies as st

from reconciler.control import access as rules
from reconciler.control.access import LASTS, Access
from reconciler.control.error_responses import UnauthorizedError
from reconciler.control.servers import HttpListener, serve_http
from reconciler.errors import ConfigError
from reconciler.secret_file import OWN_BYTES, own_secret
from tests.unit.control.fake_operator import FakeOperator
from tests.unit.control.opening import ANY_PORT, KNOWN, NOW, access, shown

PROTECTED = (
    "/", "/vm/web", "/vm/none", "/group/frontend", "/commits", "/api/status", "/events", "/metrics",
    "/v1/status", "/nowhere", "//", "/page", "/healthz/", "/login/", "/Metrics",
)  # fmt: skip


@pytest.fixture
async def tcp_face(operator: FakeOperator) -> AsyncIterator[HttpListener]:
    operator.console_path.write_text("a secret of the guest")
    opened = await serve_http(operator, lambda: b"x 1\n", ANY_PORT, access(KNOWN))
    yield opened
    await opened.close()


@pytest.fixture
async def stranger(tcp_face: HttpListener) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{tcp_face.port}") as session:
        yield session


@pytest.mark.shows(fault=31)
@pytest.mark.parametrize("accept", ["*/*", "text/html,*/*;q=0.8"])
@pytest.mark.parametrize("path", PROTECTED)
async def test_without_a_token_nothing_of_the_host_is_shown(
    stranger: aiohttp.ClientSession, path: str, accept: str
) -> None:
    async with stranger.get(path, headers={"Accept": accept}) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        text = await answer.text()
    assert not re.search("web|frontend|secret of|x 1", text)


async def test_health_and_the_sign_in_are_open_and_say_nothing_of_vms(
    stranger: aiohttp.ClientSession,
) -> None:
    for path in ("/healthz", "/readyz", "/login"):
        async with stranger.get(path) as answer:
            assert answer.status == 200
            assert "web" not in await answer.text()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Basic"])
async def test_each_token_reads_what_it_is_for(
    stranger: aiohttp.ClientSession, scheme: str
) -> None:
    def header(token: str) -> dict[str, str]:
        basic = base64.b64encode(f"anybody:{token}".encode()).decode()
        return {"Authorization": f"{scheme} {basic if scheme == 'Basic' else token}"}

    for token, reads in (
        (access().token("metrics"), {"/metrics"}),
        (access().token("read"), {"/metrics", "/", "/vm/web"}),
        (KNOWN, {"/metrics", "/", "/vm/web"}),
    ):
        for path in ("/metrics", "/", "/vm/web"):
            async with stranger.get(path, headers=header(token)) as answer:
                assert answer.status == (200 if path in reads else 403)


@pytest.mark.shows(fault=43)
@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic", "Basic x", "Basic /////w==", "Basic é", "Bearer act..", "Negotiate x",
     "Bearer read.9999999999.x.0", "Bearer " + "x" * 4000, "Bearer act.9.é"],
)  # fmt: skip
async def test_what_is_no_token_opens_nothing(stranger: aiohttp.ClientSession, header: str) -> None:
    async with stranger.get("/metrics", headers={"Authorization": header}) as answer:
        assert answer.status == 401


@pytest.mark.shows(fault=36)
async def test_wrong_tokens_never_lock_the_right_one_out(operator: FakeOperator) -> None:
    """Each wrong one waits a long time here; the right one is answered while they do."""
    face = await serve_http(operator, lambda: b"x 1\n", ANY_PORT, access(KNOWN, delay=600.0))
    origin = f"http://127.0.0.1:{face.port}"
    form = {"Origin": origin}
    async with aiohttp.ClientSession(origin) as session:
        guesses = [
            asyncio.create_task(session.post("/login", data={"token": f"guess {n}"}, headers=form))
            for n in range(rules.MOST_DELAYED)
        ]
        statuses: list[int] = []
        while len(statuses) < 10:  # once as many are waited for as may be, more are refused at once
            task = asyncio.create_task(session.get("/metrics", headers=shown("wrong")))
            done, _ = await asyncio.wait([task], timeout=0.2)
            if not done:
                guesses.append(task)
                continue
            statuses.append(task.result().status)
            task.result().close()
        assert set(statuses) == {429}
        async with session.post("/login", data={"token": KNOWN}, headers=form) as answer:
            assert answer.status == 200
        async with session.get("/metrics", headers=shown()) as answer:
            assert answer.status == 200
        for task in guesses:
            task.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)
    await face.close()


@pytest.mark.shows(fault=55)
def test_sessions_end_by_themselves_and_with_another_token_of_the_operator_or_port() -> None:
    now = NOW
    one = Access(b"k" * 32, lambda: now, KNOWN)
    session = one.begin("act")
    assert may(one, session) == "act"
    assert may(Access(b"k" * 32, lambda: now, KNOWN), session) == "act", "over a restart"
    assert may(Access(b"k" * 32, lambda: now, "another token"), session) == "wrong"
    assert may(Access(b"o" * 32, lambda: now, KNOWN), session) == "wrong"
    assert may(Access(b"k" * 32, lambda: now, KNOWN, port=9189), session) == "wrong"
    now = NOW + LASTS
    assert may(one, session) is None


def test_ended_sessions_are_remembered_and_few() -> None:
    one = access(KNOWN)
    sessions = [one.begin("read") for _ in range(rules.MOST_ENDED + 5)]
    for session in sessions:
        one.end(session)
    assert may(one, sessions[-1]) is None
    assert len(one._ended) == rules.MOST_ENDED


def may(one: Access, session: str) -> str | None:
    try:
        return one.right_of_header(f"Bearer {session}")
    except UnauthorizedError:
        return "wrong"


@given(at=st.integers(0, 100), other=st.characters(codec="ascii", categories=("L", "N")))
def test_a_session_that_was_changed_anywhere_is_none(at: int, other: str) -> None:
    one = access(KNOWN)
    session = one.begin("read")
    at %= len(session)
    changed = session[:at] + other + session[at + 1 :]
    assert may(one, changed) == ("read" if changed == session else "wrong")


def test_the_daemons_own_secret_is_made_once_and_is_for_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "http.key"
    made = own_secret(path)
    assert len(made) == OWN_BYTES
    assert path.stat().st_mode & 0o777 == 0o600
    assert own_secret(path) == made
    path.chmod(0o644)
    assert own_secret(path) != made, "others may have read it"
    path.write_bytes(b"cut short")
    assert len(own_secret(path)) == OWN_BYTES
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(ConfigError):
        own_secret(path)


def test_a_key_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        own_secret(tmp_path / "none" / "http.key")


async def test_who_may_open_the_control_socket_is_given_the_tokens(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/v1/token") as answer:
        said = await answer.json()
    assert said == {"read": access().token("read"), "metrics": access().token("metrics")}
