"""The control API on a real unix socket, with a fake operator behind it."""

import asyncio
import json
import logging
import os
import pwd
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from reconciler.control import streams
from reconciler.control.servers import ControlListener
from reconciler.errors import (
    LedgerUnwritable,
    ManifestErrors,
    Problem,
    RequestRefused,
    SourceError,
)
from reconciler.model.names import GenerationNumber, VMName
from reconciler.model.plan import Plan
from reconciler.model.request import (
    Abort,
    Adopt,
    Confirm,
    Promote,
    RestartVM,
    Resume,
    Retry,
    RollbackTo,
    Suspend,
)
from reconciler.model.status import WaitStatus
from reconciler.model.waits import Wait, WaitKind
from tests.unit.control.fake_operator import NEW, FakeOperator, busy_plan, fleet, vm


async def get(http: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with http.get(f"/v1/{path}") as answer:
        assert answer.status == status
        return await answer.json()


async def post(http: aiohttp.ClientSession, path: str, body: object, status: int = 200) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.post(f"/v1/{path}", data=raw) as answer:
        assert answer.status == status
        return await answer.json()


async def test_status_has_the_shape_that_scripts_know(http: aiohttp.ClientSession) -> None:
    answer = await get(http, "status")
    assert answer["revision"]["observed"] == answer["revision"]["applied"] == NEW
    web = next(vm for vm in answer["vms"] if vm["name"] == "web")
    assert web["generation"] == {"running": 3, "desired": 3, "last_good": 3}
    known = {"name", "group", "state", "healthy", "sync", "generation", "pid", "why"}
    assert known <= set(web)


async def test_one_vm_comes_in_the_same_shape_with_its_history(http: aiohttp.ClientSession) -> None:
    answer = await get(http, "vms/web")
    assert [vm["name"] for vm in answer["vms"]] == ["web"]
    assert [g["number"] for g in answer["history"]["generations"]] == [3, 2, 1]


async def test_why_tells_waits_and_evidence_of_what_was_condemned(
    http: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    closed = WaitStatus("window", "outside of window", until_wall=1_790_003_600.0)
    operator.fleet = fleet(vm("web", waits=(closed,)))
    answer = await get(http, "why/web")
    assert answer["vm"]["waits"] == [
        {"kind": "window", "why": "outside of window", "since_wall": None, "since_time": None,
         "until_wall": 1_790_003_600.0, "until_time": "2026-09-21T15:13:20.000Z"}
    ]  # fmt: skip
    (condemned,) = answer["condemned"]
    assert (condemned["attempts"], condemned["generation"]) == (1, 3)
    assert condemned["evidence"]["console"] == ["nginx: emerg"]


async def test_a_plan_is_answered_with_seconds_instead_of_moments(
    http: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    operator.the_plan = busy_plan()
    answer = await get(http, "plan?ref=feature/x")
    assert operator.refs == ["feature/x"]
    assert answer["changed"]
    assert answer["wake_in"] == 3.0
    assert answer["actions"][0] == {
        "kind": "build-layer", "subject": "tree ./web", "why": "web wants it", "generation": None,
    }  # fmt: skip
    assert answer["differences"]["api"][0]["effect"] == "restart"


async def test_an_idle_plan_says_that_nothing_changes(http: aiohttp.ClientSession) -> None:
    assert not (await get(http, "plan"))["changed"]


@pytest.mark.parametrize(("kind", "changed"), [("image", True), ("soak", True), ("blocked", False)])
async def test_a_wait_counts_as_a_change_unless_it_waits_for_a_person(
    http: aiohttp.ClientSession, operator: FakeOperator, kind: WaitKind, *, changed: bool
) -> None:
    operator.the_plan = Plan(waits=(Wait(kind, VMName("web"), "why"),))
    assert (await get(http, "plan"))["changed"] is changed


async def test_history_and_diff_and_version_answer(http: aiohttp.ClientSession) -> None:
    history = await get(http, "history/web")
    assert history["blocked"][0]["generation"] == 3
    assert (await get(http, "diff/web?a=1&b=2"))["changes"][0]["path"] == "spec.memory"
    assert set(await get(http, "version")) == {"api", "version"}


@pytest.mark.parametrize(
    ("body", "request_"),
    [
        ({"op": "rollback", "vm": "web", "to": 2}, RollbackTo("web", GenerationNumber(2))),
        ({"op": "rollback", "vm": "web"}, RollbackTo("web")),
        ({"op": "retry", "vm": "web"}, Retry("web")),
        ({"op": "restart", "vm": "web"}, RestartVM("web")),
        ({"op": "suspend", "reason": "night"}, Suspend(None, "night")),
        ({"op": "suspend", "subject": "web"}, Suspend("web")),
        ({"op": "suspend", "seconds": 7200}, Suspend(None, "", 7200.0)),
        ({"op": "resume", "subject": None}, Resume(None)),
        ({"op": "promote", "group": "g"}, Promote("g")),
        ({"op": "abort", "group": "g"}, Abort("g")),
        ({"op": "abort", "group": "g", "reason": "smells"}, Abort("g", "smells")),
        ({"op": "confirm", "revision": "b81e03f"}, Confirm("b81e03f")),
        ({"op": "adopt", "vm": "web"}, Adopt("web")),
    ],
)
async def test_each_request_reaches_the_operator(
    http: aiohttp.ClientSession, operator: FakeOperator, body: object, request_: object
) -> None:
    answer = await post(http, "request", body)
    assert "is noted" in answer["done"]
    assert operator.requests == [request_]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'{"op": "explode", "vm": "web"}',
        b'{"op": "retry"}',
        b'{"op": "retry", "vm": "../../etc"}',
        b'{"op": "retry", "vm": "web", "shell": "rm"}',
        b'{"op": "retry", "vm": 7}',
        b'{"op": "rollback", "vm": "web", "to": "2"}',
        b'{"op": "rollback", "vm": "web", "to": 0}',
        b'{"op": "suspend", "reason": "' + b"x" * 1001 + b'"}',
        b'{"op": "suspend", "seconds": 0}',
        b'{"op": "suspend", "seconds": -1}',
        b'{"op": "suspend", "seconds": 1e12}',
        b'{"op": "suspend", "seconds": NaN}',
        b'{"op": "suspend", "seconds": Infinity}',
        b'{"op": "suspend", "seconds": "2h"}',
        b'{"op": "suspend", "seconds": true}',
        b'{"op": "promote"}',
        b'{"op": "promote", "vm": "web"}',
        b'{"op": "promote", "group": "~web"}',
        b'{"op": "abort", "group": "../g"}',
        b'{"op": "abort", "group": "g", "reason": "' + b"x" * 1001 + b'"}',
        b'{"op": "abort", "group": "g", "reason": null}',
        b'{"op": "confirm", "revision": "b81e03"}',
        b'{"op": "confirm", "revision": "B81E03F7"}',
        b'{"op": "confirm", "revision": "b81e03f\\n"}',
        b'{"op": "confirm", "revision": "' + b"0" * 65 + b'"}',
        b'{"op": "confirm", "revision": 1234567}',
        b'{"op": "adopt", "vm": ""}',
        b'{"op": "adopt", "subject": "web"}',
        b"\xff\xfe",
        b"[" * 50_000,
    ],
)
async def test_a_malformed_request_is_refused_and_changes_nothing(
    http: aiohttp.ClientSession, operator: FakeOperator, body: bytes
) -> None:
    answer = await post(http, "request", body, status=400)
    assert answer["error"]["kind"] == "bad-request"
    assert operator.requests == []


async def test_a_huge_body_is_refused(http: aiohttp.ClientSession) -> None:
    answer = await post(http, "request", b" " * 70_000, status=413)
    assert answer["error"]["kind"] == "too-large"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("vms/nosuch", 404),
        ("why/nosuch", 404),
        ("why/..%2f..%2fetc%2fpasswd", 404),
        ("why/UPPER", 404),
        ("why/web?since=1", 400),
        ("history/nosuch", 404),
        ("logs/nosuch", 404),
        ("logs/..%2f..%2fetc%2fpasswd", 404),
        ("vms/UPPER", 404),
        ("nothing", 404),
        ("request", 405),
        ("diff/web?a=1&b=99", 409),
        ("diff/web?a=1", 400),
        ("diff/web?a=1&b=x", 400),
        ("status?verbose=1", 400),
        ("events?limit=0", 400),
        ("events?limit=1&limit=2", 400),
        ("plan?ref=--upload-pack%3Devil", 400),
        ("plan?ref=a%0Ab", 400),
        ("logs/web?lines=10001", 400),
    ],
)
async def test_a_wrong_question_gets_its_status_and_one_line(
    http: aiohttp.ClientSession, path: str, status: int
) -> None:
    answer = await get(http, path, status)
    assert set(answer["error"]) == {"kind", "message", "hint", "problems", "more"}
    assert "\n" not in answer["error"]["message"]


async def test_an_unknown_vm_is_answered_with_the_nearest_names(
    http: aiohttp.ClientSession,
) -> None:
    answer = await get(http, "vms/wen", 404)
    assert answer["error"]["hint"] == "did you mean: web"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestRefused("no", hint="yes"), 409),
        (SourceError("gone", kind="network"), 502),
        (LedgerUnwritable("disk full"), 503),
    ],
)
async def test_expected_errors_keep_their_kind_message_and_hint(
    http: aiohttp.ClientSession, operator: FakeOperator, error: Any, status: int
) -> None:
    operator.failure = error
    answer = await post(http, "request", {"op": "retry", "vm": "web"}, status)
    assert answer["error"]["kind"] == error.kind
    assert answer["error"]["message"] == str(error)
    assert answer["error"]["hint"] == error.hint


async def test_all_problems_of_a_commit_are_answered(
    http: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    operator.failure = ManifestErrors(
        [Problem("b.yaml", 2, 1, "bad"), Problem("a.yaml", 1, 1, "worse")]
    )
    answer = await post(http, "reconcile", {}, 422)
    assert answer["error"]["problems"] == ["a.yaml:1:1: worse", "b.yaml:2:1: bad"]


async def test_an_unforeseen_error_is_logged_and_told_without_its_text(
    http: aiohttp.ClientSession, operator: FakeOperator, caplog: pytest.LogCaptureFixture
) -> None:
    operator.failure = RuntimeError("secret token 1234")
    with caplog.at_level(logging.ERROR):
        answer = await get(http, "status", 500)
    assert answer["error"]["kind"] == "internal"
    assert "secret" not in json.dumps(answer)
    assert "secret token 1234" in caplog.text
    operator.failure = None
    await get(http, "status")


async def test_reconcile_passes_on_how_long_to_wait(
    http: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    assert (await post(http, "reconcile", {"wait": True, "timeout": 5}))["result"] == "converged"
    assert operator.reconciles == [(True, 5.0)]
    await post(http, "reconcile", {"timeout": 3601}, 400)


async def test_closing_ends_a_long_question_with_a_reason(
    http: aiohttp.ClientSession, operator: FakeOperator, face: ControlListener
) -> None:
    operator.hang = True
    waiting = asyncio.ensure_future(post(http, "reconcile", {"wait": True}, 503))
    await operator.asked_to_reconcile.wait()
    await face.close()
    assert (await waiting)["error"]["kind"] == "stopping"


async def test_the_newest_events_come_oldest_first(
    http: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    for index in range(1200):
        operator.happen("committed", f"event {index}")
    newest = (await get(http, "events?limit=2"))["events"]
    assert [event["sequence"] for event in newest] == [1199, 1200]
    after = (await get(http, "events?after=5&limit=2"))["events"]
    assert [event["sequence"] for event in after] == [6, 7]


async def test_followed_events_arrive_as_lines_and_end_with_the_face(
    http: aiohttp.ClientSession, operator: FakeOperator, face: ControlListener
) -> None:
    operator.happen("started", "one")
    async with http.get("/v1/events?follow=true") as stream:
        assert json.loads(await stream.content.readline())["message"] == "one"
        operator.happen("committed", "two")
        assert json.loads(await stream.content.readline())["message"] == "two"
        await face.close()
        assert await stream.content.read() == b""


async def test_a_console_is_followed_across_rotation_and_truncation(
    http: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    log = operator.console_path
    log.with_name("console.log.1").write_bytes(b"older\n")
    log.write_bytes(b"one\ntwo\n")
    async with http.get("/v1/logs/web?lines=3&follow=true") as stream:
        assert await stream.content.readexactly(14) == b"older\none\ntwo\n"
        with log.open("ab") as file:
            file.write(b"three\n")
        log.rename(log.with_name("console.log.1"))
        log.write_bytes(b"4\n")
        assert await stream.content.readexactly(8) == b"three\n4\n"


async def test_the_console_beside_is_that_of_the_other_guest(
    http: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    answer = await get(http, "logs/web?candidate=true", 404)
    assert answer["error"]["message"] == "web has no candidate, and had none"
    operator.console_path.write_bytes(b"serving\n")
    operator.console(VMName("web"), beside=True).write_bytes(b"no such page\n")
    async with http.get("/v1/logs/web?candidate=true") as found:
        assert await found.read() == b"no such page\n"
    async with http.get("/v1/logs/web") as found:
        assert await found.read() == b"serving\n"


async def test_a_console_that_is_a_link_is_not_followed(
    http: aiohttp.ClientSession, operator: FakeOperator, tmp_path: Path
) -> None:
    secret = tmp_path / "shadow"
    secret.write_text("root:hash\n")
    operator.console_path.symlink_to(secret)
    async with http.get("/v1/logs/web") as answer:
        assert await answer.read() == b""


async def test_more_streams_than_allowed_are_refused(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_FOLLOWERS", 1)
    async with http.get("/v1/logs/web?follow=true"):
        assert (await get(http, "events?follow=true", 503))["error"]["kind"] == "busy"


async def test_the_event_of_a_request_says_who_asked(
    http: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    async with http.post("/v1/request", json={"op": "resume"}) as answer:
        assert answer.status == 200
    assert operator.askers == [pwd.getpwuid(os.getuid()).pw_name]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"op": "confirm", "revision": "v1.2"}, "that is no revision"),
        ({"op": "retry", "vm": "Web"}, "that is no name of a VM or group"),
    ],
)
async def test_a_text_of_the_wrong_form_is_told_in_words_and_with_a_hint(
    http: aiohttp.ClientSession, body: dict[str, str], words: str
) -> None:
    async with http.post("/v1/request", json=body) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["message"]) == (400, words)
    assert "reconciler status" in error["hint"]
