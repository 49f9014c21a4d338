"""Rows 6-15 of the fault matrix: guests that die, hang or do not go, and others in their place."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.config import PolicyConfig
from reconciler.errors import DriverError, ManifestErrors
from reconciler.model.names import InstanceId, VMName
from reconciler.model.status import VMStatus
from reconciler.source.manifests.folder import load_folder
from tests.world import World, listeners, state, vm

MANIFEST = """\
apiVersion: reconciler/v1
kind: MicroVM
metadata: {name: NAME}
spec:
  hypervisor: qemu
  vcpu: 1
  memory: 256MiB
  kernel: debian
  store: {layers: [busybox: {}, tree: ./web]}
  interfaces:
    - type: user
      mac: 52:54:00:00:00:01
      forward: [{host: 8080, guest: 80}]
    - type: tap
      bridge: br0
      id: uplink
      address: 10.20.0.5/24
"""


async def settled(*names: str) -> World:
    return await World.settled(state(*(vm(name) for name in names)))


def status(world: World, name: str) -> VMStatus:
    return next(each for each in world.status().vms if each.name == name)


@pytest.mark.shows(row=6)
async def test_row_06_a_guest_killed_in_steady_state_is_started_again_and_counted_no_rollback() -> (
    None
):
    world = await settled("web", "other")
    pauses = []
    for _ in range(4):
        world.hypervisor.kill("web")
        ended = world.clock.now().boot
        while "web" not in world.hypervisor.running():
            await world.step()
            world.clock.advance(0.25)
        pauses.append(world.clock.now().boot - ended)
    await world.settle()
    assert pauses == sorted(pauses)
    assert pauses[-1] > 4 * pauses[0], "each pause is longer than the one before"
    assert dict(world.record("web").restarts) == {"crash": 4}
    assert world.hypervisor.running() == {"web": 1, "other": 1}
    assert world.record("web").blocked == ()
    assert world.hypervisor.starts["other"] == 1


@pytest.mark.shows(promise=4, row=7)
@pytest.mark.parametrize("healthy", [False, True], ids=["while-probing", "while-soaking"])
async def test_row_07_a_guest_killed_on_trial_has_failed_and_is_rolled_back(
    *, healthy: bool
) -> None:
    world = await settled("web")
    world.hypervisor.behaviour = lambda m: "good" if healthy or m.generation == 1 else "bad"
    await world.push(state(vm("web", "v2", min_healthy=20.0)))
    while world.hypervisor.running() != {"web": 2}:
        await world.step()
    await world.run(3.0)
    kinds = {wait.kind for wait in status(world, "web").waits}
    assert ("soak" in kinds, "starting" in kinds) == (healthy, not healthy)
    world.hypervisor.kill("web")
    await world.settle()
    assert world.hypervisor.running() == {"web": 1}
    evidence = world.generation("web", 2).evidence
    assert evidence is not None
    assert evidence.kind == "exited"


@pytest.mark.shows(comparison=5, row=8)
async def test_row_08_a_vm_that_crash_loops_on_the_old_image_after_rollback_ends_in_quarantine() -> (
    None
):
    world = await settled("web")
    world.hypervisor.behaviour = lambda _m: "exits"
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert world.record("web").quarantine is not None
    assert world.meter.counts["rollback failed"] == 1
    assert [e.severity for e in world.ledger.history if e.kind == "quarantined"] == ["error"]
    await world.run(900.0)
    tried = [number for kind, _, number in world.hypervisor.log if kind == "start"]
    assert tried == [1, 2, 1], "one way forward, one way back, no ping-pong"


@pytest.mark.shows(row=8)
async def test_row_08_an_old_image_that_breaks_after_the_rollback_is_not_answered_with_the_bad_one() -> (
    None
):
    world = await settled("web")
    world.hypervisor.behaviour = lambda m: "exits" if m.generation == 2 else "good"
    await world.push(state(vm("web", "v2")))
    await world.settle()
    assert world.events("rolled-back")
    for _ in range(5):
        world.hypervisor.kill("web")
        await world.run(60.0)
    tried = [number for kind, _, number in world.hypervisor.log if kind == "start"]
    assert tried == [1, 2, 1, 1, 1, 1, 1, 1]


@pytest.mark.shows(row=9)
async def test_row_09_a_guest_that_ignores_the_power_button_gets_sigterm_and_then_sigkill() -> None:
    world = await settled("web")
    world.hypervisor.living("web").ignores_power_button = True
    sent: list[int] = []
    really = world.hypervisor.signal

    async def deaf_to_sigterm(instance: InstanceId, number: int) -> None:
        sent.append(number)
        if number == signal.SIGKILL:
            await really(instance, number)

    world.hypervisor.signal = deaf_to_sigterm  # type: ignore[method-assign]
    await world.push(state(vm("web", "v2")))
    began = world.clock.now().boot
    while not world.hypervisor.stops["web"]:
        await world.step()
        world.clock.advance(0.5)
    took = world.clock.now().boot - began
    await world.settle()
    assert sent == [signal.SIGTERM, signal.SIGKILL]
    assert 15 <= took <= 18, "5 s for the power button, as its stopTimeout says, and 10 s more"
    assert world.hypervisor.running() == {"web": 2}


@pytest.mark.shows(row=10)
async def test_row_10_a_vm_that_cannot_be_killed_gets_no_second_guest_and_holds_up_nobody() -> None:
    world = await settled("web", "other")
    world.hypervisor.unkillable.add(VMName("web"))
    await world.push(state(vm("web", "v2"), vm("other", "v2")))
    await world.run(300.0)
    assert world.hypervisor.running() == {"web": 1, "other": 2}
    assert world.hypervisor.starts["web"] == 1
    assert "the VMM of web outlives SIGKILL" in world.events("stop-failed")[0]
    world.hypervisor.unkillable.clear()
    await world.settle()
    assert world.hypervisor.running() == {"web": 2, "other": 2}


@pytest.mark.shows(row=11)
async def test_row_11_a_vmm_that_accepts_and_never_answers_delays_only_its_own_vm() -> None:
    world = await settled("web", "other")
    press = world.hypervisor.press_power_button

    async def hang(folder: Path, pid: int, deadline: float) -> None:
        if folder.name == "web":
            await world.clock.sleep(deadline)
            raise DriverError("no answer in time")
        await press(folder, pid, deadline)

    world.hypervisor.press_power_button = hang  # type: ignore[method-assign]
    await world.push(state(vm("web", "v2"), vm("other", "v2")))
    for _ in range(12):
        await world.step()  # and the clock stands still: the hung one is waited for by nobody
    assert world.hypervisor.running()[VMName("other")] == 2
    assert status(world, "web").why.startswith("stop in progress")
    await world.settle()
    assert world.hypervisor.running() == {"web": 2, "other": 2}


@pytest.mark.shows(row=12)
@pytest.mark.parametrize("what", ["no such file", "this is no QMP", "the reply is too long"])
async def test_row_12_a_control_socket_that_is_of_no_use_is_made_up_for_by_signals(
    what: str,
) -> None:
    world = await settled("web")
    pressed = 0

    async def fail(_folder: Path, _pid: int, _deadline: float) -> None:
        nonlocal pressed
        pressed += 1
        raise DriverError(what)

    world.hypervisor.press_power_button = fail  # type: ignore[method-assign,assignment]
    await world.push(state(vm("web", "v2")))
    await world.settle(30.0)
    assert pressed == 1
    assert world.hypervisor.running() == {"web": 2}
    assert world.record("web").blocked == ()


@pytest.mark.shows(row=13)
async def test_row_13_a_stranger_in_the_place_of_a_guest_is_told_and_neither_killed_nor_joined() -> (
    None
):
    world = World()
    world.hypervisor.foreign[VMName("web")] = "process 4711 holds the lock of web"
    await world.push(state(vm("web"), vm("other")))
    await world.run(60.0)
    assert world.hypervisor.running() == {"other": 1}
    assert world.hypervisor.starts["web"] == 0
    assert not {"signal", "power-button"} & set(world.faults.calls)
    assert "process 4711" in world.why("web")
    assert "conflict" in {wait.kind for wait in status(world, "web").waits}
    world.hypervisor.foreign.clear()
    await world.settle()
    assert world.hypervisor.running() == {"web": 1, "other": 1}


@pytest.mark.shows(row=14)
def test_row_14_ports_and_addresses_that_collide_in_one_commit_are_told_with_both_places(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(MANIFEST.replace("NAME", name))
    (tmp_path / "web").mkdir()
    with pytest.raises(ManifestErrors) as refused:
        load_folder(tmp_path, PolicyConfig(bridges=["br0"]))
    mac, port, tap, address = map(str, refused.value.problems)
    assert mac.startswith("b.yaml:12:12: ")
    assert "first declared at a.yaml:12:12" in mac
    assert port.startswith("b.yaml:13:24: tcp port 8080")
    assert "first declared at a.yaml:13:24" in port
    assert tap.startswith("b.yaml:16:11: tap uplink is taken by a (first declared at a.yaml:16:11")
    assert address.startswith("b.yaml:17:16: address 10.20.0.5 is taken by a (first declared at a.")


@pytest.mark.shows(promise=1, row=15)
async def test_row_15_a_port_that_an_unrelated_process_took_is_noticed_before_anything_stops() -> (
    None
):
    world = World()
    await world.push(state(vm("web", port=8080)))
    await world.settle()
    world.host.value = replace(world.host.value, listening=listeners(8080, 9090))
    await world.push(state(vm("web", port=9090)))
    await world.run(30.0)
    assert world.hypervisor.stops["web"] == 0
    assert "port 9090 of the host is taken: another process listens on it" in world.why("web")
    world.host.value = replace(world.host.value, listening=listeners(8080))
    await world.run(10.0)
    await world.settle()
    assert world.hypervisor.running() == {"web": 2}, "and goes on by itself once it is free"
