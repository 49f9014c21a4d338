"""Runners of microvm.nix's shape under every supervisor: locked, adopted, and ended by what they bring along."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from os import geteuid
from pathlib import Path

import pytest

from reconciler.errors import DriverError
from reconciler.hypervisors import NIX_RUNNER, QemuConfig
from reconciler.model.machine import Machine
from reconciler.model.names import GenerationNumber, InstanceId, VMName
from reconciler.model.observed import Process
from reconciler.supervisor import lock, procfs
from reconciler.vmm.nix_runner.driver import NixRunnerDriver
from reconciler.vmm.qemu.driver import QemuDriver
from tests.contract.test_supervisor import STAGES, KeptStage
from tests.eventually import eventually
from tests.microvm_nix import make_runner
from tests.wait import wait_until

pytestmark = pytest.mark.shows(fault=78)

SYSTEMD = Path("/run/systemd/system").is_dir() and geteuid() == 0
SHUTDOWN = 'echo asked >>asked; kill -9 "$(cat pid)"'
RUN = """\
echo $$ >pid
truncate -s 1M data.img
echo "says the guest"
exec -a "microvm@web" sleep 1000"""


@pytest.fixture
def runners(tmp_path: Path) -> Iterator[Path]:
    """In the place of /nix/store: where every guest can read, which /tmp is not under systemd."""
    if not SYSTEMD:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="runners-", dir="/var/lib") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(params=STAGES)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeptStage]:
    if request.param == "systemd" and not SYSTEMD:
        pytest.skip("no systemd here; tests/systemd runs this in a container")
    stage = STAGES[request.param](tmp_path / "vms")
    await stage.supervisor.adopt()
    yield stage
    await stage.close()


def driver_of(stage: KeptStage) -> NixRunnerDriver:
    default = QemuDriver(QemuConfig())
    return NixRunnerDriver(stage.kept.press, default, default.power_button)


def machine_of(stage: KeptStage, runner: Path) -> Machine:
    return Machine(
        vm=VMName("web"), generation=GenerationNumber(1), instance=InstanceId(uuid.uuid4().hex),
        vcpu=1, memory_mib=64, accel="tcg", tsc_khz=None, kernel="", initrd="", cmdline=(),
        layers=(), volumes=(), mounts=(), networks=(), folder=str(stage.root / "web"),
        stop_timeout=10, runner=str(runner), hypervisor=NIX_RUNNER,
    )  # fmt: skip


async def start(stage: KeptStage, runner: Path) -> Process:
    driver, machine = driver_of(stage), machine_of(stage, runner)
    launch = driver.launch(machine)
    await driver.prepare(machine)
    return await stage.supervisor.start(machine, launch)


async def runs(process: Process) -> None:
    """Until the script has become what it starts."""
    command = Path(f"/proc/{process.pid}/cmdline")
    await eventually(lambda: command.read_bytes().startswith(b"microvm@web\0"))


async def test_a_runner_becomes_its_vmm_and_that_has_the_lock(
    stage: KeptStage, runners: Path
) -> None:
    process = await start(stage, make_runner(runners / "web", RUN))
    await runs(process)
    home = stage.root / "web"
    assert not lock.is_free(home), "also after bash's exec"
    assert (home / "volumes/data.img").stat().st_size == 1 << 20
    assert "says the guest" in (home / "console.log").read_text()
    assert (home / "runner").resolve() == (runners / "web").resolve()


PEER = """\
import pathlib, signal, socket, sys, time
path = pathlib.Path("web.sock")
path.unlink(missing_ok=True)
server = socket.socket(socket.AF_UNIX)
server.bind(str(path))
server.listen(1)
pathlib.Path("ready").touch()
deaf_until = time.monotonic() + float(sys.argv[1])
while True:
    client, _ = server.accept()
    heard = b""
    while b"input-send-event" not in heard and (got := client.recv(4096)):
        heard += got
    if b"input-send-event" in heard and time.monotonic() > deaf_until:
        break
    client.close()
time.sleep(1.5)
pathlib.Path("clean").touch()
"""
"""In the guest's place: it hears the keys once it has booted, and then takes its time to end cleanly."""
PIPE = """\
import os, select, socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
while True:
    ready, _, _ = select.select([0, peer], [], [])
    if peer in ready and not peer.recv(4096):
        break
    if 0 in ready:
        if not (got := os.read(0, 4096)):
            break
        peer.sendall(got)
"""
"""As `socat STDIO UNIX:SOCKET,shut-none`."""


def a_guest_that_flushes(folder: Path, deaf: float) -> Path:
    """Its runner presses Ctrl-Alt-Del as microvm.nix's does: what waits is a `cat` of its own input."""
    here = folder / "bin"
    keys = '{"execute":"qmp_capabilities"}{"execute":"input-send-event"}'
    run = f'exec -a "microvm@web" {sys.executable} {here}/peer.py {deaf:g}'
    shutdown = f"(echo '{keys}'; cat) | {sys.executable} {here}/pipe.py web.sock"
    return make_runner(folder, run, shutdown, {"bin/peer.py": PEER, "bin/pipe.py": PIPE})


@pytest.mark.parametrize("deaf", [0.0, 4.0], ids=["at once", "once it has booted"])
async def test_a_guest_has_its_time_to_end_cleanly(
    stage: KeptStage, runners: Path, deaf: float
) -> None:
    process = await start(stage, a_guest_that_flushes(runners / "web", deaf))
    volumes = stage.root / "web/volumes"
    await eventually((volumes / "ready").exists)
    driver = driver_of(stage)
    for _ in range(10):  # as the ladder does, for as long as the guest has its time
        with contextlib.suppress(DriverError):
            await driver.press_power_button(stage.root / "web", process.pid, 2.0)
        if await stage.supervisor.wait_gone(process.instance, 1.0):
            break
    assert (volumes / "clean").exists(), "and was not ended as by a power cut"


async def test_who_stops_the_unit_or_runs_the_script_waits_for_the_guest(
    stage: KeptStage, runners: Path
) -> None:
    runner = a_guest_that_flushes(runners / "web", 0.0)
    process = await start(stage, runner)
    volumes = stage.root / "web/volumes"
    await eventually((volumes / "ready").exists)
    launch = driver_of(stage).launch(machine_of(stage, runner))
    pressing = await asyncio.create_subprocess_exec(
        *launch.power_button, stdin=asyncio.subprocess.DEVNULL, cwd=volumes,
        env={"MAINPID": str(process.pid), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert await pressing.wait() == 0
    assert (volumes / "clean").exists()


LEAVES_A_HELPER = """\
sleep 1000 &
echo $! >helper
setsid sleep 1000 &
echo $! >>helper
exec -a "microvm@web" sleep 1000"""


def helpers(stage: KeptStage) -> list[int]:
    """Those that live; a zombie does not."""
    pids = map(int, (stage.root / "web/volumes/helper").read_text().split())
    return [pid for pid in pids if alive(pid)]


def alive(pid: int) -> bool:
    stat = procfs.stat_of(pid)
    return stat is not None and not stat.dead


async def test_what_a_runner_leaves_behind_ends_with_its_vmm(
    stage: KeptStage, runners: Path
) -> None:
    runner = make_runner(runners / "web", LEAVES_A_HELPER)
    process = await start(stage, runner)
    await runs(process)
    assert len(helpers(stage)) == 2
    os.kill(process.pid, signal.SIGKILL)
    assert await stage.supervisor.wait_gone(process.instance, 10)
    await eventually(lambda: not helpers(stage))
    await stage.supervisor.forget(process.instance)
    again = await start(stage, runner)
    await runs(again)
    assert stage.supervisor.conflicts() == ()


async def test_a_helper_of_a_guest_that_died_meanwhile_is_not_adopted_as_the_guest(
    stage: KeptStage, runners: Path
) -> None:
    runner = make_runner(runners / "web", LEAVES_A_HELPER)
    process = await start(stage, runner)
    await runs(process)

    def dies() -> None:
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not alive(process.pid), 10, "the VMM is gone")

    (found,) = (await stage.next_daemon(dies)).processes()
    assert (found.instance, found.alive) == (process.instance, False)
    assert stage.supervisor.conflicts() == ()
    assert helpers(stage) == []
    await stage.supervisor.forget(process.instance)
    await runs(await start(stage, runner))


async def test_a_runner_may_use_low_descriptors_and_has_the_lock_all_the_same(
    stage: KeptStage, runners: Path
) -> None:
    low = "".join(f"exec {n}<>/dev/null\n" for n in range(3, 10))
    process = await start(stage, make_runner(runners / "web", low + RUN))
    await runs(process)
    assert not lock.is_free(stage.root / "web")
    (adopted,) = (await stage.next_daemon()).processes()
    assert (adopted.pid, adopted.alive) == (process.pid, True)


async def test_the_next_daemon_adopts_it_under_its_other_name(
    stage: KeptStage, runners: Path
) -> None:
    process = await start(stage, make_runner(runners / "web", RUN))
    await runs(process)
    (adopted,) = (await stage.next_daemon()).processes()
    assert (adopted.pid, adopted.instance, adopted.alive) == (process.pid, process.instance, True)


async def test_its_own_shutdown_is_the_power_button(stage: KeptStage, runners: Path) -> None:
    process = await start(stage, make_runner(runners / "web", RUN, SHUTDOWN))
    await runs(process)
    driver = driver_of(stage)
    await driver.press_power_button(stage.root / "web", process.pid, 5)
    assert await stage.supervisor.wait_gone(process.instance, 5)
    assert (stage.root / "web/volumes/asked").read_text() == "asked\n"


async def test_a_runner_without_a_way_to_be_asked_says_so_at_once(
    stage: KeptStage, runners: Path
) -> None:
    process = await start(stage, make_runner(runners / "web", RUN))
    await runs(process)
    with pytest.raises(DriverError, match="cannot be asked to end"):
        await driver_of(stage).press_power_button(stage.root / "web", process.pid, 5)


async def test_it_makes_its_files_again_at_the_next_start(stage: KeptStage, runners: Path) -> None:
    runner = make_runner(runners / "web", "echo start >>starts\n" + RUN, SHUTDOWN)
    for _ in range(2):
        process = await start(stage, runner)
        await runs(process)
        await driver_of(stage).press_power_button(stage.root / "web", process.pid, 5)
        assert await stage.supervisor.wait_gone(process.instance, 5)
        await stage.supervisor.forget(process.instance)
    assert (stage.root / "web/volumes/starts").read_text() == "start\nstart\n"


async def test_a_shutdown_that_waits_is_not_waited_for(runners: Path, tmp_path: Path) -> None:
    """Under `local`; systemd runs it beside us, and has its own deadline."""
    stage = STAGES["local"](tmp_path / "vms")
    await stage.supervisor.adopt()
    process = await start(stage, make_runner(runners / "web", RUN, "echo $$ >asks; sleep 1000"))
    await runs(process)
    await driver_of(stage).press_power_button(stage.root / "web", process.pid, 0.5)
    asking = (stage.root / "web/volumes/asks").read_text().strip()
    await eventually(lambda: not Path(f"/proc/{asking}").exists())
    await stage.close()


async def test_whoever_took_the_guests_place_is_not_told(stage: KeptStage, runners: Path) -> None:
    process = await start(stage, make_runner(runners / "web", RUN, SHUTDOWN))
    await runs(process)
    with pytest.raises(DriverError, match="not one of our guests any more"):
        await driver_of(stage).press_power_button(stage.root / "web", 1, 5)
    assert not (stage.root / "web/volumes/asked").exists()


def test_a_runner_that_is_gone_is_not_started(tmp_path: Path, runners: Path) -> None:
    stage = STAGES["local"](tmp_path / "vms")
    with pytest.raises(DriverError, match="is no runner any more") as caught:
        driver_of(stage).launch(machine_of(stage, runners / "nowhere"))
    assert caught.value.kind == "runner"
