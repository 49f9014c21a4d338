"""The driver, the supervisor and the prober together, on real QEMU guests."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from demo import images
from demo.daemon import free_port
from reconciler.clock import SystemClock
from reconciler.errors import DriverError, GuestConflict
from reconciler.hypervisors import QemuConfig
from reconciler.image.store import ImageStore
from reconciler.model.checks import CheckSpec, HttpCheck, TcpCheck
from reconciler.model.health import ProbeCounts, ProbePlan
from reconciler.model.image import DebianKernel, KernelSpec
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import Disk, Machine, Mount, PortForward, UserNetwork
from reconciler.model.names import GenerationNumber, InstanceId, VMName
from reconciler.model.observed import Exit, HostFacts, Process
from reconciler.probe.prober import GuestProber
from reconciler.source.git.clients import TreeExporter
from reconciler.supervisor.local import LocalSupervisor
from reconciler.supervisor.lock import is_free
from reconciler.vmm.host_facts import LocalHost
from reconciler.vmm.qemu.driver import QemuDriver
from reconciler.vmm.registry import DriverRegistry
from reconciler.vmm.volumes.files import VolumeFiles
from tests.eventually import eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.shows(row=11),
    pytest.mark.shows(row=15),
]

BOOT = 60.0
"""Seconds that a guest has to answer, on a machine that does other things too."""
STARTUP_PERIOD = 0.1

SERVICE = """\
#!/bin/sh
cp /run/reconciler/instance /www/instance
if [ -d /data ]; then echo start >> /data/starts; ln -sf /data/starts /www/starts; fi
usleep 500000
httpd -p 80 -h /www
echo "service is up" > /dev/console
"""
PANICKING = "#!/bin/sh\necho c > /proc/sysrq-trigger\n"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel bundle and a base layer; made once."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed: ./dev setup installs it")
    return tmp_path_factory.mktemp("images")


def a_layer(folder: Path, script: str) -> str:
    """A store image with one service."""
    tree = folder / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "www").mkdir()
    (tree / "www/healthz").write_text("ok\n")
    (tree / "etc/rc.local").write_text(script)
    (tree / "etc/rc.local").chmod(0o755)
    pack(folder / "service.img", tree)
    return str(folder / "service.img")


def pack(image: Path, tree: Path) -> None:
    argv = ["mkfs.erofs", "--quiet", "-T0", str(image), str(tree)]
    subprocess.run(argv, check=True, timeout=60, capture_output=True)


@dataclass
class Host:
    """One host with a supervisor, a prober, and one VM of which guests are made."""

    root: Path
    facts: HostFacts
    machine: Machine
    supervisor: LocalSupervisor
    prober: GuestProber
    driver: QemuDriver

    @property
    def folder(self) -> Path:
        return Path(self.machine.folder)

    @property
    def port(self) -> int:
        return self.machine.networks[0].forwards[0].host

    @property
    def console(self) -> str:
        return (self.folder / "console.log").read_text(errors="replace")

    async def start(self) -> Process:
        self.machine = replace(self.machine, instance=InstanceId(uuid.uuid4().hex))
        sizes = {disk.path: 64 for disk in self.machine.volumes}
        await VolumeFiles().prepare(self.machine, sizes)
        return await self.supervisor.start(self.machine, self.driver.launch(self.machine))

    async def healthy(self, process: Process, *checks: CheckSpec) -> ProbeCounts:
        asked = checks or (HttpCheck(self.port, "/healthz", contains="ok"),)
        self.prober.watch({process.instance: ProbePlan(asked, STARTUP_PERIOD)})
        await eventually(lambda: self.prober.health()[process.instance].ever_passed, BOOT)
        return self.prober.health()[process.instance]

    async def get(self, path: str) -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{path}") as response,
        ):
            return await response.text()

    async def end(self, process: Process) -> Exit:
        assert await self.supervisor.wait_gone(process.instance, BOOT)
        (dead,) = (p for p in self.supervisor.processes() if p.instance == process.instance)
        await self.supervisor.forget(process.instance)
        assert dead.exit is not None
        return dead.exit

    async def next_daemon(self) -> None:
        await self.supervisor.close()
        self.supervisor = LocalSupervisor(self.root, SystemClock(), lambda: None)
        await self.supervisor.adopt()


@pytest.fixture
async def host(shelf: Path, tmp_path: Path) -> AsyncIterator[Host]:
    clock = SystemClock()
    images.seed(shelf)
    store = ImageStore(shelf, clock)
    await store.open()
    kernel = KernelSpec.of("debian", DebianKernel())
    base = LayerSpec.of(BusyboxSource(), "erofs")
    await store.build_kernel(kernel, TreeExporter(shelf))
    await store.build_layer(base, TreeExporter(shelf))
    vmlinuz, initrd = store.kernel_paths(kernel.key)
    base_image = store.layer_path(base.key)
    await store.close()
    driver = QemuDriver(QemuConfig())
    facts = await LocalHost(tmp_path, DriverRegistry({"qemu": driver}), clock).facts()
    machine = Machine(
        vm=VMName("web"),
        generation=GenerationNumber(1),
        instance=InstanceId("none"),
        vcpu=1,
        memory_mib=256,
        accel=facts.accel_of("qemu"),
        tsc_khz=facts.tsc_khz,
        kernel=str(vmlinuz),
        initrd=str(initrd),
        cmdline=(),
        layers=(
            Disk(str(base_image), "layer0", read_only=True),
            Disk(a_layer(tmp_path, SERVICE), "layer1", read_only=True),
        ),
        volumes=(Disk(str(tmp_path / "vms/web/volumes/a,b.raw"), "vol-data", read_only=False),),
        mounts=(Mount("vol-data", "/data", "ext4"),),
        networks=(UserNetwork("52:54:00:12:34:56", (PortForward(free_port(), 80),)),),
        folder=str(tmp_path / "vms/web"),
    )
    supervisor = LocalSupervisor(tmp_path / "vms", clock, lambda: None)
    prober = GuestProber(clock, lambda: None)
    host = Host(tmp_path / "vms", facts, machine, supervisor, prober, driver)
    yield host
    await host.prober.close()
    for process in host.supervisor.processes():
        await host.supervisor.signal(process.instance, signal.SIGKILL)
        assert await host.supervisor.wait_gone(process.instance, 10)
    await host.supervisor.close()


async def test_a_guest_boots_knows_its_name_keeps_its_data_and_stops_when_asked(host: Host) -> None:
    for boot in (1, 2):
        process = await host.start()
        health = await host.healthy(process)
        await eventually(lambda: "service is up" in host.console, 0.5)
        assert health.passing_since is not None
        assert (await host.get("/instance")).strip() == process.instance
        assert (await host.get("/starts")).split() == ["start"] * boot
        await host.driver.press_power_button(host.folder, process.pid, 5)
        end = await host.end(process)
        assert (end.status, end.panicked) == (0, False)


ENDING = """\
#!/bin/sh
crond && id -un > /dev/console && hostname > /dev/console
usleep 300000
ps | grep -q '[c]rond$' && echo "crond lives" > /dev/console
no-such-program
"""
OTHER_INIT = """\
#!/bin/sh
while true; do sleep 60; done
"""


@pytest.mark.shows(fault=68)
@pytest.mark.shows(fault=117)
async def test_a_guest_says_that_it_is_up_and_how_its_start_script_ended(
    host: Host, tmp_path: Path
) -> None:
    (tmp_path / "ending").mkdir()
    ending = Disk(a_layer(tmp_path / "ending", ENDING), "layer1", read_only=True)
    host.machine = replace(host.machine, layers=(host.machine.layers[0], ending))
    process = await host.start()
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(host.supervisor.run())
        await eventually(lambda: bool(host.supervisor.said()[process.instance].ended), BOOT)
        listening.cancel()
    said = host.supervisor.said()[process.instance]
    assert said.up is not None
    assert said.handed_over is None
    assert said.ended == "rc.local status 127"
    await eventually(lambda: "crond lives" in host.console, 5)
    said_by_guest = host.console.splitlines()  # lines of the kernel may stand between them
    assert "root" in said_by_guest
    assert process.instance in said_by_guest
    await host.next_daemon()
    assert host.supervisor.said()[process.instance].ended == said.ended, "a later daemon hears it"


@pytest.mark.shows(fault=68)
async def test_a_guest_with_an_init_of_its_own_is_heard_to_be_handed_over_to_it(
    host: Host, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    layer = Path(a_layer(tmp_path / "other", "#!/bin/sh\n"))
    tree = tmp_path / "other/tree"
    (tree / "sbin").mkdir()
    (tree / "sbin/init").write_text(OTHER_INIT)
    (tree / "sbin/init").chmod(0o755)
    layer.unlink()
    await asyncio.to_thread(pack, layer, tree)
    other = Disk(str(layer), "layer1", read_only=True)
    host.machine = replace(host.machine, layers=(host.machine.layers[0], other))
    process = await host.start()
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(host.supervisor.run())
        heard = lambda: host.supervisor.said()[process.instance].handed_over is not None  # noqa: E731
        await eventually(heard, BOOT)
        listening.cancel()
    assert host.supervisor.said()[process.instance].up is None


async def test_a_panic_is_not_taken_for_a_reboot(host: Host, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    bad = Disk(a_layer(tmp_path / "bad", PANICKING), "layer1", read_only=True)
    host.machine = replace(host.machine, layers=(host.machine.layers[0], bad))
    end = await host.end(await host.start())
    assert (end.status, end.panicked) == (1, True)
    assert any("Kernel panic" in line for line in end.console)


@pytest.mark.shows(fault=116)
async def test_a_guest_that_misses_a_layer_says_why_it_died(host: Host) -> None:
    host.machine = replace(host.machine, layers=host.machine.layers[1:])
    end = await host.end(await host.start())
    assert end.panicked
    assert end.reported.startswith("init: ")
    assert str(end).startswith("it reported failure: init: ")
    assert "FAILED" in end.console[0]


async def test_a_tcp_check_does_not_take_user_networking_for_the_guest(host: Host) -> None:
    process = await host.start()
    health = await host.healthy(process, TcpCheck(host.port))
    # It passes when the service is up, and not in the seconds of booting before.
    await eventually(lambda: "service is up" in host.console, 0.5)
    assert health.last[0].detail.endswith("listens")


@pytest.mark.shows(law=1)
async def test_the_vmm_holds_the_lock_as_long_as_it_lives_and_no_longer(host: Host) -> None:
    process = await host.start()
    await host.supervisor.close()
    assert not is_free(host.folder)
    await host.next_daemon()
    assert host.supervisor.processes() == (process,)
    with pytest.raises(GuestConflict):
        await host.start()
    await host.supervisor.signal(process.instance, signal.SIGKILL)
    assert await host.supervisor.wait_gone(process.instance, 10)
    assert is_free(host.folder)


async def test_a_guest_is_adopted_in_the_middle_of_its_boot_and_becomes_healthy(host: Host) -> None:
    process = await host.start()
    await host.next_daemon()
    await host.healthy(process)
    await host.driver.press_power_button(host.folder, process.pid, 5)
    assert (await host.end(process)).status == 0


async def test_a_stopped_vmm_costs_one_deadline_and_fails_its_checks(host: Host) -> None:
    process = await host.start()
    await host.healthy(process)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(DriverError) as caught:
        await host.driver.press_power_button(host.folder, process.pid, 0.3)
    assert caught.value.kind == "timeout"
    for check in (HttpCheck(host.port, timeout=0.3), TcpCheck(host.port, timeout=0.3)):
        host.prober.watch({})
        host.prober.watch({process.instance: ProbePlan((check,), 60.0)})
        await eventually(lambda: host.prober.health()[process.instance].failures == 1)
    await host.supervisor.signal(process.instance, signal.SIGKILL)
    assert (await host.end(process)).signal == signal.SIGKILL


async def test_a_port_that_somebody_else_has_ends_the_vmm_with_its_own_words(host: Host) -> None:
    server = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", host.port)
    async with server:
        end = await host.end(await host.start())
    assert end.status == 1
    assert not end.panicked
    assert any(line.startswith("vmm: ") and "host forwarding" in line for line in end.console)


async def test_a_volume_that_another_vmm_uses_is_not_opened_twice(host: Host) -> None:
    process = await host.start()
    await host.healthy(process)
    other = replace(
        host.machine,
        vm=VMName("other"),
        folder=str(host.root / "other"),
        networks=(),
        instance=InstanceId("other-1"),
    )
    intruder = await host.supervisor.start(other, host.driver.launch(other))
    end = await host.end(intruder)
    assert end.status == 1
    assert any("lock" in line for line in end.console)
    assert any(p.instance == process.instance and p.alive for p in host.supervisor.processes())


async def test_twenty_disks_are_all_found_by_their_serials(host: Host) -> None:
    base = host.machine.layers[0].path
    layers = tuple(Disk(base, f"layer{n}", read_only=True) for n in range(19))
    service = Disk(host.machine.layers[1].path, "layer19", read_only=True)
    host.machine = replace(host.machine, layers=(*layers, service))
    await host.healthy(await host.start())
