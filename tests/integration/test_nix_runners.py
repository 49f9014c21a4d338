"""Runners that a flake makes, of the shape that microvm.nix gives them, as guests like any other.

Nix is real, and so are repository, daemon and processes; a program stands in for the VMM.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.daemon import free_port
from demo.processes import guests_under
from demo.stage import Stage
from reconciler.vmm.qemu import power_button as press
from tests import private_nix
from tests.integration import evidence, standin_vmm
from tests.integration.harness import request
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

BOOT = 120.0
ATTRIBUTE = "nixosConfigurations.web.config.microvm.declaredRunner"

FLAKE = """\
{{
  inputs = {{ }};
  outputs = {{ self }}: {{
    nixosConfigurations.web.config.microvm.declaredRunner = derivation {{
      name = "microvm-qemu-web";
      system = "x86_64-linux";
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin:/usr/sbin:/sbin";
      args = [ "-euc" ''
        mkdir -p $out/bin $out/share/microvm
        cp -r ${{./content}} $out/content
        sed "s,@out@,$out," ${{./microvm-run}} >$out/bin/microvm-run
        cp ${{./microvm-shutdown}} $out/bin/microvm-shutdown
        chmod 755 $out/bin/*
        echo qemu >$out/share/microvm/hypervisor
      '' ];
    }};
  }};
}}
"""
# A volume as microvm.nix makes one, and the process's name as it gives it.
RUN = """\
#!/bin/bash
set -eou pipefail
if [ ! -e data.img ]; then truncate -s 8M data.img; mkfs.ext4 -q data.img; fi
echo start >>starts
exec -a "microvm@web" {command}
"""
SHUTDOWN = """\
#!/bin/sh
echo "told to end" >>starts
exec {command}
"""
# Any folder with this file in it is a runner.
IDLE = """\
{
  inputs = { };
  outputs = { self }: {
    idle = derivation {
      name = "idle";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [ "-euc" ''
        /bin/mkdir -p $out/bin
        printf '#!/bin/sh\\nexec sleep 100000\\n' >$out/bin/microvm-run
        /bin/chmod 755 $out/bin/microvm-run
      '' ];
    };
  };
}
"""
IDLE_MANIFEST = """\
apiVersion: reconciler/v1
kind: MicroVM
metadata: {name: idle}
spec: {memory: 32MiB, runner: {flake: ./flakes/idle, attribute: idle}, health: {startupDeadline: 4s, minHealthyTime: 1s}}
"""
MANIFEST = """\
apiVersion: reconciler/v1
kind: MicroVM
metadata: {{name: web}}
spec:
  memory: 256MiB
  runner: {{flake: ./flakes/web, attribute: {attribute}, ports: [{port}]}}
  health:
    startupDeadline: {deadline}
    minHealthyTime: 1s
    period: 1s
    checks: [{{http: {{port: {port}, path: /healthz}}}}]
"""


@dataclass
class World:
    """One VM whose runner Nix makes, in a repository and a Nix store of its own."""

    stage: Stage
    nix: dict[str, str]
    port: int

    def content(self, page: str, *, healthy: bool = True) -> None:
        self.stage.repository.write("flakes/web/content/index.html", page)
        self.stage.repository.write("flakes/web/content/healthz", "ok")
        if not healthy:
            self.stage.repository.remove("flakes/web/content/healthz")

    def manifest(self, deadline: str = "60s") -> None:
        text = MANIFEST.format(attribute=ATTRIBUTE, port=self.port, deadline=deadline)
        self.stage.repository.write("web.yaml", text)

    def idle(self) -> None:
        """A VM beside it, so that the repository is never empty."""
        self.stage.repository.write("flakes/idle/flake.nix", IDLE)
        self.stage.repository.write("idle.yaml", IDLE_MANIFEST)

    def page(self) -> str:
        return request(self.port, "/")[1]

    def healthy(self, revision: str) -> None:
        def settled() -> bool:
            fleet = self.stage.daemon.fleet()
            return fleet.settled(revision, "web", "idle")

        wait_until(settled, BOOT, f"settled at {revision[:8]}")

    def guest(self) -> int:
        (found,) = [guest.pid for guest in guests_under(self.stage.root) if guest.vm == "web"]
        return found

    @property
    def folder(self) -> Path:
        return self.stage.state / "vms/web/volumes"

    def roots(self) -> set[str]:
        return {p.name for p in (self.stage.state / "runners").glob("[0-9a-f]*") if p.is_symlink()}

    def in_store(self) -> int:
        return len([*Path(self.nix["NIX_STORE_DIR"]).glob("*-microvm-qemu-web")])


@pytest.fixture
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    nix = private_nix.settings(tmp_path / "nix")
    for name, value in nix.items():
        monkeypatch.setenv(name, value)
    stage, port = Stage.open(), free_port()
    try:
        config = stage.daemon.config
        text = config.read_text(encoding="utf-8").replace("[policy]", "[policy]\nrunners = true")
        config.write_text(text, encoding="utf-8")
        world = World(stage, {**os.environ, **nix}, port)
        stage.repository.write("flakes/web/flake.nix", FLAKE.format())
        vmm = shlex.join([sys.executable, standin_vmm.__file__, str(port)])
        run = RUN.format(command=f"{vmm} @out@/content")
        stage.repository.write("flakes/web/microvm-run", run)
        # microvm.nix's own speaks QMP to the same socket, and waits too.
        button = shlex.join(["/usr/bin/python3", "-IS", press.__file__, "web.sock", "60"])
        stage.repository.write("flakes/web/microvm-shutdown", SHUTDOWN.format(command=button))
        with evidence.kept_of(stage, request.node):
            yield world
    finally:
        assert stage.close() == []


@pytest.mark.shows(comparison=23)
def test_the_life_of_a_vm_whose_runner_a_flake_makes(world: World) -> None:
    stage = world.stage
    world.content("one")
    world.manifest()
    world.idle()
    stage.daemon.start()
    first = stage.repository.push("a runner")
    world.healthy(first)
    assert world.page() == "one"
    guest = world.guest()
    assert Path(f"/proc/{guest}/cmdline").read_bytes().startswith(b"microvm@web\0")
    assert (world.folder / "data.img").stat().st_size == 8 << 20
    assert "the guest boots" in stage.console("web")

    stage.repository.write("README", "words\n")
    stage.daemon.kill()
    private_nix.collect_garbage(world.nix)
    stage.daemon.start()
    world.healthy(stage.repository.push("documents, seen by the next daemon"))
    assert world.guest() == guest, "adopted, and left alone"

    _updates(world)
    _broken_flakes_touch_nobody(world)
    _failing_ones_go_back(world)
    _what_left_is_given_back(world)


def _updates(world: World) -> None:
    world.content("two")
    world.healthy(world.stage.repository.push("another page"))
    assert world.page() == "two"
    said = (world.folder / "starts").read_text().split("\n")
    assert said[0] == "start"
    assert "told to end" in said, "by its own microvm-shutdown"
    assert said[-2] == "start", "in the same folder"


def _broken_flakes_touch_nobody(world: World) -> None:
    stage, guest = world.stage, world.guest()
    stage.repository.write("flakes/web/flake.nix", "{ outputs = _: { }; }")
    bad = stage.repository.push("nothing of that name")
    wait_until(
        lambda: "does not provide attribute" in stage.daemon.cli("why", "web").stdout, 60, "named"
    )
    assert world.guest() == guest, bad


def _failing_ones_go_back(world: World) -> None:
    stage = world.stage
    stage.repository.write("flakes/web/flake.nix", FLAKE.format())
    world.content("three", healthy=False)
    world.manifest(deadline="5s")
    failing = stage.repository.push("never healthy")
    wait_until(
        lambda: (now := stage.daemon.fleet()).observed == failing and now.rolled_back() == ["web"],
        BOOT, "rolled back",
    )  # fmt: skip
    wait_until(lambda: stage.daemon.fleet().vms["web"].healthy, BOOT, "healthy again")
    assert world.page() == "two"


def _what_left_is_given_back(world: World) -> None:
    stage = world.stage
    assert len(world.roots()) == 4, (
        "of three runners of web, one of them kept for the way back, and idle's"
    )
    stage.repository.remove("web.yaml")
    stage.repository.push("one VM less")
    wait_until(lambda: len(world.roots()) == 1, BOOT, "roots of what left are gone")
    private_nix.collect_garbage(world.nix)
    assert world.in_store() == 0
    assert (world.folder / "data.img").exists(), "volumes of a removed VM are kept"
    assert [path for path in world.folder.iterdir() if path.is_socket()] == []
    assert "idle" in stage.daemon.fleet().vms
