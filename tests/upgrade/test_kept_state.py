"""A ledger, mirror, generations and guests' files of an earlier commit: read as they were meant, and continued."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.repository import Repository
from reconciler.clock import SystemClock
from reconciler.host import layout
from reconciler.image.store import ImageStore
from reconciler.ledger.codec import decode, encode
from reconciler.ledger.sqlite import SqliteLedger, open_ledger
from reconciler.model.event import Event
from reconciler.model.guest_reports import Announced
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.names import GroupName, VMName
from reconciler.model.policy import Policy
from reconciler.model.record import GroupRecord, Intent, Record, SourceRecord, VMRecord
from reconciler.planning.machines import machine_of
from reconciler.proxy import messages
from reconciler.requests.source_changes import lineage
from reconciler.source.git.clients import TreeExporter
from reconciler.source.git.source import GitSource
from reconciler.supervisor import guest_file
from reconciler.supervisor.guest_discovery import folders
from reconciler.vmm.generation_folders import GenerationFolders
from tests.fakes import FakeClock
from tests.fakes.guest import FakeGuest
from tests.unit.source.repositories import source_of
from tests.upgrade.kept import BAD, CHECKOUT, HELD, Kept, mend, unpack, upstream
from tests.world import World, observed_on

KINDS: dict[str, Any] = {
    "vms": VMRecord, "groups": GroupRecord, "singles": SourceRecord, "events": Event,
    "intents": Intent,
}  # fmt: skip
RENAMED = {"taking": "pending_transfer"}
"""Fields of stored records that have another name since."""
NOBODY = 2**22 + 1
"""A pid that no process can have."""
LATER = 200_000_000.0
"""Seconds from the moment at which a test's clock stands still to one after the fixture was made."""


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return unpack(tmp_path)


def rows(kept: Kept) -> list[tuple[str, bytes]]:
    """Table and body of each row, before any newer version opened the file."""
    ledger = sqlite3.connect(kept.ledger)
    try:
        return [
            (table, body)
            for table in KINDS
            for (body,) in ledger.execute(f"SELECT CAST(body AS BLOB) FROM {table}")  # noqa: S608
        ]
    finally:
        ledger.close()


def unsaid(old: Any, new: Any, at: str = "") -> list[str]:
    """Where the new form, which may say more, does not say what the old one says."""
    match old, new:
        case dict(), dict():
            named = ((key, RENAMED.get(key, key)) for key in old)
            return [
                place
                for key, name in named
                for place in (
                    unsaid(old[key], new[name], f"{at}.{name}") if name in new else [f"{at}.{name}"]
                )
            ]
        case list(), list() if len(old) == len(new):
            pairs = enumerate(zip(old, new, strict=True))
            return [place for n, (was, now) in pairs for place in unsaid(was, now, f"{at}.{n}")]
        case _:
            return [] if old == new else [at]


async def test_every_row_says_what_it_said(kept: Kept) -> None:
    before = rows(kept)
    assert {table for table, _ in before} == KINDS.keys()
    await opened(kept).close()
    after = rows(kept)
    assert len(before) == len(after)
    for (table, old), (_, new) in zip(before, after, strict=True):
        again = encode(decode(KINDS[table], new))
        assert unsaid(json.loads(old), json.loads(again), table) == []


def opened(kept: Kept) -> SqliteLedger:
    found = open_ledger(kept.ledger, FakeClock())
    assert found.recovered is None
    return found.ledger


async def test_the_ledger_keeps_verdicts_holds_and_what_people_asked_for(kept: Kept) -> None:
    ledger = opened(kept)
    try:
        record, events = ledger.record(), await ledger.events(0, 1000)
    finally:
        await ledger.close()
    web, hand = record.vms[VMName(BAD)], record.vms[VMName("hand")]
    assert [g.verdict for g in web.generations] == ["committed", "committed", "condemned"]
    assert [block.generation for block in web.blocked] == [3]
    evidence = web.generations[-1].evidence
    assert evidence is not None
    assert evidence.kind == "startup-timeout"
    hold = record.groups[GroupName("site")].hold
    assert hold is not None
    assert [vm for vm, _ in hold.held] == [HELD]
    assert hand.suspended is not None
    assert hand.suspended.reason == "an upgrade of the controller"
    assert [result.result for result in record.source.revisions] == [
        "converged", "converged", "rolled-back"
    ]  # fmt: skip
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert {"volumes-saved", "handed-over", "rolled-back"} <= {event.kind for event in events}


async def test_folders_of_generations_describe_what_the_ledger_holds(kept: Kept) -> None:
    ledger = opened(kept)
    stored = [g for vm in ledger.record().vms.values() for g in vm.generations]
    await ledger.close()
    assert stored
    for generation in stored:
        found = await GenerationFolders(kept.state / "vms").read(generation.vm, generation.number)
        assert found is not None
        assert (found.digest, found.spec) == (generation.digest, generation.spec)


async def test_images_in_the_store_are_found_under_the_keys_that_the_ledger_names(
    kept: Kept,
) -> None:
    ledger = opened(kept)
    specs = [g.spec for vm in ledger.record().vms.values() for g in vm.generations]
    await ledger.close()
    wanted = {s.key for spec in specs for s in spec.layers if isinstance(s.source, TreeSource)}
    store = ImageStore(kept.state, SystemClock())
    await store.open()
    assert store.layers() == wanted
    await store.close()


async def test_the_process_that_holds_the_ports_is_asked_where_it_was_and_understood(
    kept: Kept,
) -> None:
    folder = layout.proxy_folder(kept.state)
    assert layout.proxy_socket(folder) == kept.proxy.socket
    assert layout.proxy_lock(folder) == kept.proxy.lock
    ledger = opened(kept)
    start = ledger.record().vms[VMName("hand")].start
    await ledger.close()
    assert start is not None
    led = messages.unpack_all(kept.proxy.table)[VMName("hand")]
    assert (led.instance, led.routes) == (start.instance, start.routes)


def test_scripts_of_kept_generations_still_press_the_power_button(kept: Kept) -> None:
    """Units of systemd call the same program at the host's shutdown: a living guest's are not written again."""
    home = kept.state / "vms" / "web"
    script = home / "generations/2/bin/microvm-shutdown"
    assert subprocess.run([script], check=False, timeout=30).returncode == 0, "its guest is gone"
    with socket.socket(socket.AF_UNIX) as vmm:
        vmm.bind(str(home / "run/qmp.sock"))
        vmm.listen()
        with subprocess.Popen([script], stderr=subprocess.PIPE) as pressing:
            peer, _ = vmm.accept()
            with peer:
                peer.sendall(b"no greeting\r\n")
                assert pressing.stderr is not None
                assert b"cannot press the power button" in pressing.stderr.read()
        assert pressing.returncode != 0


def test_the_button_of_a_kept_guest_of_a_runner_is_still_there() -> None:
    former, now = (
        subprocess.run(
            [sys.executable, "-IS", CHECKOUT / "reconciler/vmm" / program, "1", "true"],
            env={"MAINPID": str(NOBODY)}, capture_output=True, check=False, timeout=30,
        )
        for program in ("nix_shutdown.py", "nix_runner/shutdown.py")
    )  # fmt: skip
    assert (former.returncode, former.stderr) == (now.returncode, now.stderr) == (0, b"")


@dataclass
class Continued:
    """The kept state under the engine of today, in a world in which the kept guests run."""

    world: World
    source: GitSource
    repository: Repository

    async def look(self) -> None:
        """What the source finds now becomes what is desired, as if the engine had asked for it."""
        fetched = await self.source.fetch(lineage(self.world.durable.record()))
        assert fetched.state is not None
        await self.world.push(fetched.state)


@pytest.fixture
async def continued(kept: Kept, tmp_path: Path) -> AsyncIterator[Continued]:
    ledger = opened(kept)
    repository = upstream(kept, tmp_path / "people")
    source = source_of(repository.bare, kept.state)
    policy = Policy(state_dir=str(kept.state), memory_reserve_mib=0, disk_reserve_mib=0)
    world = World(policy, durable=ledger)
    world.clock.advance(LATER)
    record = ledger.record()
    assert record.source.revision is not None
    world.source.push(await source.load(record.source.revision))
    await boot_guests(world, kept, record)
    await world.restart()
    yield Continued(world, source, repository)
    await world.workers.close()
    await source.close()
    await ledger.close()


async def boot_guests(world: World, kept: Kept, record: Record) -> None:
    """The guests of the kept files, and the images and routes that they were started with."""
    host = await world.host.facts()
    world.front.table.update(messages.unpack_all(kept.proxy.table))
    for folder in folders(kept.state / "vms"):
        file = guest_file.read(folder)
        if file is None:
            continue
        process = file.process(folder)
        vm = record.vms[process.vm]
        generation = vm.generation(process.generation)
        assert generation is not None
        machine = machine_of(
            generation, process.instance, observed_on(host), str(kept.state), process.slot
        )
        routes = vm.start.routes if vm.start is not None else None
        ports = {f.host: f.host for network in machine.networks for f in network.forwards}
        ports |= {route.target: route.port for route in routes or ()}
        said = Announced(up=process.started_boot + 1)
        guest = FakeGuest(process, machine, "good", world.front, said=said, ports=ports)
        world.hypervisor.guests[process.instance] = guest
        for disk in machine.volumes:
            world.hypervisor.sizes[disk.path] = 16
        await world.images.build_kernel(generation.spec.kernel, TreeExporter(kept.mirror))
        for layer in generation.spec.layers:
            await world.images.build_layer(layer, TreeExporter(kept.mirror))
    world.images.built.clear()


async def test_a_restart_on_it_builds_starts_and_stops_nothing(continued: Continued) -> None:
    world = continued.world
    before = world.durable.record()
    running = world.hypervisor.running()
    await world.run(120)
    assert running == world.hypervisor.running() == {"hand": 2, "plain": 1, "web": 2}
    assert world.hypervisor.log == []
    assert world.images.built == []
    after = world.durable.record()
    assert {vm: [g.number for g in r.generations] for vm, r in before.vms.items()} == {
        vm: [g.number for g in r.generations] for vm, r in after.vms.items()
    }
    assert world.hold("site") == before.groups[GroupName("site")].hold


async def test_the_next_commit_goes_on_where_the_last_one_was_held(continued: Continued) -> None:
    world = continued.world
    hand = {instance for instance in world.hypervisor.guests if instance.startswith("hand")}
    await world.run(10)
    mend(continued.repository)
    await continued.look()
    await world.settle()
    assert world.hypervisor.running() == {"hand": 2, "plain": 2, "web": 4}
    assert world.last_good("web").number == 4
    assert world.last_good(HELD).number == 2
    assert world.hold("site") is None
    assert hand <= world.hypervisor.guests.keys(), "nobody touched the suspended one"
