"""`why`: waits and verdicts in words, and moments as people give and read them."""

import json
from dataclasses import replace
from typing import get_args

import pytest

from reconciler.cli import why
from reconciler.cli.times import seconds_until, since, until
from reconciler.errors import RequestRefused
from reconciler.explain.image_advice import Advice
from reconciler.model.build_progress import BuildStatus
from reconciler.model.names import VMName
from reconciler.model.status import GroupStatus, RevisionStatus, SourceStatus, WaitStatus
from reconciler.model.waits import WAITS, WaitKind
from tests.unit.cli.conftest import Run
from tests.unit.control.fake_operator import NEW, OLD, WALL, FakeOperator, fleet, number, vm

pytestmark = pytest.mark.usefixtures("socket")
NUMBERS = vm("web").generation
CLOSED = WaitStatus("window", "outside of window '0 2 * * *' UTC", until_wall=WALL + 5 * 3600)
BLOCKED = WaitStatus("blocked", "generation 3 failed: its checks failed", since_wall=WALL - 240)


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why, "wall", lambda: WALL)
    monkeypatch.setenv("TZ", "UTC")


async def test_a_vm_that_is_well_says_so(run: Run) -> None:
    shown = await run("why", "db")
    assert shown.code == 0
    first, second = shown.out.splitlines()[:2]
    assert first == "db is running, healthy and synced: generation 3 runs (revision b81e03f7)"
    assert second == "  it runs as desired, and waits for nothing"


@pytest.mark.shows(promise=14)
async def test_waits_tell_since_when_and_until_when(run: Run, operator: FakeOperator) -> None:
    numbers = type(NUMBERS)(number(2), number(3), number(2))
    operator.fleet = fleet(
        vm("web", sync="blocked", generation=numbers, waits=(BLOCKED, CLOSED)),
        revision=RevisionStatus(NEW, OLD, seen_wall=WALL - 720),
    )
    shown = (await run("why", "web")).out
    assert "generation 2 runs, 3 is desired (revision b81e03f7, seen 12 min ago)" in shown
    assert "  blocked: generation 3 failed: its checks failed (since " in shown
    assert ", 4 min ago)" in shown
    assert "  window: outside of window '0 2 * * *' UTC (until " in shown
    assert ", in 5 h)" in shown


async def test_a_build_that_it_waits_for_says_how_far_it_is(
    run: Run, operator: FakeOperator
) -> None:
    web, other = VMName("web"), VMName("db")
    operator.fleet = replace(
        fleet(vm("web", waits=(WaitStatus("image", "oci app is being built"),))),
        builds=(
            BuildStatus("a" * 64, "oci app", "fetching", 34 << 20, 120 << 20, WALL - 12, (web,)),
            BuildStatus("b" * 64, "tree ./db", "packing", 1, 0, WALL - 2, (other,)),
        ),
    )
    lines = (await run("why", "web")).out.splitlines()
    assert "  oci app: fetching, 34 MiB of 120 MiB, for 12 s" in lines
    assert not any("tree ./db" in line for line in lines)
    answer = json.loads((await run("why", "web", "--output", "json")).out)
    (build,) = answer["builds"]
    assert (build["done_bytes"], build["total_bytes"]) == (34 << 20, 120 << 20)
    assert build["since_time"].endswith("Z")


async def test_each_wait_says_what_ends_it_once_for_all_of_its_kind(
    run: Run, operator: FakeOperator
) -> None:
    waits = tuple(
        WaitStatus("memory", why) for why in ("needs 64MiB more", "and 1MiB for the other")
    )
    operator.fleet = fleet(vm("web", waits=(*waits, BLOCKED, WaitStatus("of-tomorrow", "news"))))
    lines = (await run("why", "web")).out.splitlines()
    assert lines[1:8] == [
        "  memory: needs 64MiB more",
        "  memory: and 1MiB for the other",
        "    looked at every 5 s: free memory of the host, or push a smaller spec.memory",
        lines[4],
        "    waits for you: push a fix, or `reconciler retry web` if the cause lay elsewhere",
        "  of-tomorrow: news",
        lines[7],
    ]


def test_what_ends_a_wait_is_known_of_every_kind() -> None:
    assert set(WAITS) == set(get_args(WaitKind))


@pytest.mark.shows(promise=14)
async def test_what_was_condemned_comes_with_its_evidence(run: Run) -> None:
    lines = (await run("why", "web")).out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("blocked: digest 0badcafe"))
    assert lines[at + 1 :] == [
        "  checks: GET :8080/healthz -> 503",
        "  the end of its console:",
        "    nginx: emerg",
    ]


async def test_what_is_wrong_around_a_vm_is_told_too(run: Run, operator: FakeOperator) -> None:
    operator.fleet = fleet(
        vm("web"),
        revision=RevisionStatus(NEW, OLD, "deadbeef" * 5, ("web.yaml:3:7: unknown field",)),
        groups=(GroupStatus(vm("web").group, "suspended", 1, 0, 1, 0),),
        suspended=True,
        sources=(SourceStatus("main", "file:///x", None, 3, "no route"),),
        alerts=("ledger: disk full",),
    )
    shown = (await run("why", "web")).out
    for words in (
        "ledger: disk full",
        "this host is suspended",
        "group frontend is suspended",
        "revision deadbeef is rejected: web.yaml:3:7: unknown field",
        "source main: no route (never read)",
    ):
        assert words in shown


async def test_why_as_json_has_all_of_it(run: Run, operator: FakeOperator) -> None:
    operator.fleet = fleet(vm("web", waits=(CLOSED,)))
    answer = json.loads((await run("why", "web", "-o", "json")).out)
    assert answer["vm"]["waits"][0]["until_wall"] == WALL + 18_000
    assert answer["condemned"][0]["evidence"]["kind"] == "probe-failed"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("1s", 1.0),
        ("90m", 5400.0),
        ("366d", 366 * 86_400.0),
        ("2026-09-21T16:13:20Z", 7200.0),
        ("2026-09-21T18:13:20+02:00", 7200.0),
        ("2026-09-21t18:13:20.5+02:00", 7200.5),
        ("2026-09-21 16:13Z", 7180.0),
    ],
)
def test_an_end_is_a_duration_or_a_time_with_its_offset(given: str, seconds: float) -> None:
    assert seconds_until(given, WALL) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "given",
    ["", "2", "h", "-2h", "0h", "1.5h", "2 h", "2h\n", "\u0662h", "367d", "99999999d", "1h30m", "nan", "inf",
     "2026-09-21", "2026-09-21T16:13:20", "2026-13-01T00:00:00Z", "2026-02-30T00:00Z",
     "2020-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59",
     "2026-09-21T25:00Z", "2026-09-21T16:13:20+99:99", "tomorrow", "x" * 10_000],
)  # fmt: skip
def test_what_is_no_end_is_refused_in_one_short_line(given: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        seconds_until(given, WALL)
    assert len(str(refused.value)) < 100
    assert "2h" in refused.value.hint


async def test_a_refused_end_sends_nothing(run: Run, operator: FakeOperator) -> None:
    shown = await run("suspend", "web", "--until", "\x1b[2Jsoon")
    assert (shown.code, operator.requests) == (1, [])
    assert (
        shown.err.splitlines()[0] == 'reconciler: --until "soon" is neither a duration nor a time'
    )


def test_moments_are_told_with_their_distance() -> None:
    assert since(WALL - 7200, WALL).endswith(", 2 h ago")
    assert until(WALL + 60, WALL).endswith(", in 60 s")
    assert until(WALL - 60, WALL).endswith(", now")


async def test_what_its_images_say_is_advice_below_its_waits(
    run: Run, operator: FakeOperator
) -> None:
    operator.advised = (Advice("spec.health.checks", "the image's Healthcheck is not run\x1b[2J"),)
    shown = await run("why", "web")
    assert "  advice: spec.health.checks: the image's Healthcheck is not run\n" in shown.out
    (found,) = json.loads((await run("why", "web", "-o", "json")).out)["advice"]
    assert found["field"] == "spec.health.checks"
