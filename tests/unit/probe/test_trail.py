"""What is kept of a VM's answers: bounded, over its guests, and not drowned by a booting one."""

from __future__ import annotations

import sys

from reconciler.model.health import ProbePlan, ProbeResult
from reconciler.model.names import GenerationNumber, VMName
from reconciler.probe.history import MOST_ROUNDS, ProbeHistories

WEB = VMName("web")


def plan(generation: int = 1, vm: VMName = WEB) -> ProbePlan:
    return ProbePlan((), 5.0, vm, GenerationNumber(generation))


def test_the_newest_answers_are_kept_over_guests() -> None:
    histories = ProbeHistories()
    for second in range(MOST_ROUNDS):
        histories.add(plan(1), "success", 0.01, second * 5.0)
    histories.add(plan(2), "failure", 0.5, 1000.0)
    rounds = histories.rounds(WEB)
    assert len(rounds) == MOST_ROUNDS
    assert (rounds[0].boot, rounds[0].generation, rounds[0].result) == (5.0, 1, "success")
    newest = rounds[-1]
    assert (newest.boot, newest.generation, newest.result, newest.seconds) == (1000.0, 2, "failure", 0.5)  # fmt: skip
    assert histories.rounds(VMName("db")) == ()


def test_a_booting_guest_that_is_asked_many_times_a_second_does_not_push_out_what_was() -> None:
    histories = ProbeHistories()
    histories.add(plan(1), "success", 0.01, 0.0)
    for step in range(500):
        histories.add(plan(2), "failure", 0.01, 10 + step * 0.02)
    histories.add(plan(2), "success", 0.01, 20.0)
    results: list[ProbeResult] = [one.result for one in histories.rounds(WEB)]
    assert results[0] == "success"
    assert results[-1] == "success"
    assert 10 <= results.count("failure") <= 25, "ten seconds of failures, thinned to some a second"


def test_a_thousand_vms_take_two_mebibytes() -> None:
    histories = ProbeHistories()
    for index in range(50):
        for second in range(MOST_ROUNDS + 5):
            histories.add(plan(1, VMName(f"vm-{index}")), "success", 0.01, second * 5.0)
    sizes = [
        sys.getsizeof(getattr(trail, column))
        for trail in histories._histories.values()
        for column in type(trail).__slots__
    ]
    assert sum(sizes) / 50 < 3000
