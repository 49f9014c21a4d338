"""Check trials in the ledger: kept to the last bit, and rows of older versions are read as they were meant."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reconciler.ledger.codec import decode, encode
from reconciler.model.check_trial import BlockedChecks, CheckChange, CheckTrial
from reconciler.model.checks import HttpCheck
from reconciler.model.desired import HealthPolicy
from reconciler.model.names import Digest, GenerationNumber, GroupName, InstanceId, VMName
from reconciler.model.record import Blocked, GroupRecord, Hold, VMRecord
from tests.unit.ledger.ledger_samples import FOREVER, REVISION, WALL, vm_record

pytestmark = pytest.mark.shows(fault=62)

POLICY = HealthPolicy((HttpCheck(8080, "/ready"),), failure_threshold=1)
ONE = GenerationNumber(1)


def test_a_trial_a_refusal_and_a_change_of_checks_are_read_as_they_were_written() -> None:
    record = vm_record("web")
    generation = replace(record.generations[0], checks=CheckChange(POLICY, REVISION))
    record = replace(
        record.with_generation(generation),
        check_trial=CheckTrial(
            ONE, InstanceId("web-1"), POLICY, REVISION, FOREVER, 60.0, back=True
        ),
        blocked_checks=(BlockedChecks(Digest("k" * 64), ONE, REVISION, "404", 2, WALL, WALL),),
        blocked=(Blocked(Digest("d" * 64), ONE, "404", 1, WALL, WALL, key=Digest("k" * 64)),),
    )
    assert decode(VMRecord, encode(record).encode()) == record


def test_rows_from_before_there_were_check_trials_are_read() -> None:
    record = replace(
        vm_record("web"), blocked=(Blocked(Digest("d" * 64), ONE, "404", 1, WALL, WALL),)
    )
    (plain,) = json.loads(encode(record))
    for name in ("check_trial", "blocked_checks"):
        del plain[name]
    for generation in plain["generations"]:
        del generation["checks"]
    for block in plain["blocked"]:
        del block["key"]
    assert decode(VMRecord, json.dumps([plain]).encode()) == record


def test_a_hold_from_before_there_were_check_trials_is_read() -> None:
    group = GroupRecord(
        GroupName("front"), Hold(VMName("web"), Digest("d" * 64), "failed", WALL, ())
    )
    (plain,) = json.loads(encode(group))
    for name in ("key", "back_checks"):
        del plain["hold"][name]
    assert decode(GroupRecord, json.dumps([plain]).encode()) == group
