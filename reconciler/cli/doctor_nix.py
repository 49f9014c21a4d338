"""Whether this host's Nix can make runners: asked by `doctor` where the policy allows them."""

from __future__ import annotations

import re
import shutil
import subprocess

from reconciler.cli.doctor_findings import Finding

SECONDS = 15.0
OLDEST = (2, 4)
"""The first with flakes."""
FEATURE = ("--extra-experimental-features", "nix-command")


def check_nix() -> Finding:
    program = shutil.which("nix")
    if program is None:
        detail = "is not installed, and policy.runners allows VMs that it builds"
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


def _ask(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
    )
