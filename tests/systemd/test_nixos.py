"""`deploy/nixos`, evaluated by Debian's Nix. nixpkgs is not there: tests/systemd/standin.nix stands in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from demo.repository import Repository
from reconciler.config import Config, parse_config
from reconciler.model.image import NixRunner
from reconciler.source.manifests.convert import VMDraft
from reconciler.source.manifests.parse import parse_file
from tests.systemd.container import Container
from tests.systemd.host import CHECKOUT, ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

FOLDER = ROOT / "deploy/nixos"
DEBIAN = 'debian = { keyring = "/keys.gpg"; mirror = "http://mirror.example.org/debian"; };'
LEAST = f'{DEBIAN} settings.source.url = "/srv/git/fleet.git";'
QUIET = ("--option", "build-users-group", "")


class Nix:
    def __init__(self, machine: Container) -> None:
        self._machine = machine

    def said(self, wanted: str, given: str) -> tuple[int, str]:
        text = f"""
          let standin = import {CHECKOUT}/tests/systemd/standin.nix;
              result = standin.evaluate (import {CHECKOUT}/deploy/nixos/module.nix) {{ {given} }};
          in {wanted}
        """
        argv = ("nix-instantiate", *QUIET, "--eval", "--strict", "--json", "-E", text)
        done = self._machine.run(*argv, check=False)
        return done.returncode, done.stderr if done.returncode else done.stdout

    def value(self, wanted: str, given: str = LEAST) -> Any:
        status, said = self.said(wanted, f"enable = true; {given}")
        assert status == 0, said
        return json.loads(said)

    def parses(self, name: str) -> None:
        self._machine.run("nix-instantiate", *QUIET, "--parse", f"{CHECKOUT}/{name}")


@pytest.fixture(scope="module")
def nix(container: tuple[Container, Repository]) -> Nix:
    machine, _ = container
    machine.run("apt-get", "-q", "-y", "install", "--no-install-recommends", "nix-bin")
    return Nix(machine)


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.nix")))
def test_each_file_is_nix(nix: Nix, name: str) -> None:
    nix.parses(f"deploy/nixos/{name}")


def test_the_settings_are_a_config_that_the_daemon_takes_with_its_own_defaults(nix: Nix) -> None:
    given = nix.value("result.values.settings")
    config = parse_config(given, "settings")
    plain = Config.model_validate({"source": {"url": "/srv/git/fleet.git"}})
    assert config == plain.model_copy(update={"supervisor": "systemd"})


def test_what_has_no_option_of_its_own_may_be_set_too(nix: Nix) -> None:
    more = f'{LEAST} settings.log_format = "json"; settings.http.port = 0;'
    config = parse_config(nix.value("result.values.settings", more), "settings")
    assert (config.log_format, config.http.port) == ("json", 0)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (DEBIAN, "settings.source.url: is used but not defined"),
        (f"{LEAST} settings.http.port = 70000;", "settings.http.port: a int is no integer 0"),
        (f'{LEAST} settings.supervisor = "docker";', "is no one of systemd local"),
        (f"{LEAST} nonsense = 1;", "nonsense: there is no such option"),
    ],
)
def test_what_is_wrong_is_named(nix: Nix, given: str, complaint: str) -> None:
    status, said = nix.said("result.values.settings", f"enable = true; {given}")
    assert status != 0
    assert complaint in said


def test_every_option_is_typed_and_explained(nix: Nix) -> None:
    options = nix.value('standin.described "" result.options')
    assert {"enable", "credentials", "settings.source.url"} <= {one["name"] for one in options}
    assert [one["name"] for one in options if not (one["type"] and one["words"].strip())] == []


def test_units_are_the_shipped_ones_with_the_credentials_of_the_host(nix: Nix) -> None:
    config = nix.value(
        "result.config.systemd // { groups = result.config.users.groups; }",
        f'{LEAST} credentials.key = "/etc/keys/key"; members = [ "ann" ];',
    )
    assert config["packages"] == config["tmpfiles"]["packages"] == ["/nix/store/reconciler"]
    service = config["services"]["reconciler"]
    # Nothing else of the unit is said anew, so all that hardens it is what the package has.
    assert service["serviceConfig"] == {"LoadCredential": ["key:/etc/keys/key"]}
    assert service["wantedBy"] == ["multi-user.target"]
    assert config["groups"] == {
        "microvm": {}, "reconciler-front": {}, "reconciler": {"members": ["ann"]},
    }  # fmt: skip


def test_the_hosts_nix_is_there_where_runners_are_allowed_and_only_there(nix: Nix) -> None:
    wanted = "{ inherit (result.config.systemd.services.reconciler) path environment; }"
    assert nix.value(wanted) == {"path": [], "environment": {}}
    allowed = f"{LEAST} settings.policy.runners = true;"
    assert nix.value(wanted, allowed) == {
        "path": ["/nix/store/nix"], "environment": {"NIX_REMOTE": "daemon"},
    }  # fmt: skip


def test_a_flakes_guests_become_manifests_that_the_daemon_takes(nix: Nix) -> None:
    guests = """{
      web.config.microvm = {
        mem = 512; vcpu = 2;
        forwardPorts = [
          { from = "host"; proto = "tcp"; host.address = ""; host.port = 8080; guest.port = 80; }
          { from = "host"; proto = "udp"; host.address = ""; host.port = 53; guest.port = 53; }
          { from = "guest"; proto = "tcp"; host.port = 22; guest.port = 22; }
        ];
      };
      db.config.microvm = { mem = 1024; vcpu = 1; forwardPorts = [ ]; };
      laptop.config.networking = { };
    }"""
    text = nix.value(f"""
      import {CHECKOUT}/deploy/nixos/manifests.nix {{
        flake = "./flakes/vms"; guests = {guests};
        metadata = _: {{ group = "fleet"; }};
        spec = name: if name == "web"
          then {{ health.checks = [ {{ http.port = 8080; }} ]; }} else {{ }};
      }}""")
    parsed = parse_file(text.encode())
    assert parsed.faults == ()
    db, web = [draft.spec for draft in parsed.drafts if isinstance(draft, VMDraft)]
    assert (web.name, web.group, web.memory_mib, web.vcpu) == ("web", "fleet", 512, 2)
    assert (web.host_ports, db.host_ports) == ((8080,), ())
    attribute = "nixosConfigurations.web.config.microvm.declaredRunner"
    assert web.kernel.source == NixRunner("./flakes/vms", attribute)


def test_disabled_it_does_nothing(nix: Nix) -> None:
    status, said = nix.said("result.config", "enable = false;")
    assert (status, json.loads(said)) == (0, {})
