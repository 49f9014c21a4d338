"""Forwards, as QEMU's monitor tells and moves them, with monitors that fail in the middle."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import DriverError
from reconciler.model.machine import Forward, Seat, UserNetwork
from reconciler.model.names import GenerationNumber, InstanceId
from reconciler.vmm.qemu.forwards import Row, hand_over, open_ports, parse
from tests.unit.vmm.test_qmp import negotiate, peer, send

WEB = Forward(8080, 80)
DNS = Forward(8053, 53, "udp", "0.0.0.0")  # noqa: S104

TABLE = """\
Hub -1 (net0):\r
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r
  TCP[SYN_SENT]      14       127.0.0.1  8080       10.0.2.15    80     0     0\r
  TCP[HOST_FORWARD]  12       127.0.0.1  8080       10.0.2.15    80     0     0\r
Hub -1 (net1):\r
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r
  UDP[HOST_FORWARD]  13               *  8053       10.0.2.15    53     0     0\r
  UDP[236 sec]       15       10.0.2.15 40000         8.8.8.8    53     0     0\r
"""


def test_the_table_is_read_as_qemu_7_writes_it() -> None:
    assert parse(TABLE) == (
        Row(0, "SYN_SENT", WEB), Row(0, "HOST_FORWARD", WEB), Row(1, "HOST_FORWARD", DNS),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "nothing\n\0", "TCP[HOST_FORWARD] x y z\n" * 1000])
def test_a_table_that_is_none_has_no_rows(text: str) -> None:
    assert parse(text) == ()


class Vmm:
    """A monitor that keeps forwards; `refuses` are lines that it answers with an error."""

    def __init__(self, folder: Path, host: list[Vmm], *forwards: tuple[int, Forward]) -> None:
        self.folder = folder
        self.host = host
        """All VMMs of this host: a port is had by one of them only."""
        host.append(self)
        self.forwards = list(forwards)
        self.refuses: tuple[str, ...] = ()
        self.hangs_up_at = ""
        self.silent_at = ""
        self.on_look: Callable[[], object] = lambda: None
        self.heard: list[str] = []
        self.busy = 0
        """Looks for which a request stays under way."""
        self.next_port = 40000

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with peer(self.folder, self._serve):
            yield

    def seat(self, *networks: tuple[Forward, ...]) -> Seat:
        nets = tuple(UserNetwork("52:54:00:00:00:01", forwards) for forwards in networks)
        return Seat(InstanceId("i"), GenerationNumber(1), str(self.folder), nets)

    async def _serve(self, reader: Any, writer: Any) -> None:
        await negotiate(reader, writer)
        text, decoder = "", json.JSONDecoder()
        while chunk := await reader.read(4096):
            text += chunk.decode()
            while text.strip():
                try:
                    request, end = decoder.raw_decode(text.lstrip())
                except ValueError:
                    break  # the rest of it is still to come
                text = text.lstrip()[end:]
                line = request["arguments"]["command-line"]
                self.heard.append(line)
                if self.hangs_up_at and line.startswith(self.hangs_up_at):
                    return
                if not self.silent_at or not line.startswith(self.silent_at):
                    send(writer, {"return": self._answer(line), "id": request["id"]})

    def _answer(self, line: str) -> str:
        if any(line.startswith(start) for start in self.refuses):
            return f"Could not set up host forwarding rule '{line}'\r\n"
        verb, *rest = line.split()
        if verb == "info":
            return self._table()
        net, place = int(rest[0].removeprefix("net")), rest[1]
        protocol, address, tail = place.split(":", 2)
        host, _, guest = tail.partition("-:")
        if verb == "hostfwd_add":
            if host == "0":
                self.next_port += 1
                host = str(self.next_port)
            forward = Forward(int(host), int(guest), "udp" if protocol == "udp" else "tcp", address)
            if any(f.host == forward.host for vmm in self.host for _, f in vmm.forwards):
                return f"Could not set up host forwarding rule '{line}'\r\n"
            self.forwards.append((net, forward))
            return ""
        self.forwards = [
            (n, f)
            for n, f in self.forwards
            if (n, f.protocol, f.address, f.host) != (net, protocol, address, int(host))
        ]
        return f"host forwarding rule for {place} removed\r\n"

    def _table(self) -> str:
        self.on_look()
        text = ""
        self.busy -= 1
        for net in sorted({n for n, _ in self.forwards} | {0}):
            text += f"Hub -1 (net{net}):\r\n"
            if self.busy >= 0:
                text += "  TCP[ESTABLISHED]  9  127.0.0.1 8080  10.0.2.15 80  0  0\r\n"
            for n, f in self.forwards:
                if n == net:
                    at = "*" if f.address == "0.0.0.0" else f.address  # noqa: S104
                    kind = f"{f.protocol.upper()}[HOST_FORWARD]"
                    text += f"  {kind}  9  {at} {f.host}  10.0.2.15 {f.guest}  0  0\r\n"
        return text


@pytest.fixture
def host() -> list[Vmm]:
    return []


@pytest.fixture
def old(tmp_path: Path, host: list[Vmm]) -> Vmm:
    return Vmm(tmp_path / "old", host, (0, WEB), (1, DNS))


@pytest.fixture
def new(tmp_path: Path, host: list[Vmm]) -> Vmm:
    return Vmm(tmp_path / "new", host, (0, Forward(40001, 80)))


NETWORKS = ((WEB,), (DNS,))


async def test_each_port_moves_at_once_and_the_ports_of_the_trial_go(old: Vmm, new: Vmm) -> None:
    async with old.listening(), new.listening():
        await hand_over(old.seat(*NETWORKS), new.seat(*NETWORKS), 1.0)
    assert (old.forwards, new.forwards) == ([], [(0, WEB), (1, DNS)])


async def test_a_move_that_was_done_is_done_again_without_a_change(old: Vmm, new: Vmm) -> None:
    async with old.listening(), new.listening():
        for _ in range(2):
            await hand_over(old.seat(*NETWORKS), new.seat(*NETWORKS), 0.0)
    assert (old.forwards, new.forwards) == ([], [(0, WEB), (1, DNS)])
    assert not any(line.startswith("hostfwd_add") for line in new.heard[-3:])


async def test_a_move_that_died_in_the_middle_is_carried_on(old: Vmm, new: Vmm) -> None:
    old.forwards = [(1, DNS)]
    async with old.listening(), new.listening():
        await hand_over(old.seat(*NETWORKS), new.seat(*NETWORKS), 0.0)
    assert (old.forwards, new.forwards) == ([], [(0, WEB), (1, DNS)])


async def test_ports_that_the_new_guest_does_not_have_any_more_are_given_up(
    old: Vmm, new: Vmm
) -> None:
    async with old.listening(), new.listening():
        await hand_over(old.seat(*NETWORKS), new.seat((WEB,)), 0.0)
    assert (old.forwards, new.forwards) == ([], [(0, WEB)])


async def test_a_port_that_cannot_be_taken_goes_back_with_all_others(old: Vmm, new: Vmm) -> None:
    new.refuses = ("hostfwd_add net1",)
    async with old.listening(), new.listening():
        with pytest.raises(DriverError) as caught:
            await hand_over(old.seat(*NETWORKS), new.seat(*NETWORKS), 0.0)
    assert caught.value.kind == "port"
    assert sorted(old.forwards, key=lambda f: f[0]) == [(0, WEB), (1, DNS)]
    assert (0, WEB) not in new.forwards


async def test_a_new_guest_that_hangs_up_in_the_middle_costs_the_old_one_nothing(
    old: Vmm, new: Vmm
) -> None:
    new.hangs_up_at = "hostfwd_add net1"
    async with old.listening(), new.listening():
        with pytest.raises(DriverError):
            await hand_over(old.seat(*NETWORKS), new.seat(*NETWORKS), 0.0)
    assert (1, DNS) in old.forwards


async def test_an_old_guest_that_does_not_answer_is_told_and_nothing_is_touched(
    old: Vmm, new: Vmm
) -> None:
    async with new.listening():
        with pytest.raises(DriverError) as caught:
            await hand_over(old.seat(*NETWORKS), new.seat(*NETWORKS), 0.0)
    assert caught.value.kind == "missing"
    assert new.heard == []


async def test_requests_under_way_at_the_old_guest_are_waited_for(old: Vmm, new: Vmm) -> None:
    old.busy = 4
    async with old.listening(), new.listening():
        await hand_over(old.seat(*NETWORKS), new.seat(*NETWORKS), 5.0)
    assert old.busy == -1


async def test_a_new_guest_can_be_asked_as_on_its_trial_until_the_old_one_is_done(
    old: Vmm, new: Vmm
) -> None:
    old.busy, trial = 4, (0, Forward(40001, 80))
    seen: list[bool] = []
    old.on_look = lambda: seen.append(trial in new.forwards)
    async with old.listening(), new.listening():
        await hand_over(old.seat(*NETWORKS), new.seat(*NETWORKS), 5.0)
    assert len(seen) > 4
    assert all(seen)
    assert trial not in new.forwards


async def test_a_connection_that_is_kept_is_waited_for_no_longer_than_allowed(
    old: Vmm, new: Vmm
) -> None:
    old.busy = 10_000
    async with old.listening(), new.listening():
        await hand_over(old.seat(*NETWORKS), new.seat(*NETWORKS), 0.2)
    assert new.forwards == [(0, WEB), (1, DNS)]


async def test_ports_of_a_trial_are_the_kernels_choice_and_stay_when_asked_again(new: Vmm) -> None:
    new.forwards = []
    async with new.listening():
        first = await open_ports(new.seat((WEB,)))
        assert first == await open_ports(new.seat((WEB,)))
    assert first == ((8080, 40001),)


async def test_a_new_guest_that_falls_silent_costs_its_deadline_and_the_old_one_nothing(
    old: Vmm, new: Vmm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.vmm.qemu.forwards.DEADLINE", 0.5)
    new.silent_at = "hostfwd_add net1"
    async with old.listening(), new.listening():
        with pytest.raises(DriverError) as caught:
            await hand_over(old.seat(*NETWORKS), new.seat(*NETWORKS), 0.0)
    assert caught.value.kind == "timeout"
    assert sorted(old.forwards, key=lambda f: f[0]) == [(0, WEB), (1, DNS)]


async def test_a_trial_whose_guest_has_its_own_ports_already_gets_others_beside(new: Vmm) -> None:
    new.forwards = [(0, WEB)]
    async with new.listening():
        assert await open_ports(new.seat((WEB,))) == ((8080, 40001),)
    assert (0, WEB) in new.forwards
