"""Values go to JSON and come back the same."""

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime

import pytest

from reconciler.control.describe import history_answer, plan_answer
from reconciler.control.reports import HistoryAnswer, PlanAnswer
from reconciler.control.serialization import encode, plain, revive, rfc3339
from reconciler.model.event import Event
from reconciler.model.status import HostStatus, WaitStatus
from tests.unit.control.fake_operator import StillClock, busy_plan, fleet, record, vm


def test_a_fleet_survives_the_way_to_json_and_back() -> None:
    whole = fleet(vm("web"), vm("db", pid=None, healthy=False))
    assert revive(HostStatus, json.loads(encode(whole))) == whole


def test_a_plan_and_a_history_survive_it_too() -> None:
    plan = plan_answer(busy_plan(), StillClock().now(), fleet(vm("web")))
    history = history_answer(record("web"))
    assert revive(PlanAnswer, json.loads(encode(plan))) == plan
    assert revive(HistoryAnswer, json.loads(encode(history))) == history


def test_keys_are_sorted_and_controls_are_escaped() -> None:
    assert encode({"b": "\x1b[31m\u202e", "a": 1}) == '{"a":1,"b":"\\u001b[31m\\u202e"}'


def test_sets_are_sorted_lists_and_foreign_things_are_refused() -> None:
    assert plain(frozenset({"b", "a"})) == ["a", "b"]
    with pytest.raises(TypeError, match="object has no plain form"):
        plain(object())


@dataclass(frozen=True)
class Shape:
    count: int
    names: tuple[str, ...] = ()
    pair: tuple[str, int] = ("", 0)
    ratio: float = 0.0


def test_what_a_newer_daemon_adds_is_ignored_and_what_an_older_lacks_is_defaulted() -> None:
    assert revive(Shape, {"count": 1, "ratio": 2, "novelty": {}}) == Shape(1, ratio=2.0)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({}, "Shape.count is missing"),
        ([], "Shape is not of type dict"),
        ({"count": "1"}, "Shape.count is not of type int"),
        ({"count": True}, "Shape.count is not of type int"),
        ({"count": 1, "names": [1]}, r"Shape.names\[0\] is not of type str"),
        ({"count": 1, "pair": ["a"]}, "Shape.pair has 1 items instead of 2"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(data: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        revive(Shape, data)


@pytest.mark.shows(fault=115)
def test_moments_are_told_as_rfc_3339_beside_the_seconds() -> None:
    made = vm("web", started_wall=1_790_000_000.1239, waits=(WaitStatus("soak", "x", None, None),))
    told = plain(made)
    assert (told["started_wall"], told["started_time"]) == (
        1_790_000_000.1239,
        "2026-09-21T14:13:20.123Z",
    )
    assert told["waits"][0]["until_time"] is None
    assert datetime.fromisoformat(told["started_time"]).timestamp() == pytest.approx(
        1_790_000_000.123
    )
    event = Event("pinned", "words", 1.0)
    assert plain(event)["time"] == "1970-01-01T00:00:01.000Z"
    assert plain(replace(event, wall=0.0))["time"] is None, "0 stands for never"
    assert revive(Event, plain(event)) == event


@pytest.mark.shows(fault=115)
@pytest.mark.parametrize("wall", [-1e9, 0.0, 253_402_300_799.9, 1e12, 1e30, -1e30])
def test_no_moment_is_too_odd_to_be_told(wall: float) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rfc3339(wall))
