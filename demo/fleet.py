"""The sample fleet as the demo uses it: its names, its ports, and the files that pushes change."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from demo.daemon import free_port
from demo.repository import Repository

DATABASE = "db"
WEB = ("web-a", "web-b")
NAMES = (DATABASE, *WEB)
SAMPLE_PORTS = {"db": 8081, "web-a": 8082, "web-b": 8083}


def page(vm: str) -> str:
    """The index page in a VM's tree."""
    return f"{vm}/www/index.html"


def health(vm: str) -> str:
    """The file that its health check asks for."""
    return f"{vm}/www/healthz"


def manifest_files(repository: Repository) -> list[Path]:
    return sorted(
        path
        for path in repository.work.rglob("*.y*ml")
        if ".git" not in path.parts and path.suffix in {".yaml", ".yml"}
    )


def manifest_of(repository: Repository, vm: str) -> str:
    """The file that declares this VM, relative to the repository."""
    name = re.compile(rf"\bname:\s*{re.escape(vm)}\b(?!-)")
    for path in manifest_files(repository):
        if name.search(path.read_text(encoding="utf-8")):
            return str(path.relative_to(repository.work))
    raise LookupError(f"no manifest declares {vm}")


def use_ports(repository: Repository, ports: dict[str, int]) -> None:
    """Let the sample's manifests forward these ports of the host instead of their own."""
    for vm, wanted in SAMPLE_PORTS.items():
        path = repository.work / manifest_of(repository, vm)
        text = path.read_text(encoding="utf-8")
        # Where it is forwarded from, and where its health is asked for.
        changed = re.sub(rf"\b(host|port):\s*{wanted}\b", rf"\1: {ports[vm]}", text)
        path.write_text(changed, encoding="utf-8")


def judge_sooner(repository: Repository, seconds: int) -> None:
    """Give guests less time to become healthy than the sample does, so that viewers wait less."""
    for path in manifest_files(repository):
        text = path.read_text(encoding="utf-8")
        changed = re.sub(r"\bstartupDeadline:\s*\w+", f"startupDeadline: {seconds}s", text)
        path.write_text(changed, encoding="utf-8")


def usable_ports() -> dict[str, int]:
    """The sample's ports; instead of one that is taken on this host, any free one."""
    return {vm: port if is_free(port) else free_port() for vm, port in SAMPLE_PORTS.items()}


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
