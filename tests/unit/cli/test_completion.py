"""The tab key: commands, options, and names from a daemon that answers soon."""

from __future__ import annotations

import asyncio
import os
import socket as sockets
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli.app import in_order
from reconciler.cli.completion import SECONDS
from tests.unit.cli.conftest import Run
from tests.unit.control.fake_operator import FakeOperator, fleet, vm

pytestmark = pytest.mark.shows(fault=127)

PROGRAM = f"{sys.executable} -m reconciler"
DEPLOY = Path(__file__).resolve().parents[3] / "deploy"


def ask(shell: str, line: str) -> list[str]:
    """What the shell's script asks the command for, at the end of this line."""
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    environ = {**os.environ, **asked, "_RECONCILER_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(
        [sys.executable, "-m", "reconciler"],
        env=environ, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.usefixtures("socket")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_names_commands_and_options_are_offered(shell: str, operator: FakeOperator) -> None:
    operator.fleet = fleet(vm("web-a"), vm("web-b"), vm("db"))
    expected = {
        "reconciler prom": ("promote",),
        "reconciler why web": ("web-a", "web-b"),
        "reconciler promote fr": ("frontend",),
        "reconciler suspend group/": ("group/frontend",),
        "reconciler reconcile --ti": ("--timeout",),
        "reconciler status -o j": ("json",),
    }
    for line, offered in expected.items():
        found = " ".join(await asyncio.to_thread(ask, shell, line))
        assert all(one in found for one in offered), (line, found)
    assert "db" not in " ".join(await asyncio.to_thread(ask, shell, "reconciler why web"))


@pytest.mark.usefixtures("socket")
async def test_bash_completes_with_the_script_that_is_installed(
    operator: FakeOperator, tmp_path: Path
) -> None:
    operator.fleet = fleet(vm("web-a"), vm("web-b"))
    script = tmp_path / "reconciler"
    argv = [sys.executable, str(DEPLOY / "words.py"), "completion", "bash"]
    script.write_bytes(
        (await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True)).stdout
    )
    typed = (
        f'source {script}; reconciler() {{ {PROGRAM} "$@"; }}; export -f reconciler;'
        f' printf "#!/bin/sh\\nexec {PROGRAM}\\n" >{tmp_path}/asked; chmod +x {tmp_path}/asked;'
        f" COMP_WORDS=(reconciler why web); COMP_CWORD=2;"
        f' _reconciler_completion {tmp_path}/asked; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", typed], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["web-a", "web-b"], done.stderr


def test_a_daemon_that_does_not_answer_costs_a_moment_and_offers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sockets.socket(sockets.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "control.sock"))
        silent.listen()
        monkeypatch.setenv("RECONCILER_SOCKET", str(tmp_path / "control.sock"))
        assert ask("bash", "reconciler why web") == []
    assert SECONDS <= 1.0
    monkeypatch.setenv("RECONCILER_SOCKET", str(tmp_path / "none.sock"))
    assert ask("bash", "reconciler why web") == []


@pytest.mark.shows(fault=127)
@pytest.mark.usefixtures("operator")
async def test_the_socket_and_the_config_may_be_named_before_the_command_and_after_it(
    run: Run, socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECONCILER_SOCKET")
    config = tmp_path / "config.toml"
    config.write_text(f"control_socket = '{socket}'\n[source]\nurl = 'file:///x'\n")
    for line in (
        ("--socket", str(socket), "status"),
        ("status", "--socket", str(socket)),
        (f"--socket={socket}", "status", "web"),
        ("-c", str(config), "status"),
        ("status", "-c", str(config)),
        ("--config", str(config), "why", "web"),
        ("-c", str(config), "--socket", str(socket), "plan"),
    ):
        assert (await run(*line)).code in (0, 2), line
    wrong = await run("-c", str(tmp_path / "none.toml"), "status")
    assert (wrong.code, "none.toml" in wrong.err) == (1, True)
    assert (await run("-c", str(config))).code == 0, "no command: the help"


def test_options_before_the_command_go_behind_it() -> None:
    assert in_order(["-c", "f", "status", "web"]) == ["status", "-c", "f", "web"]
    assert in_order(["--config=f", "status"]) == ["status", "--config=f"]
    assert in_order(["status", "-c", "f"]) == ["status", "-c", "f"]
    assert in_order(["-c"]) == ["-c"]
    assert in_order([]) == []
