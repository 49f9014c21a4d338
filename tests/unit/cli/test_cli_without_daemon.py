"""What the command line does when no daemon answers, or it is called wrongly."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from socket import AF_UNIX, socket as unix_socket

import pytest

from reconciler import config as settings
from reconciler.cli import daemon_client
from reconciler.cli.app import main
from reconciler.cli.daemon_client import Daemon
from reconciler.cli.terminal import age
from reconciler.safe_text import clean, clean_console_line
from tests.unit.cli.conftest import Run

CLI = [sys.executable, "-m", "reconciler"]


async def test_no_daemon_is_said_with_its_socket_and_how_to_start_it(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "none.sock"
    for command in (
        ["status"],
        ["plan"],
        ["events", "-f"],
        ["logs", "web"],
        ["reconcile", "--wait"],
    ):
        shown = await run(*command, "--socket", str(path))
        assert shown.code == 1
        assert shown.out == ""
        assert shown.err.splitlines() == [
            f"reconciler: no daemon listens on {path}: guests keep running, but nothing manages them",
            "hint: `systemctl start reconciler`, or run `reconciler run`; name another socket with --socket",
        ]


@pytest.mark.parametrize(
    "arguments", [["frob"], ["plan", "--bogus"], ["diff", "web"], ["rollback", "web", "--to", "0"]]
)
async def test_wrong_usage_is_never_taken_for_changes(run: Run, arguments: list[str]) -> None:
    shown = await run(*arguments)
    assert shown.code == 1
    assert shown.err.startswith("reconciler: ")
    assert len(shown.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("", "source.url: is missing", 'write [source] and below it url = "..."'),
        ("poll_intervall = 3", "source.poll_intervall: unknown key", "did you mean poll_interval?"),
        (
            "[polcy]\n[http]\nport = 99999",
            "http.port: should be less than or equal to 65535 (wrong too: polcy)",
            "correct http.port, or remove it",
        ),
        (
            "[[notifications]]\nname = 'a'\ntype = 'slack'\nurl = 'b'\nurl_file = 'c'",
            "notifications[0].url: unknown key",
            "known here: name, severity, groups, repeat, type, url_file",
        ),
        (
            "[[notifications]]\nname = 'a'\ntype = 'slack'",
            "notifications[0].url_file: is missing",
            "add it: it has no default",
        ),
        ("[policy]\nzzz = 1", "policy.zzz: unknown key", "known here: hypervisors, host_paths,"),
    ],
)
async def test_a_config_that_is_wrong_is_told_with_its_key_and_the_nearest(
    run: Run, tmp_path: Path, text: str, words: str, hint: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[source]\nurl = 'file:///x'\n{text}\n" if text else "")
    shown = await run("run", "--config", str(file))
    first, second = shown.err.splitlines()
    assert (shown.code, first) == (78, f"reconciler: {file}: {words}")
    assert second.startswith(f"hint: {hint}")


async def test_a_bad_config_ends_the_daemon_with_78(run: Run, tmp_path: Path) -> None:
    missing = await run("run", "--config", str(tmp_path / "none.toml"))
    assert (missing.code, "no such file" in missing.err) == (78, True)
    bad = tmp_path / "bad.toml"
    bad.write_text("[source]\nurl = 'file:///x'\nbrunch = 'main'\n")
    wrong = await run("run", "--config", str(bad))
    assert (wrong.code, "source.brunch" in wrong.err) == (78, True)


async def test_the_socket_comes_from_the_config_without_loading_it_in_full(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECONCILER_SOCKET", raising=False)
    file = tmp_path / "config.toml"
    file.write_text("control_socket = '/nowhere/mine.sock'\n[source]\nurl = 'x'\n")
    assert "no daemon listens on /nowhere/mine.sock" in (await run("status", "-c", str(file))).err
    file.write_text("not toml")
    assert (await run("status", "-c", str(file))).code == 1


def test_what_the_light_lookup_assumes_is_what_the_config_says() -> None:
    assert daemon_client.CONFIG_ENVIRONMENT == settings.ENVIRONMENT
    assert daemon_client.DEFAULT_CONFIG == settings.DEFAULT_PATH
    assert (
        str(daemon_client.DEFAULT_SOCKET) == settings.Config.model_fields["control_socket"].default
    )


def test_a_daemon_that_hangs_is_not_called_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Daemon.get, "__kwdefaults__", {"timeout": 0.1})
    with unix_socket(AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        assert main(["version", "--socket", str(tmp_path / "silent")]) == 0
    assert "did not answer in time" in capsys.readouterr().out


@pytest.fixture
def rude_daemon(tmp_path: Path) -> Iterator[Path]:
    """Takes each connection, answers nonsense, and closes."""
    path = tmp_path / "rude.sock"
    with unix_socket(AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\x1b\x07[bad")

        thread = threading.Thread(target=answer)
        thread.start()
        yield path
        listener.shutdown(2)
    thread.join(10)


async def test_a_daemon_that_answers_nonsense_is_an_error_of_two_lines(
    run: Run, rude_daemon: Path
) -> None:
    shown = await run("status", "--socket", str(rude_daemon))
    assert (shown.code, len(shown.err.splitlines())) == (1, 2)
    assert "\x1b" not in shown.err


async def test_doctor_says_what_is_missing_and_how_to_mend_it(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        f"state_dir = '{tmp_path}/state'\ncontrol_socket = '{tmp_path}/none.sock'\n"
        "[source]\nurl = 'file:///x'\n[qemu]\nbinary = 'qemu-system-nowhere'\n"
    )
    shown = await run("doctor", "--config", str(file))
    assert shown.code == 1
    words = " ".join(shown.out.split())
    assert "qemu-system-nowhere is not installed; it runs guests" in words
    assert "fix: apt-get install qemu-system-x86" in words
    assert "no daemon listens" in words


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("plain\ttext", "plain\ttext"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x07", "link"),
        ("\x1bPdcs\x1b\\after", "after"),
        ("\x1bcreset \x9b2Jcleared", "reset cleared"),
        ("\x1b]0;never ended", ""),
        ("bell\x07 nul\x00 del\x7f", "bell\\x07 nul\\x00 del\\x7f"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\u202edne\u2066", "\\u202edne\\u2066"),
        ("\udc80", "\\udc80"),
        ("\x1b", "\\x1b"),
        ("\x1b\x1b[31m[31m", "\\x1b[31m"),
    ],
)
def test_text_is_safe_to_show(raw: str, safe: str) -> None:
    assert clean(raw) == safe


def test_a_console_line_shows_what_the_last_carriage_return_left() -> None:
    assert clean_console_line(b"10%\r50%\r100%\r\n") == "100%"
    assert clean_console_line(b"\xff\xfe\x9b31m") == "\ufffd\ufffd\ufffd31m"


def test_ages_are_one_figure() -> None:
    assert [age(s) for s in (-1, 59, 600, 7300, 200_000)] == ["0 s", "59 s", "10 min", "2 h", "2 d"]


def run_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments], check=False, capture_output=True, text=True, timeout=50
    )


def test_the_module_runs_as_a_program_and_returns_its_exit_code(tmp_path: Path) -> None:
    assert "Usage: reconciler" in run_process("--help").stdout
    assert run_process("status", "--socket", str(tmp_path / "none")).returncode == 1


def test_help_and_status_load_nothing_heavy() -> None:
    heavy = "{'rich', 'aiohttp', 'pygit2', 'asyncio', 'prometheus_client'}"
    script = (
        "import sys; from reconciler.cli.app import main; main(['--help']);"
        "main(['status', '-o', 'json', '--socket', '/nonexistent']);"
        f"sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr


def test_an_interrupt_is_quiet_and_exits_with_130(tmp_path: Path) -> None:
    with unix_socket(AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        child = subprocess.Popen(
            [*CLI, "events", "-f", "--socket", str(tmp_path / "silent")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "80"},
        )  # fmt: skip
        with silent.accept()[0] as connection:
            connection.recv(65536)  # it has asked, and waits
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=50)
    assert (child.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("command", ["status", "rollback", "run"])
async def test_help_is_plain_text(run: Run, command: str) -> None:
    shown = await run(command, "--help")
    assert "\\" not in shown.out
    assert "[default: text]" in shown.out
