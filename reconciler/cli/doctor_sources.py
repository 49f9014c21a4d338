"""Doctor's checks of what VMs are made from: the repository, and Nix where the policy allows runners."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from reconciler.cli.doctor_findings import Finding, Result
from reconciler.config import GitSourceConfig
from reconciler.errors import SourceError
from reconciler.git_url import local_path
from reconciler.source.git import callbacks, known_hosts, local_access

NAME = "repository"
CREDENTIALS = Path("/run/credentials")
"""Credentials that systemd passes; readable by the daemon alone, and only while it runs."""
SECONDS = 15.0
"""Time limit of one call of Nix."""
OLDEST = (2, 4)
"""The first version with flakes."""
FEATURE = ("--extra-experimental-features", "nix-command")


def check_repository(source: GitSourceConfig) -> list[Finding]:
    """Whether a local repository can be read, and whether the keys and tokens for a remote one are there.

    No server is contacted.
    """
    found = []
    if (local := local_path(source.url)) is not None:
        fault = local_access.unreachable(local) or local_access.unreadable(local)
        found.append(refused(fault) if fault else Finding(NAME, "ok", f"{local} can be read"))
    try:
        server = known_hosts.server_of(source.url)
        if server is not None:
            known = known_hosts.trust(server, source.known_hosts)
            words = f"{len(known.keys)} host key(s) of {server.name} in {known.files}"
            found.append(Finding(NAME, "ok", words))
        if source.token_file:
            callbacks.token_in(source.token_file)
            found.append(Finding(NAME, "ok", f"the token in {source.token_file} can be read"))
    except SourceError as error:
        found.append(refused(error, source.token_file, source.known_hosts))
    return found


def refused(error: SourceError, *files: str) -> Finding:
    """The finding for an error: a warning if the daemon may have other rights, or it may still be created."""
    elsewhere = any(CREDENTIALS in Path(file).parents for file in files)
    result: Result = "failed"
    if elsewhere or os.geteuid() != 0 or error.kind == "missing":
        result = "warning"
    return Finding(NAME, result, str(error), error.hint)


def check_nix() -> Finding:
    """Whether Nix is installed, recent enough, and its store usable."""
    program = shutil.which("nix")
    if program is None:
        detail = "is not installed, but policy.runners allows VMs that Nix builds"
        return Finding(
            "nix", "failed", detail, "apt-get install nix-bin, or set policy.runners = false"
        )
    try:
        version = _ask(program, "--version")
        found = re.search(r"(\d+)\.(\d+)", version.stdout)
        if found is not None and (int(found[1]), int(found[2])) < OLDEST:
            return Finding(
                "nix",
                "failed",
                f"{version.stdout.strip()} has no flakes",
                "install Nix 2.4 or newer",
            )
        store = _ask(program, *FEATURE, "store", "ping")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("nix", "failed", f"{program}: {error}", "systemctl restart nix-daemon")
    if store.returncode != 0:
        said = (store.stderr.strip().splitlines() or ["no reason given"])[0]
        return Finding(
            "nix", "failed", f"its store cannot be used: {said}", "systemctl status nix-daemon"
        )
    return Finding("nix", "ok", f"{version.stdout.strip()}, its store answers")


def check_script(name: str, path: str) -> Finding:
    """Whether a program of policy.scripts can be run."""
    what = f"script {name}"
    if Path(path).is_file() and os.access(path, os.X_OK):
        return Finding(what, "ok", path)
    detail = f"{path} is not an executable file, and manifests that name it are refused"
    return Finding(what, "failed", detail, f"chmod +x {path}, or correct policy.scripts.{name}")


def _ask(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
    )
