"""A VM whose runner Nix makes, under systemd: built from the daemon's cage by the Nix daemon, run in a guest's."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.daemon import free_port
from tests.integration.harness import request
from tests.integration.test_failing import POWER_OFF
from tests.integration.test_nix_boot import COPY, PACK, SERVE, command_of
from tests.integration.test_nix_runners import ATTRIBUTE, FLAKE, MANIFEST, RUN, SHUTDOWN
from tests.systemd.host import CONFIG, FIRST, Host
from tests.systemd.test_life import assert_caged

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(400),
    pytest.mark.usefixtures("peopled"),
]

VM, UNIT, STATE = "web", "microvm-web.service", "var/lib/reconciler"
MOST_EXPOSED = 1.7
SETTINGS = "sandbox = false\nsubstituters =\n"
"""There is no shell in the sandbox of a Nix without nixpkgs, and nothing to fetch."""
PRESS = "/usr/lib/reconciler/python/reconciler/vmm/qemu/press.py"
IMAGES = Path("/srv/images")


@pytest.fixture
def with_nix(host: Host) -> Iterator[Host]:
    """Debian's Nix with its daemon, as an administrator sets it up; the repository may name runners."""
    config = host.container.root / CONFIG
    before = config.read_text(encoding="utf-8")
    host.apt("install", "--no-install-recommends", "nix-setup-systemd")
    with (host.container.root / "etc/nix/nix.conf").open("a") as settings:
        settings.write(SETTINGS)
    host.systemctl("restart", "nix-daemon.service")
    config.write_text(before.replace("[policy]\n", "[policy]\nrunners = true\n"), encoding="utf-8")
    host.systemctl("restart", "reconciler.service")
    yield host
    config.write_text(before, encoding="utf-8")
    host.systemctl("restart", "reconciler.service")
    host.settled()


def take_images(host: Host) -> tuple[Path, Path, Path]:
    """What our own guests boot, put where a guest of somebody else's finds it: its cage has no state of ours."""
    state, there = host.container.root / STATE, host.container.root / IMAGES.relative_to("/")
    there.mkdir()
    (kernel,) = state.glob("kernels/*/vmlinuz")
    base = next(p for p in state.glob("layers/*/image") if b"busybox" in p.read_bytes())
    for path in (kernel, kernel.parent / "initrd", base):
        shutil.copyfile(path, there / path.name)
    return IMAGES / "vmlinuz", IMAGES / "initrd", IMAGES / "image"


def push(host: Host, page: str, service: str = SERVE) -> str:
    host.repository.write("flakes/web/content/index.html", page)
    host.repository.write("flakes/web/content/healthz", "ok")
    host.repository.write("flakes/web/etc/rc.local", service, mode=0o755)
    return host.repository.push(page)


def roots(host: Host) -> int:
    """What Nix keeps for us."""
    said = host.container.run("nix-store", "--gc", "--print-roots").stdout
    return said.count(f"/{STATE}/runners/")


@pytest.mark.shows(comparison=23)
def test_a_runner_is_built_by_the_nix_daemon_updated_rolled_back_and_removed_in_its_cage(
    with_nix: Host, tmp_path: Path
) -> None:
    host, port = with_nix, free_port()
    command = asyncio.run(command_of(tmp_path, port, *take_images(host)))
    button = shlex.join(["/usr/bin/python3", "-IS", PRESS, "web.sock", "60"])
    host.repository.write("flakes/web/flake.nix", FLAKE.replace(COPY, PACK).format())
    host.repository.write("flakes/web/microvm-run", RUN.format(command=command))
    host.repository.write("flakes/web/microvm-shutdown", SHUTDOWN.format(command=button))
    text = MANIFEST.format(attribute=ATTRIBUTE, port=port, deadline="60s")
    host.repository.write("web.yaml", text)

    host.good = push(host, "one")
    host.settled(FIRST, VM)
    assert request(port, "/")[1] == "one"
    assert_caged(host, UNIT, MOST_EXPOSED, "A guest's sandbox")
    assert roots(host) == 1

    host.good = push(host, "two")
    host.settled(FIRST, VM)
    assert request(port, "/")[1] == "two"
    folder = host.container.root / STATE / "vms/web/volumes"
    assert "told to end" in (folder / "starts").read_text(), "by its own microvm-shutdown"

    push(host, "three", POWER_OFF)
    host.until("rolled back", lambda fleet: fleet.rolled_back() == [VM] and fleet.vms[VM].healthy)
    assert request(port, "/")[1] == "two"

    host.leave(VM)
    assert host.container.show(UNIT, "ActiveState") == {"ActiveState": "inactive"}
    assert (folder / "data.img").exists(), "volumes of a removed VM are kept"
    host.until("its roots are given back", lambda _: roots(host) == 0)
