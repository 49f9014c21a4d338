"""A real guest of a package that Nix built: booted from its closure, updated by the paths that changed, rolled back.

Nix is real, and no cache of binaries is asked: the flake's only program is the static busybox of the
distribution. The paths of the closure still need each other, as those of any package do: a script names its
interpreter in another path of the store, and its pages in a third.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.client import Fleet
from demo.daemon import free_port
from demo.stage import Stage
from reconciler.host import layout
from reconciler.image.composed import read_composition
from reconciler.image.debian_packages import Debian
from reconciler.image.inputs.busybox import fetch_busybox
from tests import private_nix
from tests.integration import evidence
from tests.integration.harness import FIRST, ROLL, request
from tests.registry.images import program
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.stacks, pytest.mark.timeout(900)]

FLAKE = """\
{
  inputs = { };
  outputs = { self }: let
    made = name: script: derivation {
      inherit name;
      system = "x86_64-linux";
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [ "-euc" script ];
    };
    busybox = made "busybox" ''
      mkdir -p $out/bin
      cp ${./busybox} $out/bin/busybox
      chmod 755 $out/bin/busybox
      ln -s busybox $out/bin/sh
    '';
    pages = made "pages" "cp -r ${./pages} $out";
  in {
    app = made "app" ''
      mkdir -p $out/bin
      { echo "#!${busybox}/bin/sh"
        echo 'echo "serves what is in $OUT"'
        echo "exec ${busybox}/bin/busybox httpd -f -p \\$1 -h ${pages}"
      } >$out/bin/app
      chmod 755 $out/bin/app
    '';
  };
}
"""
MANIFEST = """\
apiVersion: reconciler/v1
kind: MicroVM
metadata: {{name: app}}
spec:
  memory: 192MiB
  store:
    layers: [{{nix: {{flake: ./flakes/app, attribute: app, program: bin/app, arguments: ["80"]}}}}]
  interfaces: [{{type: user, forward: [{{host: {port}, guest: 80}}]}}]
  health:
    startupDeadline: {deadline}
    minHealthyTime: 1s
    period: 1s
    checks: [{{http: {{port: {port}, path: /healthz}}}}]
"""


class World:
    """One VM of one flake, in a repository of its own."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.port = free_port()

    def pages(self, text: str, *, healthy: bool = True) -> None:
        self.stage.repository.write("flakes/app/pages/index.html", f"{text}\n")
        if healthy:
            self.stage.repository.write("flakes/app/pages/healthz", "ok\n")
        else:
            self.stage.repository.remove("flakes/app/pages/healthz")

    def push(self, message: str, deadline: str = "90s") -> str:
        text = MANIFEST.format(port=self.port, deadline=deadline)
        self.stage.repository.write("app.yaml", text)
        return self.stage.repository.push(message)

    def settled(self, revision: str, deadline: float = ROLL) -> Fleet:
        def look() -> Fleet | None:
            fleet = self.stage.daemon.fleet()
            return fleet if fleet.settled(revision, "app") else None

        return wait_until(look, deadline, f"settled at {revision[:8]}")

    def went_back(self, failing: str) -> bool:
        fleet = self.stage.daemon.fleet()
        return fleet.observed == failing and fleet.rolled_back() == ["app"]

    def page(self) -> str:
        return request(self.port, "/")[1]

    def parts(self) -> list[tuple[str, ...]]:
        """The images of each version of the layer that the store has, bottom first."""
        found = layout.images(self.stage.state, "composed").glob(f"[!.]*/{layout.PARTS}")
        return [tuple(read_composition(path).parts) for path in found]


@pytest.fixture
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    program("mksquashfs")
    for name, value in private_nix.settings(tmp_path / "nix").items():
        monkeypatch.setenv(name, value)
    stage = Stage.open()
    try:
        config = stage.daemon.config
        text = config.read_text(encoding="utf-8").replace("[policy]", "[policy]\nrunners = true")
        config.write_text(text, encoding="utf-8")
        stage.seed()
        stage.repository.write("flakes/app/flake.nix", FLAKE)
        busybox = asyncio.run(fetch_busybox(Debian(), tmp_path / "packages"))
        shutil.copy(busybox, stage.repository.work / "flakes/app/busybox")
        with evidence.kept_of(stage, request.node):
            yield World(stage)
    finally:
        assert stage.close() == []


def test_a_package_of_nix_serves_is_updated_by_its_changed_paths_and_rolled_back(
    world: World,
) -> None:
    world.pages("one")
    first = world.push("a package")
    world.stage.daemon.start()
    world.settled(first, FIRST)
    assert world.page() == "one"
    assert "serves what is in /" in world.stage.console("app")
    (before,) = world.parts()
    private_nix.collect_garbage(dict(os.environ))

    world.pages("two")
    world.settled(world.push("another page"))
    assert world.page() == "two"
    (after,) = [parts for parts in world.parts() if parts != before]
    assert after[0] == before[0], (
        "busybox, which other paths name, is an image of its own and shared"
    )
    assert set(after[1:]).isdisjoint(before[1:])
    assert "reboot: Power down" in world.stage.console("app"), "the first guest ended in order"

    world.pages("three", healthy=False)
    serving = world.stage.daemon.fleet().vms["app"].running
    failing = world.push("never healthy", "15s")
    wait_until(lambda: world.went_back(failing), ROLL, "rolled back")
    wait_until(lambda: world.stage.daemon.fleet().vms["app"].healthy, ROLL, "healthy again")
    assert world.stage.daemon.fleet().vms["app"].running == serving
    assert world.page() == "two"
