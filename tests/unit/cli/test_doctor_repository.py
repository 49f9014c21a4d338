"""What `doctor` says of the way to the repository, without asking any server."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.doctor_findings import Finding
from reconciler.cli.doctor_sources import check_repository
from reconciler.config import GitSourceConfig
from tests.unit.source.repositories import Repository

pytestmark = pytest.mark.shows(fault=111)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
FAILED = "failed" if os.geteuid() == 0 else "warning"
needs_ssh = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"
)


def found(**source: Any) -> Finding:
    (finding,) = check_repository(GitSourceConfig(**source))
    return finding


@needs_ssh
def test_an_unknown_ssh_server_is_named_with_the_command(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    missing = found(url="git@git.example.org:x", known_hosts=str(file))
    assert (missing.result, "ssh-keyscan git.example.org" in missing.remedy) == (FAILED, True)
    file.write_text(f"git.example.org {KEY}\n", encoding="utf-8")
    known = found(url="git@git.example.org:x", known_hosts=str(file))
    assert (known.result, known.detail) == ("ok", f"1 host key(s) of git.example.org in {file}")
    file.write_text("rubbish\n", encoding="utf-8")
    damaged = found(url="git@git.example.org:x", known_hosts=str(file))
    assert damaged.detail.startswith(f"{file}:1: ")


def test_a_token_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "token"
    lost = found(url="https://h/x", token_file=str(file))
    assert (lost.result, "No such file" in lost.detail) == (FAILED, True)
    file.write_text("secret", encoding="utf-8")
    file.chmod(0o600)
    assert found(url="https://h/x", token_file=str(file)).result == "ok"
    credential = "/run/credentials/reconciler.service/git_token"
    handed = found(url="https://h/x", token_file=credential)
    assert handed.result == "warning", "it is there for the daemon alone"


def test_a_repository_of_this_host_is_looked_at(tmp_path: Path) -> None:
    lost = found(url=str(tmp_path / "none.git"))
    assert (lost.result, "git init --bare" in lost.remedy) == ("warning", True)
    repository = Repository(tmp_path / "here.git")
    assert found(url=str(repository.path)).result == "ok"
    assert check_repository(GitSourceConfig(url="https://h/x")) == []
