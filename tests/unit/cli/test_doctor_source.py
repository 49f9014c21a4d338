"""What `doctor` says of the repository, as the daemon found it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reconciler.model.status import SourceStatus
from tests.unit.cli.conftest import Run
from tests.unit.control.fake_operator import WALL, FakeOperator, fleet, vm

pytestmark = pytest.mark.usefixtures("socket")


@pytest.mark.shows(fault=85)
async def test_doctor_says_why_the_source_cannot_be_read(run: Run, operator: FakeOperator) -> None:
    broken = SourceStatus("main", "https://git.example/f.git", WALL - 3, 4, "no route to git")
    operator.fleet = replace(fleet(vm("web")), sources=(broken,))
    shown = await run("doctor")
    assert shown.code == 1
    assert "source main cannot be read: no route to git" in " ".join(shown.out.split())


@pytest.mark.parametrize("kind", ["missing", "empty"])
async def test_a_repository_that_nobody_has_made_yet_is_no_fault_of_a_new_host(
    run: Run, operator: FakeOperator, kind: str
) -> None:
    new = SourceStatus("main", "/srv/git/fleet.git", None, 1, "no commits", kind)
    operator.fleet = replace(fleet(), sources=(new,))
    assert await _result_of(run, "source main") == "warning"
    read = replace(new, last_success_wall=WALL - 3)
    operator.fleet = replace(fleet(), sources=(read,))
    assert await _result_of(run, "source main") == "failed", "it was there, and is gone"


async def _result_of(run: Run, name: str) -> str:
    checks = json.loads((await run("doctor", "-o", "json")).out)["checks"]
    return next(str(one["result"]) for one in checks if one["name"] == name)
