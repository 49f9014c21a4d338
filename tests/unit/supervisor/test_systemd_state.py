"""What PID 1 says of a service, as we read it."""

from __future__ import annotations

import os

import pytest

from reconciler.supervisor.systemd_bus import UnitState


def state(result: str, code: int, status: int) -> UnitState:
    return UnitState(0, 42, code, status, result, {})


@pytest.mark.parametrize(
    ("result", "code", "status"),
    [
        ("exit-code", os.CLD_EXITED, 3),
        ("signal", os.CLD_KILLED, 9),
        ("core-dump", os.CLD_DUMPED, 11),
    ],
)
def test_a_program_that_ended_at_once_was_started(result: str, code: int, status: int) -> None:
    assert state(result, code, status).ran


@pytest.mark.parametrize(
    ("result", "code", "status"),
    [("exit-code", os.CLD_EXITED, 203), ("resources", 0, 0), ("timeout", os.CLD_KILLED, 9)],
)
def test_a_program_that_could_not_be_executed_was_not(result: str, code: int, status: int) -> None:
    assert not state(result, code, status).ran
