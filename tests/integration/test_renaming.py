"""A database that gets another name, on real guests: it keeps its records, and comes back by a revert."""

from __future__ import annotations

import pytest

from demo.fleet import DATABASE, WEB
from tests.integration.harness import Harness

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PATH = "/cgi-bin/records"
NEW = "store"


def test_a_renamed_database_keeps_its_records_and_comes_back_by_a_revert(fleet: Harness) -> None:
    assert fleet.ask(DATABASE, PATH, "before the rename").startswith("records:")
    stored = fleet.ask(DATABASE, PATH).splitlines()
    numbers = set(fleet.verdicts(DATABASE))
    serving = {name: vm.pid for name, vm in fleet.fleet().vms.items() if name in WEB}

    fleet.edit_document(
        DATABASE, lambda it: it["metadata"].update(name=NEW, movedFrom=DATABASE)
    )  # fmt: skip
    for name in WEB:
        fleet.edit(name, lambda spec: spec["update"].update(after=[NEW]))
    revision = fleet.push("db is called store")
    now = fleet.settled(revision, NEW, *WEB)

    assert DATABASE not in now.vms
    assert fleet.ask(DATABASE, PATH).splitlines() == stored
    assert numbers <= set(fleet.verdicts(NEW))
    assert len(fleet.guests(NEW)) == 1
    assert not fleet.guests(DATABASE)
    assert not (fleet.stage.state / "vms" / DATABASE).exists()
    assert {name: vm.pid for name, vm in now.vms.items() if name in WEB} == serving

    assert fleet.ask(DATABASE, PATH, "after the rename").startswith("records:")
    stored = fleet.ask(DATABASE, PATH).splitlines()
    fleet.repository.restore(fleet.good)
    fleet.settled(fleet.push("db is called db again"))
    assert fleet.ask(DATABASE, PATH).splitlines() == stored
    assert not (fleet.stage.state / "vms" / NEW).exists()
