"""What PID 1 says of a service, as we read it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from dbus_fast import Message, MessageType

from reconciler.errors import SupervisorError
from reconciler.supervisor import systemd_bus
from reconciler.supervisor.systemd_bus import Manager, UnitState


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


class HalfABus:
    """Takes connections, and refuses whatever is asked of it."""

    def __init__(self, **_: Any) -> None:
        self.connected = False
        OPENED.append(self)

    async def connect(self) -> None:
        self.connected = True

    def disconnect(self) -> None:
        self.connected = False

    def add_message_handler(self, handler: Callable[[Message], None]) -> None:
        pass

    async def call(self, _: Message) -> Message:
        return Message(
            message_type=MessageType.ERROR, error_name="org.freedesktop.DBus.Error.LimitsExceeded",
            reply_serial=1,
        )  # fmt: skip


OPENED: list[HalfABus] = []


async def test_a_bus_that_refuses_its_first_question_is_let_go_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(systemd_bus, "MessageBus", HalfABus)
    manager = Manager()
    for _ in range(3):
        with pytest.raises(SupervisorError):
            await manager.kill("microvm-web.service", 15)
    assert [bus.connected for bus in OPENED] == [False] * 3
