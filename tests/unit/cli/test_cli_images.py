"""`images ls`, `why`, `verify` and `gc` against a real socket."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.image import StoredKind
from reconciler.model.names import GenerationNumber, VMName
from reconciler.model.request import CollectImages, ResolveTags
from reconciler.model.status import WaitStatus
from reconciler.model.store_status import (
    ImageCheck,
    ImageState,
    ImageStatus,
    ImageUse,
    StoreReport,
    StoreShare,
    StoreStatus,
    TagStatus,
)
from tests.unit.cli.conftest import Run
from tests.unit.control.fake_operator import WALL, FakeOperator, fleet, vm

pytestmark = pytest.mark.usefixtures("socket")

MIB = 1 << 20


def image(
    digit: str, title: str, state: ImageState = "used", *, kind: StoredKind = "layer",
    vms: int = 2, parts: tuple[str, ...] = (), size: int = 4 * MIB,
) -> ImageStatus:  # fmt: skip
    return ImageStatus(
        digit * 64, kind, title, size, state, vms, 3 if vms else 0, WALL, WALL, parts=parts,
    )  # fmt: skip


@pytest.fixture
def stocked(operator: FakeOperator) -> FakeOperator:
    operator.store = StoreReport(
        (
            image("a", "oci app", kind="composed", parts=("b" * 64,), size=40 * MIB),
            image("b", "a layer of app", size=40 * MIB),
            image("c", "tree ./web"),
            image("d", "tree ./old", "unused", vms=0),
        ),
        StoreStatus(
            (
                StoreShare("layer", "used", 3, 44 * MIB),
                StoreShare("layer", "unused", 1, 4 * MIB),
                StoreShare("layer", "missing", 1, 0),
            ),
            vms=2, saved_bytes=44 * MIB,
        ),
    )  # fmt: skip
    return operator


@pytest.mark.usefixtures("stocked")
async def test_images_are_listed_with_their_parts_and_what_one_copy_saves(run: Run) -> None:
    found = await run("images", "ls")
    assert found.code == 0
    words = [line.split() for line in found.out.splitlines()]
    assert words[1][:5] == ["a" * 12, "oci", "app", "composed", "40"]
    assert words[2][5:8] == ["part", "40", "MiB"]
    assert "4 images, 48 MiB: 44 MiB used, 4.0 MiB unused" in found.out
    assert "1 image missing" in found.out
    assert "one copy for 2 VMs saves 44 MiB" in found.out


APP = "registry.example.org/acme/app:1"


def tag(**fields: Any) -> TagStatus:
    known = TagStatus(APP, "daily", f"sha256:{'1' * 64}", WALL, WALL, (VMName("web"),))
    return replace(known, **fields)


async def test_what_tags_mean_is_listed_with_who_names_them(
    run: Run, operator: FakeOperator
) -> None:
    never = tag(digest="", error="the registry cannot be reached", vms=(VMName("db"),))
    operator.store = StoreReport((), StoreStatus(), (tag(), never))
    words = " ".join((await run("images", "ls")).out.split())
    assert f"{APP} (daily) means sha256:111111111111, looked up" in words
    assert f"{APP} (daily) was never looked up with success: db" in words
    assert "the newest lookup failed: the registry cannot be reached" in words


async def test_resolve_asks_for_one_tag_and_says_what_it_means(
    run: Run, operator: FakeOperator
) -> None:
    operator.store = StoreReport((), StoreStatus(), (tag(), tag(reference="other.example.org/a:2")))
    found = await run("images", "resolve", APP)
    assert found.code == 0
    assert operator.requests == [ResolveTags(APP)]
    assert "sha256:111111111111" in found.out
    assert "other.example.org" not in found.out


async def test_resolve_fails_where_a_registry_does_not_answer(
    run: Run, operator: FakeOperator
) -> None:
    operator.store = StoreReport((), StoreStatus(), (tag(error="the registry cannot be reached"),))
    found = await run("images", "resolve", "-o", "json")
    assert found.code == 1
    assert json.loads(found.out)[0]["error"] == "the registry cannot be reached"


@pytest.mark.usefixtures("stocked")
async def test_images_as_json_are_what_the_daemon_says(run: Run) -> None:
    found = json.loads((await run("images", "ls", "-o", "json")).out)
    assert [one["key"][0] for one in found["images"]] == ["a", "b", "c", "d"]
    assert found["store"]["saved_bytes"] == 44 * MIB


async def test_why_names_every_generation_that_an_image_stays_for(
    run: Run, stocked: FakeOperator
) -> None:
    stocked.uses = (
        ImageUse(VMName("db"), GenerationNumber(4), "runs, desired, last good"),
        ImageUse(VMName("web"), None, "desired, and not started yet"),
    )
    found = await run("images", "why", "cccc")
    assert "tree ./web (cccccccccccc): layer, 4.0 MiB, used, 2 VMs, 3 generations" in found.out
    assert "  db generation 4: runs, desired, last good" in found.out
    assert "  web: desired, and not started yet" in found.out
    assert "nothing names it" in (await run("images", "why", "tree ./old")).out


@pytest.mark.usefixtures("stocked")
async def test_why_of_an_unknown_image_names_the_nearest(run: Run) -> None:
    found = await run("images", "why", "tree ./wob")
    assert found.code == 1
    assert "did you mean tree ./web" in found.err
    both = await run("images", "why", "tree")
    assert (both.code, "cccccccccccc (tree ./web)" in both.err) == (1, True)


async def test_verify_reports_each_image_and_fails_for_one_that_rotted(
    run: Run, operator: FakeOperator
) -> None:
    operator.checks = [
        ImageCheck("c" * 64, "tree ./web", 8, 4),
        ImageCheck("c" * 64, "tree ./web", 8, 8, "sound"),
        ImageCheck("d" * 64, "tree ./old", 8, 8, "rotten", "image has sha256 0123"),
    ]
    found = await run("images", "verify")
    assert found.code == 1
    assert found.out.splitlines() == [
        "sound      cccccccccccc  tree ./web  8 B",
        "rotten     dddddddddddd  tree ./old  8 B: image has sha256 0123",
    ]
    assert (await run("images", "verify", "tree ./web")).code == 0
    lines = (await run("images", "verify", "-o", "json")).out.splitlines()
    assert [json.loads(line)["result"] for line in lines] == ["", "sound", "rotten"]


async def test_gc_removes_what_nothing_names_and_a_dry_run_nothing(
    run: Run, stocked: FakeOperator
) -> None:
    dry = await run("images", "gc", "--dry-run")
    assert "1 image would be removed, 4.0 MiB" in dry.out
    assert stocked.requests == []
    assert "1 image removed, 4.0 MiB" in (await run("images", "gc")).out
    assert stocked.requests == [CollectImages()]
    answer = json.loads((await run("images", "gc", "-o", "json")).out)
    assert (answer["images"], answer["size_bytes"]) == ([], 0)


async def test_shared_options_also_stand_before_a_command_of_images(
    run: Run, stocked: FakeOperator
) -> None:
    assert stocked.store.images
    found = await run("-c", "/dev/null", "images", "ls")
    assert (found.code, found.err) == (0, "")


def desired(state: ImageState) -> StoreReport:
    return StoreReport((replace(image("c", "tree ./web", state), wanted=True),), StoreStatus())


async def test_pull_waits_until_every_wanted_image_is_there(
    run: Run, operator: FakeOperator
) -> None:
    operator.later = (desired("missing"), desired("missing"), desired("used"))
    found = await run("images", "pull", "web")
    assert (found.code, found.out) == (0, "1 image there, 4.0 MiB\n")
    assert operator.requests == [], "nothing is restarted for it"


async def test_pull_does_not_wait_for_what_only_old_generations_name(
    run: Run, operator: FakeOperator
) -> None:
    operator.store = StoreReport((image("c", "tree ./web", "missing"),), StoreStatus())
    assert (await run("images", "pull")).code == 0


async def test_pull_ends_for_an_image_that_cannot_be_built_or_not_in_time(
    run: Run, operator: FakeOperator
) -> None:
    operator.store = desired("missing")
    late = await run("images", "pull", "--timeout", "1")
    assert late.code == 1
    assert "1 image not there after 1 s: tree ./web" in late.err
    broken = WaitStatus("broken", "tree ./web cannot be built: a submodule")
    operator.fleet = fleet(vm("web", waits=(broken,)))
    found = await run("images", "pull", "web")
    assert (found.code, "web: tree ./web cannot be built: a submodule" in found.err) == (1, True)
    unknown = await run("images", "pull", "wob")
    assert (unknown.code, "did you mean: web" in unknown.err) == (1, True)
