"""The web page: the truth, escaped, under a strict policy, and kept up to date."""

import asyncio
import json
import re
import socket
from dataclasses import replace

import aiohttp
import pytest

from reconciler.config import HttpConfig
from reconciler.control.page.fleet import fleet_page
from reconciler.control.page.frame import changes
from reconciler.control.servers import HttpListener, serve_http
from reconciler.model.names import GroupName
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import (
    GroupStatus,
    HostStatus,
    RevisionStatus,
    SourceStatus,
    WaitStatus,
)
from reconciler.safe_text import clean
from tests.unit.control.fake_operator import NEW, OLD, FakeOperator, fleet, vm
from tests.unit.control.opening import ANY_PORT, access, shown
from tests.unit.control.pages import ALLOWED_TAGS, HOSTILE, Read, events_of, get, next_change


async def test_the_fleet_is_shown_by_group_with_what_each_vm_waits_for(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    operator.fleet = fleet(
        vm("db", group=GroupName("")),
        vm("web", state="starting", healthy=False, sync="out-of-sync", why="waits for db"),
        groups=(GroupStatus(GroupName("frontend"), "held", 1, 1, 1, 1, "web failed: it ended"),),
        revision=RevisionStatus(NEW, OLD, "c" * 40, ("web.yaml:1:1: bad",)),
        sources=(SourceStatus("main", "file:///fleet", None, 3, "connection refused"),),
        alerts=("ledger: disk full",),
        suspended=True,
    )
    operator.happen("rolled-back", "web: back on generation 2")
    shown = Read(await get(page, "/"))
    for words in (
        "1/2 healthy", "frontend", "held", "On hold: web failed: it ended", "waits for db",
        "out-of-sync", "Without a group", "web.yaml:1:1: bad", "connection refused",
        OLD[:10], "ledger: disk full", "This host is suspended", "web: back on generation 2", NEW[:10],
    ):  # fmt: skip
        assert words in shown.text, words
    links = [attributes.get("href") for tag, attributes in shown.tags if tag == "a"]
    assert {"/vm/db", "/vm/web"} <= set(links)


async def test_a_vm_is_shown_with_verdicts_evidence_changes_its_checks_and_its_console(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    operator.console_path.write_bytes(b"\x1b[32mbooting\x1b[0m\r\nold\rready\r\n")
    waits = (WaitStatus("soak", "healthy for 2 s of 5 s", None, 1_790_000_060.0),)
    operator.fleet = fleet(vm("web", waits=waits))
    shown = Read(await get(page, "/vm/web"))
    for words in (
        "condemned", "committed", "its checks failed 3 times in a row", "Evidence: probe-failed",
        "nginx: emerg", "GET :8080/healthz -> 200", "spec.memory", "256MiB", "512MiB",
        "1 change since generation 2", "nginx 1 -> 2", "healthy for 2 s of 5 s", "booting\nready", "2 by rollout",
    ):  # fmt: skip
        assert words in shown.text, words


async def test_nothing_that_others_wrote_becomes_markup(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    operator.console_path.write_bytes(HOSTILE.encode())
    operator.fleet = HostStatus(
        RevisionStatus(HOSTILE, OLD, HOSTILE, (HOSTILE,)),
        (vm("web", why=HOSTILE, probe=HOSTILE, waits=(WaitStatus("x", HOSTILE),), restarts=((HOSTILE, 1),)),),
        (GroupStatus(GroupName("frontend"), "held", 1, 1, 1, 1, HOSTILE),),
        suspended=False,
        sources=(SourceStatus(HOSTILE, HOSTILE, 0.0, 1, HOSTILE),),
        alerts=(HOSTILE,),
    )  # fmt: skip
    operator.happen("odd", HOSTILE)
    operator.history = (
        CommitSummary(NEW, (OLD,), HOSTILE, 1.0),
        CommitSummary(OLD, (), HOSTILE, 0.0),
    )
    there = (
        "/",
        "/?q=%22%3E%3Cscript%3E",
        "/vm/web",
        "/vm/web?a=1&b=2",
        "/group/frontend",
        "/commits",
    )
    pages = [await get(page, path) for path in there]
    pages += [await get(page, f"/{kind}/%22%3E%3Cscript%3E", 404) for kind in ("vm", "group")]
    for text in pages:
        shown = Read(text)
        assert {tag for tag, _ in shown.tags} <= ALLOWED_TAGS
        scripts = [attributes for tag, attributes in shown.tags if tag == "script"]
        assert [set(one) for one in scripts] == [{"src", "defer"}]
        names = {name for _, attributes in shown.tags for name in attributes}
        assert not {name for name in names if name.startswith("on") or name == "style"}
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_invisible_characters_are_shown_and_terminal_sequences_go() -> None:
    assert clean("a\x1b[1mb\x1b[0m\u202ec\x00") == "ab\\u202ec\\x00"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/vm/web",
        "/vm/no",
        "/group/frontend",
        "/commits",
        "/api/status",
        "/metrics",
        "/nowhere",
    ],
)
async def test_every_answer_has_the_strict_policy(page: aiohttp.ClientSession, path: str) -> None:
    async with page.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


async def test_all_assets_are_shipped_and_may_be_kept_for_ever(page: aiohttp.ClientSession) -> None:
    text = await get(page, "/")
    addresses = re.findall(r'(?:src|href)="(/page/[^"]+)"', text)
    assert len(addresses) == 3
    asked = re.findall(r'(?:src|href|action)="([^"]+)"', text)
    assert not [address for address in asked if "//" in address], "nothing comes from elsewhere"
    for address in addresses:
        async with page.get(address) as answer:
            assert answer.status == 200
            assert "immutable" in answer.headers["Cache-Control"]
    await get(page, "/page/x/../../serve.py", 404)


@pytest.mark.shows(fault=35)
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("127.0.0.1:9188", 200), ("[::1]:9188", 200), ("10.0.0.7", 200),
        (socket.gethostname(), 200), (socket.gethostname().upper() + ":80", 200),
        ("fleet.example.org", 200), ("Fleet.Example.ORG:9188", 200), ("", 421), ("localhost.", 421),
        ("attacker.example", 421), ("attacker.example:9188", 421), ("127.0.0.1.attacker.example", 421),
        (f"{socket.gethostname()}.attacker.example", 421), ("localhost.attacker.example", 421),
        ("localhost@attacker.example", 421), ("fleet.example.org.attacker.example", 421),
        ("[::1", 421), ("localhost:80:90", 421), ("localhost, attacker.example", 421),
    ],
)  # fmt: skip
async def test_only_exact_names_of_this_host_are_answered_on_every_route(
    operator: FakeOperator, host: str, status: int
) -> None:
    named = HttpConfig(port=0, names=["Fleet.example.org"])
    face = await serve_http(operator, lambda: b"x 1\n", named, access())
    home = f"http://127.0.0.1:{face.port}"
    async with aiohttp.ClientSession(home, headers=shown()) as session:
        for path in (
            "/",
            "/vm/web",
            "/commits",
            "/api/status",
            "/metrics",
            "/healthz",
            "/readyz",
            "/login",
        ):
            async with session.get(path, headers={"Host": host}) as answer:
                assert answer.status == status, path
        async with session.post("/login", headers={"Host": host}) as answer:
            assert answer.status == (421 if status == 421 else 403)
    await face.close()


@pytest.mark.shows(fault=35)
async def test_who_names_no_host_is_no_browser_and_is_answered(page: aiohttp.ClientSession) -> None:
    """As probes of load balancers; and two names are one too many."""
    assert page._base_url is not None
    for hosts, status in ((b"", b"200"), (b"Host: localhost\r\nHost: attacker.example\r\n", b"4")):
        reader, writer = await asyncio.open_connection("127.0.0.1", page._base_url.port)
        writer.write(b"GET /healthz HTTP/1.0\r\n" + hosts + b"\r\n")
        async with asyncio.timeout(10):
            assert (await reader.readline()).split()[1].startswith(status)
        writer.close()


async def test_the_status_is_the_same_json_as_on_the_socket(
    page: aiohttp.ClientSession, http: aiohttp.ClientSession
) -> None:
    async with http.get("/v1/status") as answer:
        assert json.loads(await get(page, "/api/status")) == await answer.json()


@pytest.mark.shows(fault=131)
async def test_a_search_shows_only_what_it_names(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    operator.fleet = fleet(vm("db"), vm("web", healthy=False), vm("web-b"))
    assert set(re.findall(r'id="vm-([\w-]+)"', await get(page, "/?q=web"))) == {"web", "web-b"}
    assert set(re.findall(r'id="vm-([\w-]+)"', await get(page, "/?q=unhealthy"))) == {"web"}
    assert "No VM to show." in await get(page, "/?q=nothing")
    operator.fleet = fleet(revision=RevisionStatus(None, None))
    assert "No revision was read yet, so no VM is known." in await get(page, "/")


async def test_only_what_changed_is_sent(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    address = events_of(await get(page, "/"))
    async with page.get(address) as answer:
        assert answer.content_type == "text/event-stream"
        before = operator.fleet.vms
        operator.fleet = replace(operator.fleet, vms=(before[0], replace(before[1], why="waits")))
        operator.happen("odd", "something happened")
        changed = await next_change(answer)
        assert set(changed) == {"vm-web", "events"}
        assert "waits" in changed["vm-web"]
        assert "something happened" in changed["events"]
        operator.fleet = replace(operator.fleet, vms=before[:1])
        assert set(await next_change(answer)) == {"main", "title"}, "a VM less: all of it"


async def test_a_page_that_is_behind_gets_all_of_it_at_once(page: aiohttp.ClientSession) -> None:
    async with page.get("/events?view=fleet&seen=old") as answer:
        assert set(await next_change(answer)) == {"main", "title"}


async def test_a_vms_page_follows_its_console_and_says_when_the_vm_is_gone(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    operator.console_path.write_text("booting\n")
    address = events_of(await get(page, "/vm/web"))
    async with page.get(address) as answer:
        operator.console_path.write_text("booting\nready\n")
        assert "ready" in (await next_change(answer))["console"]
        operator.fleet = fleet(vm("db"))
        assert "No VM is called web" in (await next_change(answer))["main"]


async def test_somebody_who_looks_does_not_delay_the_daemons_end(operator: FakeOperator) -> None:
    face: HttpListener = await serve_http(operator, bytes, ANY_PORT, access())
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{face.port}", headers=shown()) as session,
        session.get("/events?view=fleet&seen=old") as answer,
    ):
        await next_change(answer)
        async with asyncio.timeout(1.5):
            await face.close()
            await answer.content.read()


def test_equal_pages_have_no_changes_and_a_thousand_vms_cost_one_row() -> None:
    whole = fleet(*(vm(f"vm-{number}") for number in range(1000)))
    page, again = fleet_page(whole, ()), fleet_page(whole, ())
    assert changes(page, again) == {}
    one = (replace(whole.vms[0], why="odd"), *whole.vms[1:])
    assert set(changes(page, fleet_page(replace(whole, vms=one), ()))) == {"vm-vm-0"}
