"""`validate` needs no daemon and names every error at once."""

import json
from pathlib import Path

import pytest

from reconciler.config import Config
from reconciler.errors import ConfigError
from tests.unit.cli.conftest import Run

GOOD = """
apiVersion: reconciler/v1
kind: MicroVM
metadata: {name: web}
spec:
  hypervisor: qemu
  memory: 256MiB
  kernel: debian
  store: {format: erofs, layers: [{busybox: {}}]}
"""
BAD = GOOD.replace("memory:", "memmory:").replace("name: web", "name: Web")


@pytest.fixture(autouse=True)
def no_host_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECONCILER_CONFIG", raising=False)
    monkeypatch.setattr("reconciler.config.DEFAULT_PATH", tmp_path / "no-config.toml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "fleet"
    made.mkdir()
    return made


async def test_a_valid_folder_is_counted(run: Run, folder: Path) -> None:
    (folder / "web.yaml").write_text(GOOD)
    shown = await run("validate", str(folder))
    assert (shown.code, shown.out) == (0, "valid: 1 VM, 0 groups\n")
    answer = json.loads((await run("validate", str(folder), "-o", "json")).out)
    (warning,) = answer.pop("warnings")
    assert answer == {"valid": True, "problems": [], "more": 0, "vms": ["web"], "groups": []}
    assert (warning["vm"], warning["field"]) == ("web", "spec.health.checks")


async def test_a_purpose_that_has_no_effect_is_warned_of_at_its_place(
    run: Run, folder: Path
) -> None:
    checks = "[{tcp: {port: 4222}, purpose: readiness}, {process: {}, purpose: readiness}]"
    forwarded = "  interfaces: [{type: user, forward: [{host: 4222, guest: 22}]}]\n"
    written = f"{GOOD}{forwarded}  health: {{checks: {checks}}}\n"
    (folder / "web.yaml").write_text(written)
    shown = await run("validate", str(folder))
    assert shown.code == 0
    (warning,) = [line for line in shown.err.splitlines() if "purpose" in line]
    assert warning == (
        "warning: web: spec.health.checks[1].purpose: has no effect:"
        " the purpose of process is always liveness; remove it"
    )
    for other in ("{process: {}, purpose: liveness}", "{process: {}}"):
        (folder / "web.yaml").write_text(
            written.replace("{process: {}, purpose: readiness}", other)
        )
        assert "purpose" not in (await run("validate", str(folder))).err


@pytest.mark.shows(fault=70)
async def test_a_vm_without_checks_and_one_with_little_memory_are_warned_of(
    run: Run, folder: Path
) -> None:
    (folder / "web.yaml").write_text(GOOD.replace("256MiB", "72MiB"))
    shown = await run("validate", str(folder))
    assert shown.code == 0
    first, second = shown.err.splitlines()
    assert first.startswith("warning: web: spec.health.checks: no check asks this VM")
    assert second.startswith("warning: web: spec.memory: a guest may not boot with 72MiB")
    assert shown.out.startswith("valid: 1 VM")


@pytest.mark.shows(fault=70)
async def test_memory_has_a_floor(run: Run, folder: Path) -> None:
    (folder / "web.yaml").write_text(GOOD.replace("256MiB", "32MiB"))
    shown = await run("validate", str(folder))
    assert shown.code == 1
    assert "does not boot with less than 64MiB" in shown.out


async def test_every_error_has_its_place(run: Run, folder: Path) -> None:
    (folder / "web.yaml").write_text(BAD)
    shown = await run("validate", str(folder))
    assert shown.code == 1
    lines = shown.out.splitlines()
    assert any(line.startswith("web.yaml:4:") for line in lines)
    assert any(line.startswith("web.yaml:7:") and "memmory" in line for line in lines)
    assert shown.err == f"reconciler: {len(lines)} errors in 1 file\n"
    answer = json.loads((await run("validate", str(folder), "-o", "json")).out)
    assert not answer["valid"]
    assert set(answer["problems"][0]) == {"file", "line", "col", "message", "hint"}


async def test_the_hosts_policy_counts_when_its_config_is_named(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    (folder / "web.yaml").write_text(GOOD)
    config = tmp_path / "config.toml"
    config.write_text("[source]\nurl = 'file:///x'\n[policy]\nmax_memory_mib = 128\n")
    shown = await run("validate", str(folder), "--config", str(config))
    assert (shown.code, "memory" in shown.out) == (1, True)


async def test_a_bad_config_and_a_missing_folder_are_errors_of_two_lines(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("what = 1\n")
    for arguments in ([str(folder), "-c", str(config)], [str(tmp_path / "none")]):
        shown = await run("validate", *arguments)
        assert (shown.code, shown.out, len(shown.err.splitlines())) == (1, "", 2)


async def test_manifest_text_cannot_drive_the_terminal(run: Run, folder: Path) -> None:
    (folder / "web.yaml").write_text(GOOD.replace("name: web", 'name: "\\e[2J\\u202eweb"'))
    shown = await run("validate", str(folder))
    assert shown.code == 1
    assert not set(shown.out + shown.err) & set("\x1b\u202e")


async def test_the_schema_is_json_that_names_both_kinds(run: Run) -> None:
    shown = await run("schema")
    assert (shown.code, shown.out) == (0, (await run("schema", "-o", "json")).out)
    text = json.dumps(json.loads(shown.out))
    assert "MicroVM" in text
    assert "maxUnavailable" in text


async def test_a_forward_that_an_outgoing_connection_may_take_is_warned_of(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, kept = tmp_path / "range", tmp_path / "reserved"
    given.write_text("32768\t60999\n")
    kept.write_text("40124\n")
    monkeypatch.setattr("reconciler.vmm.port_availability.ephemeral_ports.__defaults__", (given,))
    monkeypatch.setattr("reconciler.vmm.port_availability.reserved_ports.__defaults__", (kept,))
    forwards = ", ".join(f"{{host: {port}, guest: 80}}" for port in (8080, 40123, 40124))
    (folder / "web.yaml").write_text(
        f"{GOOD}  interfaces: [{{type: user, forward: [{forwards}]}}]\n"
    )
    shown = await run("validate", str(folder))
    assert shown.code == 0
    (warning,) = [line for line in shown.err.splitlines() if "forward" in line]
    assert warning.startswith("warning: web: spec.interfaces[0].forward[1].host: an outgoing")
    assert "ip_local_reserved_ports=40123" in warning


@pytest.mark.shows(fault=121)
async def test_one_file_may_be_checked_and_a_host_config_that_may_not_be_read_is_left_out(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "web.yaml").write_text(GOOD)
    config = tmp_path / "config.toml"
    config.write_text("")

    def denied(path: Path) -> Config:  # as for anybody but root
        raise ConfigError(f"{path}: Permission denied") from PermissionError(
            13, "Permission denied"
        )

    monkeypatch.delenv("RECONCILER_CONFIG", raising=False)
    monkeypatch.setattr("reconciler.config.DEFAULT_PATH", str(config))
    monkeypatch.setattr("reconciler.config.load_config", denied)
    shown = await run("validate", str(folder / "web.yaml"))
    assert (shown.code, shown.out) == (0, "valid: 1 VM, 0 groups\n")
    assert "may not be read: the host's policy is not checked" in shown.err


@pytest.mark.shows(fault=133)
async def test_a_path_that_is_not_there_and_one_without_manifests_are_told_apart(
    run: Run, folder: Path
) -> None:
    missing = await run("validate", str(folder / "nope"))
    assert (missing.code, "nope does not exist" in missing.err) == (1, True)
    (folder / "web.json").write_text("{}")
    empty = await run("validate", str(folder))
    assert empty.code == 0
    assert f"warning: {folder} has no manifests, which are *.yaml and *.yml files" in empty.err
