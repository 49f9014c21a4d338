"""What `doctor` says of hosts with one thing wrong; `tests/systemd` asks it on a real one."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from reconciler.cli import doctor_checks as checks, doctor_sources, doctor_systemd as servicechecks
from reconciler.config import parse_config
from reconciler.image_registries import RegistryConfig

pytestmark = pytest.mark.shows(fault=77)

NOWHERE = Path("/nowhere")


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(NOWHERE))
    monkeypatch.setattr(checks, "SYSTEM_FOLDERS", ())
    found = [checks.check_program(program) for program in checks.PROGRAMS]
    assert {finding.remedy.removeprefix("apt-get install ") for finding in found} >= {
        *("erofs-utils", "e2fsprogs", "util-linux", "lz4", "dpkg"),
    }
    assert {finding.result for finding in found} == {"failed", "warning"}


def test_a_full_disk_is_named_with_what_shows_who_fills_it(tmp_path: Path) -> None:
    found = checks.check_space(tmp_path / "state", 10**9)
    assert found.result == "failed"
    assert found.remedy == f"du -xhd2 {tmp_path} | sort -h | tail"


def test_no_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1000 kB\nMemAvailable:  204800 kB\n")
    monkeypatch.setattr(checks, "MEMINFO", meminfo)
    found = checks.check_memory(512)
    assert (found.result, found.detail.split(",")[0]) == ("warning", "200 MiB available")


def test_a_host_without_kvm_is_named_with_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.vmm.qemu.accel.KVM", NOWHERE / "kvm")
    (vmm,) = checks.fingerprints(None)
    found = checks.check_accelerator(vmm.kvm)
    assert (found.result, found.remedy) == ("warning", "modprobe kvm_intel, or kvm_amd")


def test_a_host_without_systemd_or_its_bus_is_named(tmp_path: Path) -> None:
    found = servicechecks.check_systemd(tmp_path / "no-systemd")
    assert (found.result, found.remedy) == ("failed", 'set supervisor = "local" in the config')
    dead = tmp_path / "bus"
    with socket.socket(socket.AF_UNIX) as bus:
        bus.bind(str(dead))  # and nobody listens
    for bus_path in (tmp_path / "no-bus", dead):
        lost = servicechecks.check_bus(bus_path)
        assert lost.result == "failed"
        assert lost.remedy == "apt-get install dbus && systemctl start dbus.socket"


def test_a_host_without_the_guests_group_is_named() -> None:
    found = servicechecks.check_group("no-such-group")
    assert (found.result, found.remedy) == ("failed", "systemd-sysusers reconciler.conf")


def test_who_may_use_the_socket_is_not_told_otherwise(tmp_path: Path) -> None:
    control = tmp_path / "control.sock"
    assert servicechecks.check_membership(control) is None
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(control))
    assert servicechecks.check_membership(control) is None


def test_a_state_that_belongs_to_somebody_else_is_named(tmp_path: Path) -> None:
    mine = os.geteuid()
    assert checks.check_owner(tmp_path, mine).result == "ok"
    remedy = checks.check_owner(tmp_path, mine + 1).remedy
    assert remedy == f"chown -R --from={mine} {mine + 1} {tmp_path}"
    tmp_path.chmod(0o500)
    assert checks.check_owner(tmp_path, mine).remedy == f"chmod u+rwx {tmp_path}"
    tmp_path.chmod(0o700)
    gone = checks.check_owner(tmp_path / "gone", mine)
    assert gone.remedy == "systemd-tmpfiles --create reconciler.conf"


@pytest.mark.parametrize(
    ("script", "result", "says"),
    [
        (None, "failed", "is not installed, but policy.runners allows"),
        ("echo 'nix (Nix) 2.3.16'", "failed", "2.3.16 has no flakes"),
        (
            '[ "$1" = --version ] && echo "nix (Nix) 2.8.0" || { echo "error: cannot connect to socket" >&2; exit 1; }',
            "failed",
            "its store cannot be used: error: cannot connect to socket",
        ),
        ("echo 'nix (Nix) 2.18.1'", "ok", "2.18.1, its store answers"),
    ],
)
def test_nix_is_looked_at_where_runners_are_allowed(
    script: str | None, result: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if script else str(NOWHERE))
    if script:
        (tmp_path / "nix").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nix").chmod(0o755)
    found = doctor_sources.check_nix()
    assert (found.result, says in found.detail) == (result, True), found
    assert found.remedy or result == "ok"


def test_a_front_that_does_not_answer_is_told_from_one_that_does(tmp_path: Path) -> None:
    control = tmp_path / "front.sock"
    assert servicechecks.check_front(control).result == "warning", "it is not there"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(control))
        dead = servicechecks.check_front(control)
        assert (dead.result, "reconciler-front.socket" in dead.remedy) == ("failed", True)
        server.listen()

        def answer() -> None:
            for said in (b"", b'{"version":0}\n'):
                client, _ = server.accept()
                with client:
                    client.recv(100)
                    client.sendall(said)

        answering = threading.Thread(target=answer)
        answering.start()
        assert servicechecks.check_front(control).result == "failed", "it hung up"
        assert servicechecks.check_front(control).result == "ok"
        answering.join(10)


def test_the_files_of_a_registry_are_looked_at(tmp_path: Path) -> None:
    credentials, authority = tmp_path / "auth.json", tmp_path / "ca.pem"
    registry = RegistryConfig(
        name="registry.example.org", credentials_file=str(credentials), ca_file=str(authority)
    )
    missing = checks.check_registry(registry)
    assert (missing.name, missing.result) == ("registry registry.example.org", "failed")
    assert "ca_file" in missing.detail
    authority.write_text("of nobody")
    missing = checks.check_registry(registry)
    assert (missing.result, "skopeo login" in missing.remedy) == ("failed", True)
    credentials.write_text('{"auths": {}}')
    credentials.chmod(0o644)
    assert "can be read by everyone" in checks.check_registry(registry).detail
    credentials.chmod(0o600)
    assert checks.check_registry(registry).result == "ok"


def test_skopeo_is_asked_for_where_images_of_registries_are_allowed() -> None:
    def names(**policy: list[str]) -> set[str]:
        settings = parse_config({"source": {"url": "/none"}, "policy": policy}, "c.toml")
        return {finding.name for finding in checks._check_configured(settings)}

    assert "skopeo" in names(registries=["registry.example.org/*"])
    assert "skopeo" not in names()


def test_a_script_of_the_policy_that_cannot_run_is_named(tmp_path: Path) -> None:
    program = tmp_path / "make"
    assert doctor_sources.check_script("make", str(program)).result == "failed"
    program.write_text("#!/bin/sh\n")
    found = doctor_sources.check_script("make", str(program))
    assert (found.result, found.remedy) == (
        "failed", f"chmod +x {program}, or correct policy.scripts.make",
    )  # fmt: skip
    program.chmod(0o755)
    assert doctor_sources.check_script("make", str(program)).result == "ok"
