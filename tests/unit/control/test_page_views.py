"""What each page shows: a VM's checks and generations, a rollout, the commits, and many VMs."""

from __future__ import annotations

import re
from dataclasses import replace

import aiohttp
import pytest

from reconciler.control.page.chart import MOST_ROWS
from reconciler.control.page.fleet import PAGE
from reconciler.control.page.lanes import MOST_LANES, LaneRow, lanes
from reconciler.errors import SourceError
from reconciler.model.build_progress import BuildStatus
from reconciler.model.event import Event, EventKind
from reconciler.model.names import GenerationNumber, GroupName, Revision, VMName
from reconciler.model.plan import FieldChange, Plan
from reconciler.model.revision_result import RevisionRecord
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import (
    GenerationNumbers,
    GroupStatus,
    ProbeStatus,
    RevisionStatus,
    WaitStatus,
)
from reconciler.model.store_status import ImageStatus, StoreReport, StoreShare, StoreStatus
from tests.unit.control.fake_operator import NEW, OLD, WALL, FakeOperator, fleet, number, vm
from tests.unit.control.pages import ALLOWED_TAGS, HOSTILE, Read, events_of, get, next_change

WEB = VMName("web")
GOOD_BEFORE = Revision("a" * 40)


def probes(*results: str) -> tuple[ProbeStatus, ...]:
    return tuple(
        ProbeStatus(WALL + 5 * step, result, 0.012, number(2 if step < 3 else 3))  # type: ignore[arg-type]  # words of the closed set
        for step, result in enumerate(results)
    )


async def test_a_vms_checks_are_drawn_told_in_words_and_listed(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    operator.asked[WEB] = probes("success", "success", "failure", "failure", "error")
    text = await get(page, "/vm/web")
    shown = Read(text)
    assert "2 passed, 2 failed, 1 not asked of the newest 5 answers" in shown.text
    assert "of generations 2, 3; the slowest that passed took 12 ms" in shown.text
    drawing = re.search(r"(?s)<svg.*?</svg>", text)
    assert drawing is not None
    assert 'role="img" aria-labelledby="checks-title" aria-describedby="checks-desc"' in drawing[0]
    bars = {
        kind: re.search(rf'd="([^"]+)" class="{kind}"', drawing[0])
        for kind in ("success", "failure", "error", "border")
    }
    counts = {kind: found[1].count("M") for kind, found in bars.items() if found}
    assert counts == {"success": 2, "failure": 2, "error": 1, "border": 1}
    table = text[text.index('id="checks-table"') :]
    assert table[: table.index("</table>")].count("<tr>") == 6


async def test_a_handover_shows_both_guests_and_one_border(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    operator.fleet = fleet(vm("web", candidate=number(4)))
    operator.asked[WEB] = tuple(
        ProbeStatus(WALL + step, "success", 0.01, number(4 if step > 5 and step % 2 else 3))
        for step in range(20)
    )
    text = await get(page, "/vm/web")
    border = re.search(r'd="([^"]+)" class="border"', text)
    assert border is not None
    assert border[1].count("M") == 1
    assert "3 + 4" in Read(text).text
    assert "3 + 4" in Read(await get(page, "/")).text


async def test_a_long_trail_has_a_short_table_and_none_has_words(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    assert "No check has run since the daemon started." in await get(page, "/vm/web")
    operator.asked[WEB] = probes(*["success"] * 120)
    assert f"The newest {MOST_ROWS} as a table" in await get(page, "/vm/web")


async def test_a_new_answer_of_a_check_comes_live(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    address = events_of(await get(page, "/vm/web"))
    async with page.get(address) as answer:
        operator.asked[WEB] = probes("failure")
        assert set(changed := await next_change(answer)) == {"checks"}
        assert "1 failed" in changed["checks"]


async def test_any_two_generations_are_compared_on_request(page: aiohttp.ClientSession) -> None:
    assert 'action="/vm/web"' in await get(page, "/vm/web")
    text = await get(page, "/vm/web?a=1&b=3")
    assert '<option value="1" selected>' in text
    compared = text[text.index('id="compare"') :]
    assert "spec.memory" in compared[: compared.index("</section>")]
    same = await get(page, "/vm/web?a=2&b=2")
    assert "These generations do not differ." in same
    for odd in ("a=x&b=1", "a=99999999999999999999&b=1", "a=0&b=0", "a=7&b=8"):
        await get(page, f"/vm/web?{odd}")


async def test_what_the_repository_changes_next_is_told_field_by_field(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    assert "changes next" not in await get(page, "/vm/web")
    change = FieldChange("spec.vcpu", "1", "2", "restart")
    operator.the_plan = Plan(differences={WEB: (change,)})
    text = Read(await get(page, "/vm/web")).text
    assert "What the repository changes next" in text
    assert "spec.vcpu 1 2 (restart)" in text


async def test_a_rollout_shows_who_moves_who_is_next_who_is_held_and_until_when(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    older = GenerationNumbers(number(1), number(2), number(1))
    waits = (WaitStatus("budget", "maxUnavailable is used up by a", None, None),)
    names = [VMName(name) for name in ("a", "b", "c", "d", "e")]
    behind = [vm(n, sync="out-of-sync", generation=older, waits=waits) for n in names[:4]]
    operator.fleet = fleet(*behind, vm("e"), groups=(
        GroupStatus(GroupName("frontend"), "running", 5, 1, 1, 4, "", (names[0],), (names[2], names[1]),
                    (names[3],), WALL + 60),
    ))  # fmt: skip
    text = await get(page, "/group/frontend")
    shown = Read(text).text
    assert "1 of 5 at their desired generation; 1 down of at most 1" in shown
    assert "The next one must be healthy at the latest" in shown
    for part, expected in (("moving", "a"), ("line", "cb"), ("held", "d"), ("done", "e")):
        found = text[text.index(f'id="{part}"') :]
        section = found[: found.index("</section>")]
        assert "".join(re.findall(r'href="/vm/(\w)"', section)) == expected
    assert "next: c" in await get(page, "/")
    assert "No group is called none" in await get(page, "/group/none", 404)


def happen(operator: FakeOperator, kind: EventKind, message: str, **fields: object) -> None:
    event = Event(kind, message, WALL, sequence=len(operator.happened) + 1)
    operator.happened.append(replace(event, **fields))  # type: ignore[arg-type]  # fields by name
    operator.news.set()


async def test_each_commit_says_what_became_of_it(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    refused, lost = Revision("c" * 40), Revision("d" * 40)
    subjects = {
        NEW: "it breaks",
        refused: "a typo",
        OLD: "good",
        lost: "too quick",
        GOOD_BEFORE: "old",
    }
    operator.history = tuple(
        CommitSummary(revision, (list(subjects)[index + 1],) if index < 4 else (), subject, WALL)
        for index, (revision, subject) in enumerate(subjects.items())
    )
    web, three, two = WEB, GenerationNumber(30), GenerationNumber(20)
    happen(operator, "revision-accepted", "", revision=lost)
    happen(operator, "revision-accepted", "", revision=OLD)
    happen(operator, "revision-applied", "", revision=OLD)
    happen(operator, "revision-rejected", "web.yaml:3: no such key", revision=refused)
    happen(operator, "revision-accepted", "", revision=NEW)
    happen(operator, "generation-created", "web", revision=NEW, vm=web, generation=three)
    happen(operator, "generation-condemned", "web: its checks failed", revision=refused, vm=web,
           generation=three)  # fmt: skip
    happen(operator, "rolled-back", "web: back", revision=OLD, vm=web, generation=two)
    operator.fleet = fleet(revision=RevisionStatus(NEW, OLD))
    text = await get(page, "/commits")
    rows = {
        found[1]: Read(found[0]).text
        for found in re.finditer(r'(?s)<li id="commit-(\w+)"[^>]*>.*?</li>', text)
    }
    assert list(rows) == list(subjects)
    assert all(words in rows[NEW] for words in ("it breaks", "desired", "rolled back", "Rolled back: web", "web: its checks failed"))  # fmt: skip
    assert "refused" in rows[refused]
    assert "web.yaml:3: no such key" in rows[refused]
    assert "applied" in rows[OLD]
    assert "rolled back" not in rows[OLD], "what failed is the one after it"
    assert "overtaken" in rows[lost]
    assert "not applied by itself" in rows[GOOD_BEFORE]
    assert set(operator.tips[0]) == {NEW, OLD, refused, lost}


@pytest.mark.shows(fault=81)
async def test_a_commit_has_the_result_that_the_revision_was_judged_to_have(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    """By what each changed: a commit of documents after a failure has not failed."""
    documents = Revision("c" * 40)
    operator.history = (
        CommitSummary(documents, (NEW,), "documents", WALL),
        CommitSummary(NEW, (OLD,), "it breaks", WALL),
        CommitSummary(OLD, (), "good", WALL),
    )
    why = "web: generation 30 failed: it exited"
    operator.ended = (
        RevisionRecord(OLD, WALL, changed=1, result="converged"),
        RevisionRecord(NEW, WALL, (WEB,), (), 1, "rolled-back", why, (WEB,)),
        RevisionRecord(documents, WALL, result="unchanged", why="it changes no VM"),
    )
    revision = RevisionStatus(documents, OLD, result="unchanged", why="it changes no VM")
    operator.fleet = fleet(vm("web"), revision=revision)
    text = await get(page, "/commits")
    rows = {
        found[1]: Read(found[0]).text
        for found in re.finditer(r'(?s)<li id="commit-(\w+)"[^>]*>.*?</li>', text)
    }
    assert "applied" in rows[OLD]
    assert "rolled back" in rows[NEW]
    assert "changes no VM" in rows[documents]
    assert "failed" not in rows[documents]
    operator.fleet = fleet(vm("web"), revision=replace(revision, result="rolled-back", why=why))
    assert f"It was rolled back: {why}" in Read(await get(page, "/")).text


async def test_a_new_commit_and_its_verdict_come_live(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    operator.history = (CommitSummary(OLD, (), "first", WALL),)
    operator.fleet = fleet(revision=RevisionStatus(OLD, OLD))
    address = events_of(await get(page, "/commits"))
    async with page.get(address) as answer:
        operator.history = (CommitSummary(NEW, (OLD,), "second", WALL), *operator.history)
        operator.fleet = fleet(revision=RevisionStatus(NEW, OLD))
        happen(operator, "revision-accepted", "", revision=NEW)
        assert "second" in (await next_change(answer))["main"]
        happen(operator, "revision-applied", "", revision=NEW)
        assert "applied" in (await next_change(answer))[f"commit-{NEW}"]


async def test_a_history_that_cannot_be_read_is_told_and_read_again(
    page: aiohttp.ClientSession, operator: FakeOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> tuple[CommitSummary, ...]:
        raise SourceError("the mirror is damaged", kind="corrupt")

    with monkeypatch.context() as patched:
        patched.setattr(operator, "commits", broken)
        assert "cannot be read: the mirror is damaged" in await get(page, "/commits")
    operator.history = (CommitSummary(NEW, (), "there", WALL),)
    assert "there" in await get(page, "/commits")


def commit(name: str, *parents: str) -> CommitSummary:
    return CommitSummary(Revision(name), tuple(map(Revision, parents)), name, 0.0)


def test_a_branch_and_its_merge_take_a_lane_beside_the_first_parent() -> None:
    rows = lanes([commit("m", "l", "r"), commit("r", "o"), commit("l", "o"), commit("o")])
    assert [row.lane for row in rows] == [0, 1, 0, 0]
    assert rows[0] == LaneRow(0, (), ((0, 0), (0, 1)))
    assert rows[3] == LaneRow(0, ((0, 0), (1, 0)), ()), "both lead to what they have in common"


def test_many_branches_are_drawn_on_few_lanes() -> None:
    tips = [commit(f"t{index}", "root") for index in range(50)]
    rows = lanes([*tips, commit("root")])
    assert max(max((row.lane, *sum(row.above + row.below, ()))) for row in rows) < MOST_LANES


async def test_a_large_fleet_has_pages_and_who_is_ill_stands_on_each(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    many = [vm(f"vm-{index:04}") for index in range(PAGE * 3 - 1)]
    many[-1] = replace(many[-1], healthy=False, why="its checks failed")
    operator.fleet = fleet(*many)
    first, last = await get(page, "/"), await get(page, "/?page=3")
    assert len(re.findall(r'<tr id="vm-', first)) == PAGE
    assert len(re.findall(r'<tr id="vm-', last)) == PAGE - 1
    for text in (first, last):
        ill = text[text.index('id="attention"') :]
        assert many[-1].name in ill[: ill.index("</section>")]
    assert 'href="/?page=2"' in first
    assert 'aria-current="page" aria-label="Page 3 of 3"' in last
    assert f'id="vm-{many[-1].name}"' in await get(page, "/?page=999")
    assert len(re.findall(r'<tr id="vm-', await get(page, "/?page=x"))) == PAGE
    found = await get(page, "/?q=vm-000")
    assert "Page 1" not in found


async def test_only_the_page_that_somebody_sees_is_sent(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    many = [vm(f"vm-{index:04}") for index in range(PAGE * 2)]
    operator.fleet = fleet(*many)
    address = events_of(await get(page, "/?page=2"))
    async with page.get(address) as answer:
        changed = [replace(one, why="odd") for one in many]
        operator.fleet = fleet(*changed)
        assert set(await next_change(answer)) == {f"vm-{one.name}" for one in many[PAGE:]}


async def test_a_console_without_line_ends_makes_no_page_of_megabytes(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    operator.console_path.write_bytes(b"\0" * (4 << 20) + b"the end")
    text = await get(page, "/vm/web")
    assert "the end" in text
    assert len(text) < 250_000
    assert "\0" not in text


async def test_the_images_are_shown_with_their_parts_and_what_one_copy_saves(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    part = ImageStatus("b" * 64, "layer", "a layer of it", 40 << 20, "used", 2, 3, WALL)
    app = replace(part, key="a" * 64, kind="composed", title=HOSTILE, parts=(part.key,))
    old = ImageStatus("d" * 64, "layer", "tree ./old", 4 << 20, "unused", made_wall=WALL)
    store = StoreStatus(
        (
            StoreShare("layer", "used", 1, 40 << 20), StoreShare("composed", "used", 1, 0),
            StoreShare("layer", "unused", 1, 4 << 20),
        ),
        vms=2, saved_bytes=40 << 20,
    )  # fmt: skip
    operator.store = StoreReport((app, part, old), store)
    operator.fleet = replace(operator.fleet, store=store)
    shown = Read(await get(page, "/images"))
    assert "44 MiB in one copy for all VMs and generations" in shown.text
    assert "a copy for each of 2 VMs would take 40 MiB more" in shown.text
    assert [tag for tag, _ in shown.tags if tag not in ALLOWED_TAGS] == []
    for words in ("composed", "part", "tree ./old", "nothing names it"):
        assert words in shown.text
    assert shown.text.index("composed") < shown.text.index("part ") < shown.text.index("./old")


async def test_a_store_without_images_says_so(page: aiohttp.ClientSession) -> None:
    assert "No image was made yet" in Read(await get(page, "/images")).text


async def test_what_is_built_shows_its_bytes_on_the_fleets_page_and_on_that_of_its_vm(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    known = BuildStatus("a" * 64, HOSTILE, "fetching", 34 << 20, 120 << 20, WALL, (WEB,), 7)
    unknown = BuildStatus("b" * 64, "script make", "running make", 5000, 0, WALL, (VMName("db"),))
    operator.fleet = replace(operator.fleet, builds=(known, unknown))
    shown = Read(await get(page, "/"))
    assert "fetching, 34 MiB of 120 MiB since" in shown.text
    assert "running make, 4.9 KiB so far since" in shown.text
    assert "for web and 7 more" in shown.text
    assert "%" not in shown.text
    assert [tag for tag, _ in shown.tags if tag not in ALLOWED_TAGS] == []
    own = Read(await get(page, "/vm/web"))
    assert "fetching, 34 MiB of 120 MiB since" in own.text
    assert "running make" not in own.text


async def test_a_page_that_is_open_gets_the_bytes_as_they_come_and_nothing_else(
    page: aiohttp.ClientSession, operator: FakeOperator
) -> None:
    build = BuildStatus("a" * 64, "oci app", "fetching", 1 << 20, 0, WALL, (WEB,))
    operator.fleet = replace(operator.fleet, builds=(build,))
    opened = await get(page, "/")
    async with page.get(events_of(opened)) as answer:
        operator.fleet = replace(operator.fleet, builds=(replace(build, done_bytes=2 << 20),))
        changed = await next_change(answer)
        assert "fetching, 2.0 MiB so far" in str(changed)
        assert "vm-web" not in str(changed)
