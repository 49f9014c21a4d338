"""known_hosts: every form of its lines, and what is refused instead of being passed over."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.errors import SourceError
from reconciler.source.git import known_hosts
from reconciler.source.git.callbacks import Callbacks
from reconciler.source.git.fetch import update_mirror
from reconciler.source.git.known_hosts import ServerName, Trust, server_of, trust
from reconciler.source.git.protocol import WorkerRequest

pytestmark = [
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"),
    pytest.mark.shows(fault=51),
]

FIRST = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
SECOND = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC"
SECURITY_KEY = (
    "sk-ssh-ed25519@openssh.com"
    " AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAAAABHNzaDo="
)
"""Of a type that OpenSSH knows in all versions, and libgit2 cannot ask for."""
HOST = ServerName("git.example.org")
HIGH = ServerName("git.example.org", 2222)


def request(url: str, folder: Path, known_hosts: Path) -> WorkerRequest:
    return WorkerRequest(
        mirror=str(folder / "git" / "main"), url=url, want="head", name="", ref="refs/x",
        deadline=5.0, repository_bytes=1 << 20, known_hosts=str(known_hosts),
    )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def found(file: Path, text: str, server: ServerName = HOST) -> Trust:
    file.write_text(text + "\n", encoding="utf-8")
    return trust(server, str(file))


def refusal(file: Path, text: str, server: ServerName = HOST) -> SourceError:
    with pytest.raises(SourceError) as caught:
        found(file, text, server)
    assert (caught.value.kind, bool(caught.value.hint)) == ("verify", True)
    return caught.value


def test_what_libgit2_found_of_a_host_is_handed_on() -> None:
    callbacks = Callbacks(request("ssh://h/x", Path(), Path()))
    for valid in (False, True):
        assert callbacks.certificate_check(None, valid, b"h") is valid


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("git@git.example.org:fleet.git", HOST), ("git.example.org:fleet.git", HOST),
        ("ssh://git@git.example.org/fleet.git", HOST), ("ssh://git.example.org:22/x", HOST),
        ("ssh://git@git.example.org:2222/x", HIGH), ("git+ssh://git.example.org:2222/x", HIGH),
        ("ssh+git://git.example.org:2222/x", HIGH), ("ssh://[2001:db8::1]:2222/x", ServerName("2001:db8::1", 2222)),
        ("git@[::1]:x", ServerName("::1")), ("ssh://GIT.example.org/x", ServerName("GIT.example.org")),
        ("https://git.example.org/x", None), ("git://git.example.org/x", None), ("/srv/a:b", None),
        ("./a:b", None), ("file:///srv/x", None),
    ],
)  # fmt: skip
def test_the_server_of_an_ssh_address_is_told(url: str, server: ServerName | None) -> None:
    assert server_of(url) == server


@pytest.mark.parametrize(
    "url",
    ["ssh://git:secret@h/x", "ssh://h:0/x", "ssh://h:99999/x", "ssh://a%2fb/x", "ssh://-oProxy/x",
     "ssh://h*/x", "git@[h:22]:x", "ssh://h\n/x", "ssh://h"],
)  # fmt: skip
def test_an_ssh_address_whose_server_is_not_clear_is_refused(url: str) -> None:
    with pytest.raises(SourceError) as caught:
        server_of(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "server"),
    [
        (f"git.example.org {FIRST}", HOST), (f"GIT.Example.org {FIRST}", HOST),
        (f"*.example.org {FIRST}", HOST), (f"other,git.example.org,1.2.3.4 {FIRST} comment", HOST),
        (f"[git.example.org]:2222 {FIRST}", HIGH), (f"[*.example.org]:* {FIRST}", HIGH),
        (f"git.example.org {FIRST}", HIGH), (f"  git.example.org\t{FIRST}\r", HOST),
        (f"# a comment\n\n@cert-authority * {SECOND}\ngit.example.org {FIRST}", HOST),
        (f"git.example.org {SECURITY_KEY}\ngit.example.org {FIRST}", HOST),
        (f"git.example.org {FIRST}\ngit.example.org {SECOND}\n@revoked * {SECOND}", HOST),
        (f"[git.example.org]:2222 {FIRST}\ngit.example.org {SECOND}", HIGH),
    ],
)  # fmt: skip
def test_each_form_of_a_line_is_understood(line: str, server: ServerName, file: Path) -> None:
    assert [f"{key.kind} {key.key}" for key in found(file, line, server).keys] == [FIRST]


def test_a_hashed_name_is_found_and_written_in_plain_for_libgit2(
    file: Path, tmp_path: Path
) -> None:
    file.write_text(f"[git.example.org]:2222 {FIRST}\n", encoding="utf-8")
    subprocess.run(["ssh-keygen", "-H", "-f", str(file)], check=True, capture_output=True)
    assert "example" not in file.read_text(encoding="utf-8")
    known_hosts.write_home(trust(HIGH, str(file)), tmp_path)
    written = (tmp_path / ".ssh/known_hosts").read_text(encoding="utf-8")
    assert written == f"git.example.org {FIRST}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no host key of git.example.org"),
        (f"other.example.org {FIRST}", "has no host key of git.example.org"),
        (f"*.example.org,!git.example.org {FIRST}", "has no host key of git.example.org"),
        (f"[git.example.org]:2222 {FIRST}", "has no host key of git.example.org"),
        (f"git.example.org {FIRST}\n@revoked * {FIRST}", "is @revoked"),
        (f"@revoked git.example.org {FIRST}", "has no host key"),
        (f"@cert-authority *.example.org {FIRST}", "host certificates are not supported"),
        (f"git.example.org {SECURITY_KEY}", "cannot be used (sk-ssh-ed25519@openssh.com)"),
    ],
)
def test_without_a_key_that_counts_the_server_is_refused(text: str, words: str, file: Path) -> None:
    error = refusal(file, text)
    assert words in str(error)
    assert f"ssh-keyscan git.example.org >>{file}" in error.hint or "@revoked" in str(error)


@pytest.mark.parametrize(
    "line",
    [
        "git.example.org", "git.example.org ssh-ed25519", "git.example.org ssh-ed25519 AAAA",
        "git.example.org ssh-ed25519 not*base64", f"git.example.org ssh-rsa {FIRST.split()[1]}",
        f"@revokd * {FIRST}", f"@revoked {FIRST}", f"|1|cut {FIRST}", "git.example.org 1024 35 1234567",
        "git.example.org ssh-ed25519 \u00e9\u00e9", "\u00a0", f"@revoked\x1f* {FIRST}", f"git.example.org ssh-ed25519 {FIRST.split()[1][:40]}=",
    ],
)  # fmt: skip
def test_a_malformed_line_is_named_and_nothing_is_trusted(line: str, file: Path) -> None:
    error = refusal(file, f"git.example.org {FIRST}\n{line}")
    assert str(error).startswith(f"{file}:2: ")


def test_a_file_that_cannot_be_read_is_refused_before_anything_is_asked(
    file: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="No such file") as caught:
        update_mirror(request("ssh://git.invalid:2222/x", tmp_path, file))
    assert f"ssh-keyscan -p 2222 git.invalid >>{file}" in caught.value.hint
    file.mkdir()
    with pytest.raises(SourceError, match=r"(?i)is a directory|is not a file"):
        trust(HOST, str(file))
    file.rmdir()
    os.mkfifo(file)
    with pytest.raises(SourceError, match="is not a file"):
        trust(HOST, str(file))
    file.unlink()
    file.write_bytes(b"#" * (known_hosts.MOST_BYTES + 1))
    with pytest.raises(SourceError, match="larger than 4 MiB"):
        trust(HOST, str(file))


def test_without_a_named_file_those_of_ssh_itself_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, system = tmp_path / "own", tmp_path / "system"
    monkeypatch.setattr(known_hosts, "default_files", lambda: [own, system])
    with pytest.raises(SourceError) as caught:
        trust(HOST, "")
    assert str(caught.value) == f"{own} and {system} has no host key of git.example.org"
    system.write_text(f"git.example.org {FIRST}\n", encoding="utf-8")
    assert len(trust(HOST, "").keys) == 1
    own.write_text(f"@revoked git.example.org {FIRST}\n", encoding="utf-8")
    with pytest.raises(SourceError, match="is @revoked"):
        trust(HOST, "")


def test_a_missing_ssh_keygen_is_no_trust(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    error = refusal(file, f"git.example.org {FIRST}")
    assert "openssh-client" in error.hint
