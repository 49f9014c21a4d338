"""Stories of VMs on a bridge: their taps come and go with their guests, and nobody else's are touched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.checks import HttpCheck
from reconciler.model.desired import VMSpec
from reconciler.model.observed import Link
from reconciler.model.policy import Policy
from reconciler.model.request import Suspend
from tests.world import World, changed, state, vm

pytestmark = pytest.mark.shows(fault=44)


def waits(world: World, name: str) -> dict[str, str]:
    found = next(v for v in world.status().vms if v.name == name)
    return {wait.kind: wait.why for wait in found.waits}


@pytest.fixture
async def world() -> World:
    """One VM on br0, well and committed."""
    made = World(
        Policy("/state", prune=True, memory_reserve_mib=0, disk_reserve_mib=0, bridges=("br0",))
    )
    await made.push(state(vm("web", bridge="br0")))
    await made.settle()
    assert made.taps.links["t0-web"] == Link("tap", made.record("web").name, "br0")
    return made


async def some_passes(world: World, count: int = 30) -> None:
    for _ in range(count):
        await world.step()
        world.clock.advance(1.0)


async def test_an_update_and_a_rollback_go_on_with_the_tap(world: World) -> None:
    world.hypervisor.behaviour = lambda m: "bad" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2", bridge="br0")))
    await world.settle()
    assert world.generation("web", 2).verdict == "condemned"
    assert world.hypervisor.running() == {"web": 1}
    assert world.taps.ours() == {"t0-web": "web"}


async def test_a_tap_of_another_name_replaces_the_old_one(world: World) -> None:
    await world.push(state(vm("web", bridge="br0", tap="uplink")))
    await world.settle()
    assert world.taps.ours() == {"uplink": "web"}


async def test_the_tap_of_a_removed_vm_is_gone(world: World) -> None:
    await world.push(state(vm("db"), vm("web", bridge="br0")))
    await world.settle()
    await world.push(state(vm("db")))
    await world.settle()
    assert world.taps.ours() == {}
    assert world.hypervisor.running().keys() == {"db"}


async def test_a_vm_that_leaves_its_bridge_leaves_no_tap(world: World) -> None:
    await world.push(state(vm("web")))
    await world.settle()
    assert world.taps.ours() == {}


async def test_a_restarted_bridge_gets_its_taps_back_and_no_guest_is_touched(world: World) -> None:
    before = world.hypervisor.living("web").process.instance
    world.taps.restart_bridge("br0")
    await some_passes(world)
    assert world.taps.links["t0-web"].bridge == "br0"
    assert world.hypervisor.living("web").process.instance == before
    (told,) = world.events("tap-plugged")
    assert "t0-web had left bridge br0" in told


@pytest.mark.shows(fault=29)
async def test_a_guest_that_was_cut_off_is_neither_condemned_nor_started_again(
    world: World,
) -> None:
    await world.push(state(vm("web", "v2", bridge="br0", min_healthy=20.0)))
    await some_passes(world, 5)
    assert world.hypervisor.running() == {"web": 2}
    trial = world.hypervisor.living("web").process.instance
    world.taps.restart_bridge("br0")
    bridge = world.taps.links.pop("br0")
    await some_passes(world, 20)
    assert "could not be asked" in waits(world, "web")["probe"]
    world.taps.links["br0"] = bridge
    await world.settle()
    assert world.generation("web", 2).verdict == "committed"
    assert world.hypervisor.living("web").process.instance == trial


async def test_a_guest_that_is_ill_beside_its_loose_tap_is_started_again_once_plugged_in(
    world: World,
) -> None:
    before = world.hypervisor.living("web").process.instance
    world.hypervisor.living("web").fate = "faint"
    world.taps.restart_bridge("br0")
    await some_passes(world, 60)
    assert world.hypervisor.living("web").process.instance != before
    assert world.taps.links["t0-web"].bridge == "br0"


async def test_a_tap_waits_for_its_bridge_to_come_back(world: World) -> None:
    world.taps.restart_bridge("br0")
    del world.taps.links["br0"]
    await some_passes(world)
    assert "the host has no bridge br0" in waits(world, "web")["network"]
    assert world.hypervisor.running() == {"web": 1}
    world.taps.links["br0"] = Link("bridge")
    await world.settle()
    assert world.taps.links["t0-web"].bridge == "br0"


async def test_without_the_bridge_an_update_stops_nothing(world: World) -> None:
    await world.push(state(vm("web", "v2", bridge="br1")))
    world.policy = Policy(
        "/state", memory_reserve_mib=0, disk_reserve_mib=0, bridges=("br0", "br1")
    )
    await world.restart()
    await some_passes(world)
    assert world.hypervisor.running() == {"web": 1}
    assert "no bridge br1: ip link add br1 type bridge" in waits(world, "web")["network"]
    world.taps.links["br1"] = Link("bridge")
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}
    assert world.taps.links["t0-web"].bridge == "br1"


async def test_without_tun_an_update_stops_nothing_and_says_why(world: World) -> None:
    world.taps.hindrance = "/dev/net/tun cannot be used"
    await world.push(state(vm("web", "v2", bridge="br0")))
    await some_passes(world)
    assert world.hypervisor.running() == {"web": 1}
    assert waits(world, "web")["network"] == "/dev/net/tun cannot be used"
    world.taps.hindrance = ""
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}


async def test_a_bridge_that_the_config_allows_no_more_starts_nothing(world: World) -> None:
    world.policy = Policy("/state", memory_reserve_mib=0, disk_reserve_mib=0)
    await world.restart()
    world.hypervisor.kill("web")
    await some_passes(world)
    assert world.hypervisor.running() == {}
    assert "br0 is not among policy.bridges" in waits(world, "web")["network"]


async def test_a_strangers_interface_is_a_conflict_and_is_left_alone(world: World) -> None:
    theirs = Link("tap")
    world.taps.links["uplink"] = theirs
    await world.push(state(vm("web", "v2", bridge="br0", tap="uplink")))
    await some_passes(world)
    assert world.hypervisor.running() == {"web": 1}
    assert "uplink is there, and not ours" in waits(world, "web")["network"]
    assert world.taps.links["uplink"] is theirs
    del world.taps.links["uplink"]
    await world.settle()
    assert world.taps.ours() == {"uplink": "web"}


async def test_a_guest_whose_tap_somebody_took_away_is_started_again_with_a_new_one(
    world: World,
) -> None:
    before = world.hypervisor.living("web").process.instance
    del world.taps.links["t0-web"]
    await some_passes(world, 40)
    assert world.taps.links["t0-web"].bridge == "br0"
    assert world.hypervisor.living("web").process.instance != before


async def test_a_tap_that_was_taken_away_from_a_guest_without_checks_is_told(world: World) -> None:
    await world.push(state(vm("web", "v2", bridge="br0", checked=False)))
    await world.settle()
    del world.taps.links["t0-web"]
    await some_passes(world, 8)
    assert "`reconciler restart web` creates it again" in waits(world, "web")["network"]


async def test_a_tap_that_became_somebody_elses_is_left_as_it_is(world: World) -> None:
    theirs = world.taps.links["t0-web"] = Link("tap")
    await some_passes(world, 40)
    assert "t0-web is there, and not ours" in waits(world, "web")["network"]
    assert world.taps.links["t0-web"] is theirs


async def test_leftovers_of_a_daemon_that_died_are_collected(world: World) -> None:
    gone = world.record("web").name.replace("web", "gone")
    world.taps.links["t0-gone"] = Link("tap", type(world.record("web").name)(gone), "br0")
    await world.restart()
    await world.settle()
    assert world.taps.ours() == {"t0-web": "web"}


async def test_a_lost_ledger_takes_no_tap_from_a_guest(world: World) -> None:
    world.ledger.__init__(world.faults)  # type: ignore[misc]  # as a ledger that was set aside
    await world.restart()
    await some_passes(world)
    assert world.taps.ours() == {"t0-web": "web"}


async def test_a_suspended_vm_keeps_its_taps_as_they_are(world: World) -> None:
    await world.ask(Suspend("web"))
    world.taps.restart_bridge("br0")
    world.hypervisor.kill("web")
    await some_passes(world)
    assert world.taps.links["t0-web"].bridge == ""


async def test_a_tap_that_cannot_be_plugged_in_is_tried_again_with_pauses(world: World) -> None:
    world.faults.chooser = lambda _n, call: "error" if call == "plug-tap" else None
    world.taps.restart_bridge("br0")
    await some_passes(world, 60)
    tries = world.faults.calls.count("plug-tap")
    assert 2 <= tries <= 8
    world.faults.chooser = lambda _n, _call: None
    await some_passes(world, 120)
    assert world.taps.links["t0-web"].bridge == "br0"


def at(address: str, host: str = "", content: str = "v2") -> VMSpec:
    """A VM on br0 with an address of its own, at which it is asked."""
    spec = vm("web", content, bridge="br0")
    checks = tuple(replace(c, host=host or address.partition("/")[0]) for c in (HttpCheck(80),))
    taps = tuple(replace(tap, address=address) for tap in spec.taps)
    return changed(spec, taps=taps, health={"checks": checks})


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.168.77.5/32", "is in no network of bridge br0 (10.20.0.0/24)"),
        ("127.0.0.1/8", "is in no network of bridge br0"),
        ("169.254.169.254/16", "is in no network of bridge br0"),
        ("10.20.1.5/16", "is in no network of bridge br0"),
        ("10.20.0.1/24", "is the host's own on bridge br0"),
        ("10.20.0.255/24", "means all hosts"),
    ],
)
async def test_an_address_outside_the_bridges_network_is_never_asked_and_stops_nothing(
    world: World, address: str, why: str
) -> None:
    world.taps.links["br0"] = Link("bridge", addresses=("10.20.0.1/24",))
    await world.push(state(at(address)))
    await some_passes(world)
    assert world.hypervisor.running() == {"web": 1}
    assert world.hypervisor.stops["web"] == 0
    assert why in waits(world, "web")["network"]
    asked = {
        c.host
        for p in world.hypervisor.watched.values()
        for c in p.checks
        if isinstance(c, HttpCheck)
    }
    assert asked == {"127.0.0.1"}, "what it was asked at before"


async def test_a_bridge_without_an_address_starts_no_guest_that_is_asked_on_it(
    world: World,
) -> None:
    await world.push(state(at("10.20.0.5/24")))
    await some_passes(world)
    assert "bridge br0 has no address" in waits(world, "web")["network"]
    await world.push(state(at("10.20.0.5/24", host="127.0.0.1")))
    await world.settle()
    assert world.last_good("web").spec.taps[0].ip == "10.20.0.5", "it is asked elsewhere"


async def test_a_guest_on_a_bridge_is_asked_by_way_of_it(world: World) -> None:
    world.taps.links["br0"] = Link("bridge", addresses=("10.20.0.1/24", "10.30.0.1/16"))
    await world.push(state(at("10.30.4.5/16")))
    await world.settle()
    guest = world.hypervisor.living("web").process.instance
    (check,) = world.hypervisor.watched[guest].checks
    assert isinstance(check, HttpCheck)
    assert (check.host, check.device) == ("10.30.4.5", "br0")
