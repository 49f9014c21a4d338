"""Guests that the daemon of an earlier commit had started are adopted by the daemon of today, which goes on."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.client import DaemonAway, Fleet
from demo.daemon import Daemon, Settings, free_port
from demo.processes import alive, end
from demo.repository import Repository
from demo.screen import in_words
from demo.stage import Stage
from reconciler.clock import SystemClock
from reconciler.image.store import ImageStore
from reconciler.ledger.sqlite import open_ledger
from reconciler.source.git.clients import TreeExporter
from reconciler.supervisor import procfs
from tests.integration import evidence
from tests.integration.namespace import Namespace
from tests.upgrade.kept import HAND, WEB, Kept, KeptGuest, mend, unpack, upstream
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("qemu-system-x86_64") is None,
        reason="the ports of the fixture take a namespace, which takes root; and QEMU",
    ),
]
ROLL = 180.0
BOOT = 120.0
HIGH = 900
"""From here on that daemon took numbers for the descriptor of a lock."""


@dataclass
class Upgrade:
    """The kept state with living guests, in a namespace where the ports of their manifests are free."""

    stage: Stage
    net: Namespace
    kept: Kept
    repository: Repository
    children: list[subprocess.Popen[bytes]]

    @property
    def daemon(self) -> Daemon:
        return self.stage.daemon

    def start_guest(self, guest: KeptGuest) -> int:
        """By its own words, with its lock held, and with the file that tells of it; its pid."""
        lock = os.open(guest.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        held = fcntl.fcntl(lock, fcntl.F_DUPFD_CLOEXEC, HIGH)
        os.close(lock)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with (guest.folder / "vmm.log").open("ab") as log:
            child = subprocess.Popen(
                [*self.net.within, "env", "-C", guest.folder, *guest.argv],
                env=guest.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=(held,), start_new_session=True,
            )  # fmt: skip
        os.close(held)
        self.children.append(child)
        found = procfs.stat_of(child.pid)
        assert found is not None
        file = guest.folder / "run" / "guest.json"
        told = json.loads(file.read_text())
        told |= {
            "pid": child.pid,
            "start_time": found.start_time,
            "started_boot": found.started_boot,
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        }
        file.write_text(json.dumps(told))
        return child.pid

    def start_proxy(self) -> int:
        """By its own words, and told to lead where it had led; its pid."""
        environ = os.environ | {"PYTHONPATH": str(Path.cwd())}
        proxy = self.kept.proxy
        proxy.lock.parent.mkdir(mode=0o700)
        child = subprocess.Popen(
            [*self.net.within, *proxy.argv], env=environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.children.append(child)
        wait_until(proxy.socket.exists, BOOT, "the process that holds the ports listens")
        for vm, led in proxy.table["led"].items():
            say(proxy.socket, {"do": "lead", "vm": vm, **led})
            for _, address, _, target in led["routes"]:
                self.open_port(self.kept.state / "vms" / f"{vm}.2", address, target)
        return child.pid

    def open_port(self, folder: Path, address: str, port: int) -> None:
        """The port of its own that leads to a guest, which the kernel had chosen."""
        line = f"hostfwd_add net0 tcp:{address}:{port}-:80"
        wait_until((folder / "run/qmp.sock").exists, BOOT, "QMP listens")
        with socket.socket(socket.AF_UNIX) as link, link.makefile("rwb") as lines:
            link.connect(str(folder / "run/qmp.sock"))
            for command, words in (
                ("qmp_capabilities", {}),
                ("human-monitor-command", {"command-line": line}),
            ):
                lines.readline()
                lines.write(json.dumps({"execute": command, "arguments": words}).encode() + b"\n")
                lines.flush()
            assert json.loads(lines.readline()) == {"return": ""}

    def page(self, port: int) -> str:
        return self.net.ask(f"http://127.0.0.1:{port}/")

    def until(self, what: str, condition: Any) -> Fleet:
        last: list[Fleet] = []

        def look() -> Fleet | None:
            with suppress(DaemonAway):
                last[:] = [self.daemon.fleet()]
                return last[0] if condition(last[0]) else None
            return None

        try:
            return wait_until(look, ROLL, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{in_words(last[0] if last else None)}") from None


def is_up(guest: KeptGuest) -> bool:
    """Whether it has said so on its console."""
    up = f"reconciler-up: {guest.env['RECONCILER_INSTANCE']}"
    return up in (guest.folder / "console.log").read_text(errors="replace")


def say(path: Path, message: dict[str, Any]) -> None:
    with socket.socket(socket.AF_UNIX) as link, link.makefile("rwb") as lines:
        link.connect(str(path))
        lines.write(json.dumps(message).encode() + b"\n")
        lines.flush()
        assert "error" not in json.loads(lines.readline())


async def make_images(kept: Kept, copy: Path) -> None:
    """What the guests boot, from the keys that their ledger names; the ledger stays as it is."""
    shutil.copy2(kept.ledger, copy)
    ledger = open_ledger(copy, SystemClock()).ledger
    record = ledger.record()
    await ledger.close()
    store = ImageStore(kept.state, SystemClock())
    await store.open()
    for vm in record.vms.values():
        assert vm.start is not None
        generation = vm.generation(vm.start.generation)
        assert generation is not None
        await store.build_kernel(generation.spec.kernel, TreeExporter(kept.mirror))
        for layer in generation.spec.layers:
            await store.build_layer(layer, TreeExporter(kept.mirror))
    await store.close()


@pytest.fixture
def upgrade(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Upgrade]:
    net = Namespace()
    stage = Stage.open()
    children: list[subprocess.Popen[bytes]] = []
    try:
        net.ip("link", "set", "lo", "up")
        kept = unpack(stage.root)
        repository = upstream(kept, tmp_path)
        settings = Settings(repository.bare, stage.state, stage.root / "control.sock", free_port())
        stage.daemon = Daemon(stage.root, settings, net.within)
        stage.seed()
        asyncio.run(make_images(kept, tmp_path / "ledger.db"))
        with evidence.kept_of(stage, request.node):
            yield Upgrade(stage, net, kept, repository, children)
    finally:
        left = stage.close()
        net.close()
        end(child.pid for child in children)
        for child in children:
            child.wait(30)
    assert left == []


def test_guests_of_an_earlier_commit_are_adopted_and_take_the_next_push(upgrade: Upgrade) -> None:
    pids = {one.folder.name: upgrade.start_guest(one) for one in upgrade.kept.guests}
    assert pids.keys() == {"hand.2", "plain", "web"}
    proxy = upgrade.start_proxy()
    for guest in upgrade.kept.guests:
        wait_until(functools.partial(is_up, guest), BOOT, f"{guest.folder.name} serves again")
    upgrade.daemon.start()

    adopted = upgrade.until(
        "all are healthy", lambda fleet: all(vm.healthy for vm in fleet.vms.values())
    )
    assert adopted.pids() == {name.removesuffix(".2"): pid for name, pid in pids.items()}
    instances = {one.env["RECONCILER_INSTANCE"] for one in upgrade.kept.guests}
    assert set(adopted.instances().values()) == instances
    assert {name: vm.running for name, vm in adopted.vms.items()} == {
        "hand": 2, "plain": 1, "web": 2
    }  # fmt: skip
    assert adopted.rolled_back() == ["web"]
    assert adopted.groups["site"].hold
    assert "an upgrade of the controller" in adopted.vms["hand"].why
    assert int(upgrade.kept.proxy.lock.read_text()) == proxy, "it holds the ports as before"
    assert (upgrade.page(WEB), upgrade.page(HAND)) == ("web: two", "hand: two")

    revision = mend(upgrade.repository)
    after = upgrade.until(
        "the push is applied",
        lambda fleet: (
            fleet.observed == revision and fleet.vms["web"].settled and fleet.vms["plain"].settled
        ),
    )
    assert {name: vm.running for name, vm in after.vms.items()} == {
        "hand": 2, "plain": 2, "web": 4
    }  # fmt: skip
    assert after.vms["hand"].pid == pids["hand.2"], "nobody touched the suspended one"
    assert upgrade.page(WEB) == "web: three"

    assert upgrade.daemon.cli("resume", "hand").returncode == 0
    upgrade.repository.write("hand/www/index.html", "hand: three\n")
    revision = upgrade.repository.push("the next page of the one that hands over")
    upgrade.until("it handed over", lambda fleet: fleet.settled(revision, "hand", "plain", "web"))
    assert upgrade.page(HAND) == "hand: three"
    assert int(upgrade.kept.proxy.lock.read_text()) == proxy
    wait_until(lambda: not alive(pids["hand.2"]), ROLL, "its predecessor is gone")

    upgrade.daemon.stop()
    assert after.vms["web"].pid is not None
    assert alive(after.vms["web"].pid)
    upgrade.net.run(str(upgrade.kept.state / "vms/web/generations/2/bin/microvm-shutdown"))
    assert not alive(after.vms["web"].pid), "the earlier commit's script presses its power button"
