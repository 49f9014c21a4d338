"""Where the log goes, and that nobody's text can pass for a field of ours."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.logs import Journal, Lines, datagram, is_journal

EVENT = {"event": "rolled-back", "vm": "web", "group": "front", "generation": 5, "revision": "a1b2"}

LOGS = """
import logging, pathlib, sys
from reconciler import logs
logs.JOURNAL = pathlib.Path(sys.argv[1])
logs.open_log(sys.argv[2])
log = logging.getLogger("reconciler.engine.loop")
log.warning("back", extra={"fields": {"vm": "web", "group": None}})
"""


def record(message: str, fields: dict[str, object], level: int = logging.INFO) -> logging.LogRecord:
    made = logging.LogRecord("reconciler.engine.loop", level, "f.py", 1, message, (), None)
    made.fields = fields
    return made


def read(raw: bytes) -> dict[str, str]:
    """The fields of a datagram of the journal's native protocol, each written with its length."""
    found = {}
    while raw:
        name, _, raw = raw.partition(b"\n")
        size = int.from_bytes(raw[:8], "little")
        found[name.decode()] = raw[8 : 8 + size].decode()
        assert raw[8 + size : 9 + size] == b"\n"
        raw = raw[9 + size :]
    return found


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        server.settimeout(10)
        yield server


def test_a_change_of_state_is_one_record_with_its_fields() -> None:
    told = read(datagram(record("web: back on generation 5", EVENT, logging.WARNING)))
    assert told == {
        "MESSAGE": "web: back on generation 5",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "reconciler",
        "CODE_MODULE": "reconciler.engine.loop",
        "EVENT": "rolled-back",
        "VM": "web",
        "GROUP": "front",
        "GENERATION": "5",
        "REVISION": "a1b2",
    }


def test_no_text_can_pass_for_a_field_and_none_is_without_bound() -> None:
    evil = record(
        "x\n_UID=0\nPRIORITY=0\n", {"_pid": "1", "vm": "y\nUNIT=z\udcff", "big": "b" * 10**6}
    )
    told = read(datagram(evil))
    assert told["MESSAGE"] == "x\n_UID=0\nPRIORITY=0\n"
    assert set(told) == {
        "MESSAGE",
        "PRIORITY",
        "SYSLOG_IDENTIFIER",
        "CODE_MODULE",
        "PID",
        "VM",
        "BIG",
    }
    assert len(told["BIG"]) == 8192


def test_lines_are_logfmt_or_json_with_the_same_fields() -> None:
    made = record('said "hi"', EVENT | {"hint": None})
    line = Lines(as_json=False).format(made)
    assert r'level=info msg="said \"hi\"" event=rolled-back vm=web group=front generation=5' in line
    assert "hint" not in line
    told = json.loads(Lines(as_json=True).format(made))
    assert {key: told[key] for key in EVENT} == EVENT


def child(path: Path, form: str, stream: str | None) -> str:
    """What a process that logs once writes to standard error."""
    environment = {**os.environ, **({"JOURNAL_STREAM": stream} if stream else {})}
    done = subprocess.run(
        [sys.executable, "-c", LOGS, str(path), form],
        env=environment, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    return done.stderr


def test_without_the_journal_or_with_a_redirected_stream_lines_are_written(tmp_path: Path) -> None:
    for stream in (None, "1:2", "nonsense"):
        line = child(tmp_path / "none", "logfmt", stream)
        assert line.rstrip().endswith("level=warning msg=back vm=web")


def test_a_process_of_systemd_sends_its_records_to_the_journal(
    tmp_path: Path, journal: socket.socket
) -> None:
    stream = (tmp_path / "stderr").open("wb")
    with stream:
        state = os.fstat(stream.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{state.st_dev}:{state.st_ino}"}
        command = [sys.executable, "-c", LOGS, journal.getsockname(), "logfmt"]
        subprocess.run(command, env=environment, stderr=stream, timeout=30, check=True)
    assert read(journal.recv(65536))["VM"] == "web"
    assert (tmp_path / "stderr").read_bytes() == b""


def test_a_journal_that_is_away_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(Lines(as_json=False))
    Journal(tmp_path / "away", lines).emit(record("still here", EVENT))
    assert "still here" in capsys.readouterr().err


def test_nothing_is_the_journal_where_nothing_says_so() -> None:
    assert not is_journal({})


def test_what_a_line_is_about_is_in_its_fields_and_not_in_its_words() -> None:
    found = [
        f"{path.name}: {text}"
        for path in (Path(__file__).resolve().parents[2] / "reconciler").rglob("*.py")
        for text in re.findall(r"\blog\.\w+\(\s*\"([^\"]*\w=%[^\"]*)", path.read_text())
    ]
    assert found == []
