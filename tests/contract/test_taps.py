"""What the engine expects of the host's taps: the fake, and the kernel in a network namespace of its own."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from reconciler.engine.guest_interfaces import Taps
from reconciler.errors import DriverError
from reconciler.model.machine import Tap
from reconciler.model.names import VMName
from reconciler.model.observed import Link, Links
from reconciler.vmm.netlink import TUN, TUNSETIFF, Owner, hindrance
from reconciler.vmm.tap_devices import BridgedTaps, NoTaps
from tests.contract.netns import leave, needs_the_kernel
from tests.fakes import FakeClock, FakeTaps, Faults

WEB, DB = VMName("web"), VMName("db")
TAP = Tap("t0-web", "br0", "02:00:00:00:00:01", 0)
OTHER = Tap("t1-web", "br0", "02:00:00:00:00:02", 1)


class Net(Protocol):
    """A host whose interfaces a test may change behind the adapter's back."""

    @property
    def taps(self) -> Taps: ...
    def bridge(self, name: str) -> None: ...
    def stranger(self, name: str) -> None: ...
    def unplug(self, name: str) -> None: ...
    def close(self) -> None: ...


@dataclass
class Memory:
    taps: FakeTaps

    def bridge(self, name: str) -> None:
        self.taps.links[name] = Link("bridge")

    def stranger(self, name: str) -> None:
        self.taps.links[name] = Link("tap", up=False)

    def unplug(self, name: str) -> None:
        self.taps.links[name] = Link("tap", self.taps.links[name].owner)

    def close(self) -> None:
        pass


class Kernel:
    """Everything happens in one thread, which has left the machine's own network namespace."""

    def __init__(self, state: Path) -> None:
        self._thread = ThreadPoolExecutor(1, initializer=leave)
        self.state = state
        self.taps: Taps = self.another_daemon(state)

    def another_daemon(self, state: Path, owner: Owner | None = None) -> BridgedTaps:
        return BridgedTaps(state, owner or Owner(uid=os.geteuid()), self._thread)

    def ask(self, work: Any) -> Any:
        from pyroute2 import IPRoute  # type: ignore[import-untyped]  # noqa: PLC0415

        def run() -> Any:
            with IPRoute() as netlink:
                return work(netlink)

        return self._thread.submit(run).result(10)

    def index(self, name: str) -> int:
        return int(self.ask(lambda n: n.link_lookup(ifname=name))[0])

    def bridge(self, name: str) -> None:
        self.ask(lambda n: n.link("add", ifname=name, kind="bridge"))

    def stranger(self, name: str) -> None:
        self.ask(lambda n: n.link("add", ifname=name, kind="tuntap", mode="tap"))

    def unplug(self, name: str) -> None:
        self.ask(lambda n: n.link("set", index=n.link_lookup(ifname=name)[0], master=0))

    def open(self, name: str) -> int:
        """As a VMM opens a tap. Raises OSError."""

        def run() -> int:
            descriptor = os.open(TUN, os.O_RDWR)
            try:
                fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), 0x5002))
            except OSError:
                os.close(descriptor)
                raise
            return descriptor

        return self._thread.submit(run).result(10)

    def close(self) -> None:
        self._thread.shutdown()  # the namespace ends with its last thread, and takes all with it


@pytest.fixture(params=["memory", "kernel"])
def net(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Net]:
    made: Net
    if request.param == "memory":
        made = Memory(FakeTaps(Faults(FakeClock())))
    else:
        needs_the_kernel()
        made = Kernel(tmp_path)
        made.bridge("br0")
    yield made
    made.close()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    needs_the_kernel()
    made = Kernel(tmp_path)
    made.bridge("br0")
    yield made
    made.close()


async def found(net: Net) -> dict[str, Link]:
    seen = await net.taps.look()
    assert isinstance(seen, Links)
    assert seen.hindrance == ""
    return dict(seen.found)


async def test_a_tap_is_made_plugged_in_and_up(net: Net) -> None:
    assert (await found(net))["br0"].kind == "bridge"
    await net.taps.make(WEB, (TAP, OTHER))
    seen = await found(net)
    assert seen["t0-web"] == seen["t1-web"] == Link("tap", WEB, "br0", up=True)
    assert seen["lo"].owner is None


async def test_making_what_is_there_changes_nothing(net: Net) -> None:
    await net.taps.make(WEB, (TAP,))
    before = await found(net)
    await net.taps.make(WEB, (TAP,))
    assert await found(net) == before


async def test_a_tap_of_ours_may_go_to_another_vm(net: Net) -> None:
    await net.taps.make(WEB, (TAP,))
    await net.taps.make(DB, (TAP,))
    assert (await found(net))["t0-web"] == Link("tap", DB, "br0", up=True)


async def test_what_a_bridge_lost_is_plugged_in_again(net: Net) -> None:
    await net.taps.make(WEB, (TAP,))
    net.unplug("t0-web")
    assert (await found(net))["t0-web"].bridge == ""
    await net.taps.plug(WEB, (TAP,))
    assert (await found(net))["t0-web"] == Link("tap", WEB, "br0", up=True)


async def test_a_stranger_of_that_name_is_left_as_it_is(net: Net) -> None:
    net.stranger("t0-web")
    before = (await found(net))["t0-web"]
    assert before.owner is None
    with pytest.raises(DriverError, match="t0-web is there, and not ours"):
        await net.taps.make(WEB, (TAP,))
    with pytest.raises(DriverError):
        await net.taps.plug(WEB, (TAP,))
    await net.taps.drop(("t0-web", "lo", "br0"))
    seen = await found(net)
    assert seen["t0-web"] == before
    assert {"lo", "br0"} <= seen.keys()


async def test_without_its_bridge_a_tap_fails_with_words(net: Net) -> None:
    nowhere = Tap("t0-web", "br9", "02:00:00:00:00:01", 0)
    with pytest.raises(DriverError, match="no bridge br9"):
        await net.taps.make(WEB, (nowhere,))
    net.bridge("br9")
    await net.taps.make(WEB, (nowhere,))
    assert (await found(net))["t0-web"].bridge == "br9"


async def test_what_is_gone_is_not_plugged_and_dropped_quietly(net: Net) -> None:
    with pytest.raises(DriverError, match="gone"):
        await net.taps.plug(WEB, (TAP,))
    await net.taps.make(WEB, (TAP,))
    await net.taps.drop(("t0-web",))
    await net.taps.drop(("t0-web",))
    assert "t0-web" not in await found(net)


# The kernel alone


async def test_a_later_daemon_knows_its_taps_and_another_state_directory_does_not(
    kernel: Kernel, tmp_path: Path
) -> None:
    await kernel.taps.make(WEB, (TAP,))
    assert (await kernel.another_daemon(tmp_path).look()).found["t0-web"].owner == WEB
    other = kernel.another_daemon(tmp_path / "other")
    assert (await other.look()).found["t0-web"].owner is None
    await other.drop(("t0-web",))
    assert "t0-web" in (await kernel.taps.look()).found


async def test_a_tap_whose_guest_runs_is_not_made_under_its_hands(kernel: Kernel) -> None:
    await kernel.taps.make(WEB, (TAP,))
    guest = kernel.open("t0-web")
    try:
        with pytest.raises(DriverError, match="in use by another process"):
            await kernel.taps.make(WEB, (TAP,))
        kernel.unplug("t0-web")
        await kernel.taps.plug(WEB, (TAP,))
        assert (await kernel.taps.look()).found["t0-web"].bridge == "br0"
    finally:
        os.close(guest)
    await kernel.taps.make(WEB, (TAP,))


async def test_a_tap_belongs_to_who_runs_the_guest_and_its_host_end_is_no_bridges_mac(
    kernel: Kernel, tmp_path: Path
) -> None:
    grouped = kernel.another_daemon(tmp_path, Owner(gid=12345))
    await kernel.taps.make(WEB, (TAP, OTHER))
    await grouped.make(WEB, (TAP,))
    told = {
        one.get("IFLA_IFNAME"): one for one in kernel.ask(lambda n: list(n.get_links()))
    }  # fmt: skip
    of_tap = ("IFLA_LINKINFO", "IFLA_INFO_DATA")
    assert told["t0-web"].get((*of_tap, "IFLA_TUN_GROUP")) == 12345
    assert told["t0-web"].get((*of_tap, "IFLA_TUN_OWNER")) is None
    assert told["t1-web"].get((*of_tap, "IFLA_TUN_OWNER")) == os.geteuid()
    assert told["t0-web"].get("IFLA_ADDRESS") == "fe:00:00:00:00:01"


async def test_what_was_being_made_at_the_daemons_death_is_gone_with_it(kernel: Kernel) -> None:
    """Until its mark is on it, the kernel keeps no tap beyond the process that makes it."""
    os.close(kernel.open("t0-web"))
    assert "t0-web" not in (await kernel.taps.look()).found


async def test_a_kernel_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    released = asyncio.Event()
    thread = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    thread.submit(lambda: asyncio.run_coroutine_threadsafe(released.wait(), loop).result(30))
    monkeypatch.setattr("reconciler.vmm.tap_devices.DEADLINE", 0.05)
    taps = BridgedTaps(tmp_path, Owner(), thread)
    assert "did not answer" in (await taps.look()).hindrance
    released.set()
    await taps.close()


async def test_where_no_bridge_is_allowed_nothing_is_looked_at_or_made() -> None:
    taps = NoTaps()
    assert await taps.look() == Links(hindrance="policy.bridges of the config allows no bridge")
    with pytest.raises(DriverError):
        await taps.make(WEB, (TAP,))


def test_guests_of_a_group_must_be_let_at_the_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tun = tmp_path / "tun"
    tun.touch(mode=0o600)
    monkeypatch.setattr("reconciler.vmm.netlink.TUN", tun)
    assert "chmod 666" in hindrance(Owner(gid=12345))
    assert "chmod" not in hindrance(Owner(uid=0))
    tun.chmod(0o666)
    assert "chmod" not in hindrance(Owner(gid=12345))
    tun.chmod(0o660)
    assert "chmod" not in hindrance(Owner(gid=tun.stat().st_gid))


async def test_a_bridge_is_seen_with_the_addresses_of_the_host_on_it(kernel: Kernel) -> None:
    index = kernel.index("br0")
    kernel.ask(lambda n: n.addr("add", index=index, address="10.20.0.1", prefixlen=24))
    kernel.ask(lambda n: n.addr("add", index=index, address="10.30.0.1", prefixlen=16))
    found = (await kernel.taps.look()).found
    assert found["br0"].addresses == ("10.20.0.1/24", "10.30.0.1/16")
    assert found["lo"].addresses == ()
