"""Commands against a real socket: exit codes, JSON, words, and errors of two lines."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.engine.api import ReconcileReport
from reconciler.errors import ManifestErrors, Problem, RequestRefused, SourceError
from reconciler.model.names import GenerationNumber, VMName
from reconciler.model.request import (
    Abort,
    Adopt,
    Confirm,
    Promote,
    Remove,
    RestartVM,
    Resume,
    Retry,
    RollbackTo,
    Suspend,
)
from reconciler.model.status import RevisionStatus, SourceStatus, WaitStatus
from tests.unit.cli.conftest import Run
from tests.unit.control.fake_operator import NEW, OLD, WALL, FakeOperator, busy_plan, fleet, vm
from tests.unit.control.opening import access

pytestmark = pytest.mark.usefixtures("socket")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"healthy": False, "state": "starting"}, 3),
        ({"sync": "blocked"}, 6),
        ({"sync": "blocked", "healthy": False}, 3),
        ({"sync": "suspended"}, 0),
    ],
)
async def test_status_exits_by_what_needs_a_person(
    run: Run, operator: FakeOperator, changes: dict[str, Any], code: int
) -> None:
    operator.fleet = fleet(vm("db"), vm("web", **changes))
    assert (await run("status")).code == code
    assert (await run("status", "web", "-o", "json")).code == code


async def test_a_guest_that_nobody_asked_yet_is_told_so(run: Run, operator: FakeOperator) -> None:
    operator.fleet = fleet(vm("web", healthy=False, unasked=True, probe=""))
    assert "running  ?" in (await run("status", "web")).out
    assert "not asked yet" in (await run("why", "web")).out


async def test_status_as_json_is_what_the_daemon_says(run: Run) -> None:
    answer = json.loads((await run("status", "-o", "json")).out)
    assert answer["revision"].items() >= {"observed": NEW, "applied": NEW, "rejected": None}.items()
    assert [item["name"] for item in answer["vms"]] == ["db", "web"]
    assert answer["vms"][0]["generation"] == {"running": 3, "desired": 3, "last_good": 3}


async def test_status_of_one_vm_has_its_history_and_last_words(run: Run) -> None:
    shown = await run("status", "web")
    assert "condemned" in shown.out
    assert "nginx: emerg" in shown.out
    assert "pid 4242" in shown.out


async def test_a_rejected_revision_is_shown_with_its_problems(
    run: Run, operator: FakeOperator
) -> None:
    rejected = RevisionStatus(NEW, OLD, "deadbeef" * 5, ("web.yaml:3:7: unknown field",))
    operator.fleet = fleet(vm("web"), revision=rejected)
    shown = (await run("status")).out
    assert "revision deadbeef is rejected: 1 problem" in shown
    assert "web.yaml:3:7: unknown field" in shown


async def test_what_a_guest_says_cannot_drive_the_terminal(
    run: Run, operator: FakeOperator
) -> None:
    evil = "\x1b[2J\x1b]0;title\x07probe said \x1b[31mred\x9b5m \u202edesrever \x07"
    operator.fleet = fleet(vm("web", why=evil, probe=evil, waits=(WaitStatus(evil, evil),)))
    operator.console_path.write_bytes(evil.encode() + b"\r\nfake\rreal\r\n")
    operator.happen("condemned", evil)
    for command in (("status",), ("status", "web"), ("why", "web"), ("logs", "web"), ("events",)):
        shown = await run(*command)
        assert not set(shown.out) & set("\x1b\x07\x9b\u202e\r"), command
        assert "probe said red" in shown.out


@pytest.mark.parametrize("width", ["80", "120", "40"])
async def test_no_line_of_status_is_wider_than_the_terminal(
    run: Run, operator: FakeOperator, width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    name = "a-name-of-forty-characters-is-the-longest"[:40]
    why = "waits for a very good reason " * 6
    operator.fleet = fleet(vm(name, why=why, group="a-group-with-a-long-name"), vm("web"))
    lines = (await run("status")).out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= max(int(width), 73)
    words = " ".join(" ".join(lines).split())
    assert "waits for a very good reason waits" in words


@pytest.mark.parametrize(("output", "text"), [("text", "restart"), ("json", '"effect": "restart"')])
async def test_a_plan_with_changes_exits_with_two(
    run: Run, operator: FakeOperator, output: str, text: str
) -> None:
    operator.the_plan = busy_plan()
    shown = await run("plan", "-o", output)
    assert shown.code == 2
    assert text in shown.out


async def test_a_plan_of_nothing_says_so_and_exits_with_zero(
    run: Run, operator: FakeOperator
) -> None:
    shown = await run("plan", "--ref", "v1.2")
    words = "nothing to do, by what is declared: 2 of 2 VMs healthy\n"
    assert (shown.code, shown.out) == (0, words)
    assert operator.refs == ["v1.2"]


@pytest.mark.shows(fault=82)
async def test_a_plan_never_says_that_all_is_well_while_guests_are_not_healthy(
    run: Run, operator: FakeOperator
) -> None:
    operator.fleet = fleet(*(vm(name, healthy=False) for name in ("a", "b", "c", "d")))
    assert "0 of 4 VMs healthy" in (await run("plan")).out


@pytest.mark.shows(fault=85)
async def test_a_plan_of_what_was_read_last_says_why_the_source_cannot_be_read(
    run: Run, operator: FakeOperator
) -> None:
    broken = SourceStatus("main", "https://git.example/f.git", WALL - 3, 4, "no route to git")
    operator.fleet = replace(fleet(vm("web")), sources=(broken,))
    shown = await run("plan")
    assert "source main cannot be read: no route to git" in shown.out
    assert "by the revision read last" in shown.out
    answer = json.loads((await run("plan", "-o", "json")).out)
    assert answer["unseen"] == "source main cannot be read: no route to git"
    assert "no route" not in (await run("plan", "--ref", "main")).out, "that was just read"


async def test_reconcile_judges_the_vm_or_group_that_is_named(
    run: Run, operator: FakeOperator
) -> None:
    assert (await run("reconcile", "--wait", "web")).code == 0
    assert (await run("reconcile", "group/frontend", "--wait")).code == 0
    assert operator.subjects == ["web", "group/frontend"]
    assert (await run("reconcile", "web")).code == 1, "without --wait nothing is judged"


async def test_reconcile_lists_old_trouble_beside_the_result(
    run: Run, operator: FakeOperator
) -> None:
    operator.report = ReconcileReport(
        "converged", NEW, "", (), 2, 2, ("web: generation 2 failed: it exited (revision 0ddba11)",)
    )
    shown = await run("reconcile", "--wait")
    assert shown.code == 0
    assert "applied, and healthy, 2 of 2 changed VMs took it" in shown.out
    assert "not caused by it: web: generation 2 failed" in shown.out


@pytest.mark.shows(fault=89)
async def test_a_result_never_calls_vms_unhealthy_that_only_refused_the_change(
    run: Run, operator: FakeOperator
) -> None:
    operator.report = ReconcileReport("rolled-back", NEW, "web: its checks failed", (), 2, 0)
    assert "0 of 2 changed VMs took it (web: its checks failed)" in (await run("reconcile")).out
    assert "0 of 2 VMs took it" in (await run("reconcile", "--wait", "group/frontend")).out


@pytest.mark.shows(fault=131)
async def test_a_host_that_has_read_nothing_does_not_claim_that_nothing_is_declared(
    run: Run, operator: FakeOperator
) -> None:
    broken = SourceStatus("main", "https://git.example/f.git", None, 4, "no route to git")
    operator.fleet = replace(fleet(revision=RevisionStatus(None, None)), sources=(broken,))
    shown = " ".join((await run("status")).out.split())
    assert "no revision was read yet, so no VM is known" in shown
    assert (
        "source main cannot be read: no route to git (never read); the daemon tries again" in shown
    )


@pytest.mark.shows(fault=132)
async def test_problems_that_are_not_shown_are_counted(run: Run, operator: FakeOperator) -> None:
    problems = tuple(f"web.yaml:{line}:1: unknown field" for line in range(9))
    operator.fleet = fleet(vm("web"), revision=RevisionStatus(NEW, OLD, NEW, problems))
    assert "and 6 more: `reconciler validate`" in (await run("status")).out
    assert "unknown field (and 8 more, see `status`)" in (await run("why", "web")).out


async def test_status_says_what_became_of_the_newest_revision(
    run: Run, operator: FakeOperator
) -> None:
    revision = RevisionStatus(
        NEW, OLD, result="rolled-back", why="web: generation 4 failed: it exited"
    )
    operator.fleet = fleet(vm("web"), revision=revision)
    shown = " ".join((await run("status")).out.split())
    assert "was rolled back: web: generation 4 failed: it exited" in shown


async def test_a_plan_reads_as_reasons(run: Run, operator: FakeOperator) -> None:
    operator.the_plan = busy_plan()
    words = " ".join((await run("plan")).out.split())
    assert "restart spec.memory 256MiB -> 512MiB" in words
    assert "do stop: generation 3 replaces generation 2" in words
    assert "decide group held: group backend is held: db failed" in words
    assert "guest stopping" not in words, "its action says so"
    assert "wait soak, 3 s left: healthy for 2 s of 5 s" in words


async def test_a_plan_that_cannot_be_made_lists_every_problem(
    run: Run, operator: FakeOperator
) -> None:
    operator.failure = ManifestErrors(
        [Problem("a.yaml", 1, 2, "bad"), Problem("b.yaml", 3, 4, "worse")]
    )
    shown = await run("plan", "--ref", "broken")
    assert shown.code == 1
    assert shown.err.splitlines() == [
        "a.yaml:1:2: bad",
        "b.yaml:3:4: worse",
        "reconciler: the revision is refused for 2 errors; what runs stays as it is",
        "hint: push a corrected one; `reconciler validate FOLDER` finds all errors before a push",
    ]


@pytest.mark.parametrize(
    ("result", "code", "words"),
    [
        ("converged", 0, "applied, and healthy"),
        ("unchanged", 0, "changes no VM"),
        ("waiting", 1, "waits for a person"),
        ("superseded", 1, "superseded by newer revisions"),
        ("working", 1, "still at work"),
        ("failed", 1, "failed"),
        ("rolled-back", 4, "rolled back"),
        ("rollback-failed", 5, "the rollback failed too"),
    ],
)
async def test_reconcile_says_how_it_went(
    run: Run, operator: FakeOperator, result: Any, code: int, words: str
) -> None:
    operator.report = ReconcileReport(result, NEW, "web: because")
    shown = await run("reconcile", "--wait", "--timeout", "7")
    assert shown.code == code
    assert words in shown.out
    assert ("web: because" in shown.out) is (result != "unchanged")
    assert operator.reconciles == [(True, 7.0)]
    asked = await run("reconcile", "--wait", "-o", "json")
    assert (asked.code, json.loads(asked.out)["result"]) == (code, result)


async def test_reconcile_without_wait_is_content_to_have_begun(
    run: Run, operator: FakeOperator
) -> None:
    operator.report = ReconcileReport("working", NEW, "")
    assert (await run("reconcile")).code == 0


async def test_a_source_that_cannot_be_read_is_one_line_and_a_hint(
    run: Run, operator: FakeOperator
) -> None:
    operator.failure = SourceError("no route to git.example", hint="check the network")
    shown = await run("reconcile")
    assert shown.code == 1
    assert shown.err == "reconciler: no route to git.example\nhint: check the network\n"


async def test_history_shows_verdicts_reasons_and_blocked_digests(run: Run) -> None:
    shown = (await run("history", "web")).out
    assert [line.split()[1] for line in shown.splitlines() if line.strip()[:1] in "123"] == [
        "condemned", "committed", "committed",
    ]  # fmt: skip
    assert "GET :8080/healthz -> 503" in " ".join(shown.split())
    assert "blocked: digest 0badcafe (generation 3 of revision" in shown
    assert "    nginx: emerg" in shown.splitlines()
    answer = json.loads((await run("history", "web", "-o", "json")).out)
    assert answer["generations"][0]["evidence"]["console"] == ["nginx: emerg"]


async def test_diff_names_the_fields(run: Run) -> None:
    assert (await run("diff", "web", "1", "2")).out == "spec.memory 256MiB -> 512MiB: restart\n"
    assert "do not differ" in (await run("diff", "web", "1", "1")).out
    assert (await run("diff", "web", "2", "3")).out.splitlines()[1:] == ["  nginx 1 -> 2"]
    refused = await run("diff", "web", "1", "9")
    assert (refused.code, refused.err.splitlines()[1]) == (1, "hint: it has: 1, 2, 3")


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        (("rollback", "web", "--to", "2"), RollbackTo("web", GenerationNumber(2))),
        (("rollback", "web"), RollbackTo("web")),
        (("retry", "web"), Retry("web")),
        (("restart", "web"), RestartVM("web")),
        (("suspend", "web", "--reason", "at night"), Suspend("web", "at night")),
        (("suspend",), Suspend(None, "")),
        (("suspend", "--until", "2h"), Suspend(None, "", 7200.0)),
        (("suspend", "web", "--until", "3d", "--reason", "x"), Suspend("web", "x", 259_200.0)),
        (("resume", "web"), Resume("web")),
        (("promote", "frontend"), Promote("frontend")),
        (("abort", "frontend"), Abort("frontend", "")),
        (("abort", "frontend", "--reason", "smells"), Abort("frontend", "smells")),
        (("confirm", NEW[:7].upper()), Confirm(NEW[:7])),
        (("remove", "web"), Remove("web")),
        (("adopt", "web"), Adopt("web")),
    ],
)
async def test_each_request_is_sent_and_its_answer_shown(
    run: Run, operator: FakeOperator, arguments: tuple[str, ...], request_: object
) -> None:
    shown = await run(*arguments)
    assert (shown.code, "is noted" in shown.out) == (0, True)
    assert operator.requests == [request_]
    assert "is noted" in json.loads((await run(*arguments, "-o", "json")).out)["done"]


async def test_events_and_logs_as_json_are_one_object_a_line(
    run: Run, operator: FakeOperator
) -> None:
    for index in range(3):
        operator.happen("started", f"event {index}")
    operator.console_path.write_bytes(b"one\r\ntwo\r\n")
    lines = (await run("events", "-n", "2", "-o", "json")).out.splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == [2, 3]
    lines = (await run("logs", "web", "-n", "1", "-o", "json")).out.splitlines()
    assert [json.loads(line) for line in lines] == [{"line": "two", "vm": "web"}]
    operator.console(VMName("web"), beside=True).write_bytes(b"three\r\n")
    assert (await run("logs", "web", "--candidate")).out == "three\n"


async def test_followed_events_are_shown_as_they_happen(
    socket: Path, operator: FakeOperator
) -> None:
    operator.happen("generation-committed", "web: generation 2 is healthy")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "reconciler", "events", "-f", "--socket", str(socket),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        assert b"generation 2 is healthy" in await child.stdout.readline()
        operator.happen("rolled-back", "web: back on generation 2")
        assert b"back on generation 2" in await child.stdout.readline()
    finally:
        child.kill()
        await child.wait()


async def test_an_unknown_vm_gets_the_nearest_name(run: Run) -> None:
    for command in ("status", "history", "logs", "why"):
        shown = await run(command, "wen")
        assert shown.code == 1
        assert shown.err == "reconciler: no VM is called wen\nhint: did you mean: web\n"


async def test_an_odd_name_is_an_error_of_one_line(run: Run) -> None:
    for name in ("../../etc/passwd", "UPPER", "a b", "\x1b[2J"):
        shown = await run("logs", name)
        assert (shown.code, len(shown.err.splitlines())) == (1, 2)
        shown = await run("why", name)
        assert (shown.code, len(shown.err.splitlines())) == (1, 2)
        for command in ("retry", "promote", "abort", "confirm", "adopt"):
            shown = await run(command, name)
            assert (shown.code, len(shown.err.splitlines())) == (1, 2), command


async def test_a_refused_request_exits_with_one(run: Run, operator: FakeOperator) -> None:
    operator.failure = RequestRefused("there is no group 'x' with members", hint="groups: g")
    for command in ("promote", "abort", "adopt"):
        shown = await run(command, "x")
        assert (shown.code, shown.out) == (1, "")
        assert shown.err == "reconciler: there is no group 'x' with members\nhint: groups: g\n"


async def test_version_names_both_sides(run: Run, socket: Path) -> None:
    answer = json.loads((await run("version", "-o", "json")).out)
    assert answer["version"] == answer["daemon"]
    gone = await run("version", "--socket", str(socket.with_name("none")))
    assert (gone.code, "not running" in gone.out) == (0, True)


async def test_token_says_what_the_page_and_a_scraper_show(run: Run) -> None:
    read, metrics = access().token("read"), access().token("metrics")
    assert (await run("token")).out == f"{read}\n"
    assert (await run("token", "--metrics")).out == f"{metrics}\n"
    assert json.loads((await run("token", "-o", "json")).out) == {"metrics": metrics, "read": read}
