"""What is installed agrees with the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from reconciler.cli.app import MODULES, build
from reconciler.cli.doctor_systemd import FRONT
from reconciler.config import Config, HttpConfig, parse_config
from reconciler.daemon import FRONT_FOLDER
from reconciler.host import layout
from reconciler.proxy.server import CONTROL
from reconciler.supervisor.systemd_unit import GROUP, SLICE

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
if not DEPLOY.is_dir():
    pytest.skip("nothing to deploy beside this code", allow_module_level=True)
CONFIG = (DEPLOY / "config/config.toml").read_text(encoding="utf-8")
SCRIPTS = (
    "debian/preinst",
    "debian/postinst",
    "debian/prerm",
    "debian/postrm",
    "libexec/reconciler",
)


def commands() -> set[str]:
    return {command for group in MODULES.values() for command in group}


def options_of_commands() -> dict[str, list[str]]:
    found: dict[str, Any] = typer.main.get_command(build([])).commands  # type: ignore[attr-defined]
    return {
        name: [p.opts[0] for p in one.params if p.param_type_name == "option"]
        for name, one in found.items()
    }


def test_the_shipped_config_is_valid_as_it_is() -> None:
    config = parse_config(tomllib.loads(CONFIG), "config.toml")
    assert config.supervisor == "systemd"


def test_what_the_shipped_config_leaves_out_is_the_default_that_it_names() -> None:
    text = re.sub(r"^#(\w+ = |\[\[)", r"\1", CONFIG, flags=re.MULTILINE)
    shown = parse_config(tomllib.loads(text), "config.toml").model_dump()
    assumed = parse_config(tomllib.loads(CONFIG), "config.toml").model_dump()
    examples = {"branch", "ssh_key", "known_hosts"}
    for section, values in shown.items():
        if isinstance(values, dict):
            for key in values.keys() - examples:
                assert values[key] == assumed[section][key], f"{section}.{key}"


def words(*what: str) -> str:
    argv = [sys.executable, str(DEPLOY / "words.py"), *what]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.mark.shows(fault=127)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_a_shell_is_sound_and_laid_out(shell: str, tmp_path: Path) -> None:
    file = tmp_path / "completion"
    file.write_text(words("completion", shell))
    assert "_RECONCILER_COMPLETE=complete_" + shell in file.read_text()
    if shutil.which(shell) is not None:
        assert subprocess.run([shell, "-n", str(file)], check=False).returncode == 0
    assert f"words completion {shell} >" in (DEPLOY / "install.sh").read_text(encoding="utf-8")


def test_the_manual_has_every_command_with_what_it_does() -> None:
    manual = words("manual")
    entries = re.findall(r'^\.TP\n\.B "([\w-]+)[^"]*"\n\\&(\S.*)$', manual, re.MULTILINE)
    assert {name for name, _ in entries} == commands()


@pytest.mark.shows(fault=127)
def test_the_manual_has_the_options_of_each_command() -> None:
    manual = words("manual").replace("\\-", "-")
    for name, options in options_of_commands().items():
        entry = manual[manual.index(f'.B "{name}') :]
        entry = entry[: entry.index(".RE") if options else None]
        assert all(f'.B "{option}' in entry for option in options), name
    troff = subprocess.run(
        ["man", "--warnings", "-l", "-"], input=words("manual"), text=True,
        capture_output=True, check=False,
    ) if shutil.which("man") else None  # fmt: skip
    assert troff is None or troff.stderr == ""


def test_units_and_users_are_those_that_the_code_means() -> None:
    service = (DEPLOY / "systemd/reconciler.service").read_text(encoding="utf-8")
    socket = (DEPLOY / "systemd/reconciler.socket").read_text(encoding="utf-8")
    assert (DEPLOY / "systemd" / SLICE).is_file()
    assert f"SupplementaryGroups={GROUP}\n" in service
    assert f"g {GROUP} -\n" in (DEPLOY / "sysusers.d/reconciler.conf").read_text(encoding="utf-8")
    assert "RestartPreventExitStatus=78\n" in service
    default = Config.model_fields["control_socket"].default
    assert f"ListenStream={default}\n" in socket
    assert "FileDescriptorName=control\n" in socket


def test_the_socket_of_the_tcp_face_is_where_the_daemon_listens_by_default() -> None:
    socket = (DEPLOY / "systemd/reconciler-http.socket").read_text(encoding="utf-8")
    default = HttpConfig()
    assert f"ListenStream={default.address}:{default.port}\n" in socket
    assert "FileDescriptorName=http\n" in socket
    assert "Service=reconciler.service\n" in socket


def test_the_fronts_units_are_those_that_the_code_means() -> None:
    service = (DEPLOY / "systemd/reconciler-front.service").read_text(encoding="utf-8")
    socket = (DEPLOY / "systemd/reconciler-front.socket").read_text(encoding="utf-8")
    daemon = (DEPLOY / "systemd/reconciler.service").read_text(encoding="utf-8")
    tmpfiles = (DEPLOY / "tmpfiles.d/reconciler.conf").read_text(encoding="utf-8")
    assert f"ListenStream={layout.proxy_socket(FRONT_FOLDER)}\n" in socket
    assert layout.proxy_socket(FRONT_FOLDER) == FRONT
    assert f"FileDescriptorName={CONTROL}\n" in socket
    assert f"d {FRONT_FOLDER} 0755 reconciler-front reconciler-front -\n" in tmpfiles
    assert f"ReadWritePaths={FRONT_FOLDER}\n" in service
    assert "Wants=" in daemon
    assert "reconciler-front.socket" in daemon.split("Wants=")[1].split("\n")[0]
    for named in re.findall(r"^(?:BindsTo|PartOf|Requires)=(.*)$", service, re.MULTILINE):
        assert named == "reconciler-front.socket", "the daemon's end must not be the front's"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_sound_shell(script: str) -> None:
    path = str(DEPLOY / script)
    assert subprocess.run(["sh", "-n", path], check=False).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", path], check=False).returncode == 0


def test_what_the_package_of_nix_replaces_in_units_is_there_to_be_replaced() -> None:
    text = (DEPLOY / "nixos/package.nix").read_text(encoding="utf-8")
    patched = re.findall(r"substituteInPlace \S+/(\S+) \\\n((?: +--replace-fail .*\n)+)", text)
    assert {name for name, _ in patched} == {
        "reconciler.service",
        "reconciler-front.service",
    }
    for name, lines in patched:
        unit = (DEPLOY / "systemd" / name).read_text(encoding="utf-8")
        replaced = re.findall(r"--replace-fail (\S+) ", lines)
        assert replaced
        assert [word for word in replaced if word not in unit] == []


def test_the_package_of_nix_has_every_library() -> None:
    text = (DEPLOY / "nixos/package.nix").read_text(encoding="utf-8")
    listed = re.search(r"dependencies = with python3Packages; \[(.*?)\]", text, re.DOTALL)
    assert listed
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {re.split(r"[<>=~!\[ ]", one)[0] for one in project["project"]["dependencies"]}
    assert set(listed[1].split()) == wanted


def test_the_debian_package_has_every_library_and_those_of_traces() -> None:
    said = subprocess.run(
        [sys.executable, str(DEPLOY / "closure.py")],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout  # fmt: skip
    shipped = set(re.findall(r"^([\w.-]+)==", said, re.MULTILINE))
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))
    asked = project["project"]["dependencies"]
    asked += project["project"]["optional-dependencies"]["tracing"]
    assert {re.split(r"[<>=~!\[ ]", one)[0] for one in asked} <= shipped
    assert {"protobuf", "multidict"} <= shipped, "what they need in turn"
    assert {"pytest", "mypy"} & shipped == set()


def test_only_a_host_with_bridges_gives_the_daemon_a_right_and_its_cage_stays_closed(
    tmp_path: Path,
) -> None:
    unit = (DEPLOY / "systemd/reconciler.service").read_text(encoding="utf-8")
    given = (DEPLOY / "systemd/bridges.conf").read_text(encoding="utf-8").split("[Service]\n")[1]
    assert given == "CapabilityBoundingSet=CAP_NET_ADMIN\nDeviceAllow=/dev/net/tun rw\n"
    assert "\nCapabilityBoundingSet=\n" in unit
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    both = tmp_path / "reconciler.service"
    both.write_text(unit.replace("CapabilityBoundingSet=\n", given), encoding="utf-8")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", both],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout
