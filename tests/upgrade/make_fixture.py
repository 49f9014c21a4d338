"""Lives the life that the fixture keeps: `make_fixture.py CHECKOUT ARCHIVE`, standard library only.

CHECKOUT is a checkout of the commit to keep, after `./dev setup`; its daemon runs on real guests under
emulation, for some two minutes. Paths of this host become `@ROOT@`, `@CHECKOUT@`, `@PYTHON@` and `@PATH@`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

WEB, HAND = 18181, 18182
"""Ports of the host: outside of those that the kernel hands out, and of those that other tests take."""
PATIENCE = 180.0
BOOT_ID = "00000000-0000-4000-8000-000000000000"
KEPT = ("vms", "git", "layers")
"""Of the state directory, beside the ledger."""
MOST_LAYER_BYTES = 64 * 1024
"""The others, and the kernel bundle, are built again from their keys."""
LEFT = {"lock", "console.log.1", "vmm.log", "vmm.log.1"}
ANNOUNCED = b"[reconciler] start of instance"

VM = """\
apiVersion: reconciler/v1
kind: MicroVM
metadata: {{name: {name}{group}}}
spec:
  memory: {memory}
  store: {{layers: [{layers}]}}
"""
WEB_SPEC = """\
  volumes: [{{name: data, mountPoint: /var/lib/app, size: 16MiB}}]
  interfaces: [{{type: user, forward: [{{host: {port}, guest: 80}}]}}]
  update: {{snapshotVolumes: true, stopTimeout: 10s}}
  health:
    startupDeadline: {deadline}
    minHealthyTime: 1s
    period: 1s
    checks: [{{http: {{port: {port}, path: /healthz}}}}, {{tcp: {{port: {port}}}, purpose: liveness}}]
"""
PLAIN_SPEC = """\
  update: {after: [web]}
  health: {minHealthyTime: 1s}
"""
HAND_SPEC = """\
  interfaces: [{{type: user, forward: [{{host: {port}, guest: 80}}]}}]
  update: {{strategy: handover}}
  health:
    startupDeadline: 90s
    minHealthyTime: 1s
    period: 1s
    checks: [{{http: {{port: {port}, path: /healthz}}}}]
"""
GROUP = """\
apiVersion: reconciler/v1
kind: Group
metadata: {name: site}
spec: {maxUnavailable: 1, onFailure: halt}
"""
CONFIG = """\
state_dir = "{root}/state"
control_socket = "{root}/control.sock"
[source]
url = "{root}/fleet.git"
prune = true
[http]
port = {http}
[policy]
memory_reserve_mib = 64
disk_reserve_mib = 64
"""


class Life:
    def __init__(self, checkout: Path, root: Path) -> None:
        self.checkout, self.root = checkout, root
        self.python = str(checkout / ".venv/bin/python")
        self.state, self.work, self.config = root / "state", root / "work", root / "config.toml"
        self.config.write_text(CONFIG.format(root=root, http=free_port()))
        self.daemon: subprocess.Popen[bytes] | None = None
        self.work.mkdir()
        run("git", "init", "-q", "--bare", "-b", "main", str(root / "fleet.git"))
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "origin", str(root / "fleet.git"))
        self.git("config", "user.name", "Fixture")
        self.git("config", "user.email", "fixture@localhost")

    def git(self, *words: str) -> str:
        return run("git", "-C", str(self.work), *words)

    def cli(self, *words: str) -> str:
        """What a command prints; its exit code is a script's, and tells of VMs that are not well."""
        command = (self.python, "-m", "reconciler", *words, "--config", str(self.config))
        return run(*command, cwd=self.checkout, check=False)

    def start(self) -> None:
        with (self.root / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                (self.python, "-m", "reconciler", "run", "--config", str(self.config)),
                cwd=self.checkout, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self) -> None:
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(30)
            self.daemon = None

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def page(self, vm: str, text: str) -> None:
        self.write(f"{vm}/www/index.html", f"{vm}: {text}\n")

    def manifests(self, *, deadline: str = "90s", plain: str = "128MiB") -> None:
        busybox, group = "{busybox: {}}", ", group: site"
        web = VM.format(
            name="web", group=group, memory="128MiB", layers=f"{busybox}, {{tree: ./web}}"
        )
        hand = VM.format(
            name="hand", group="", memory="128MiB", layers=f"{busybox}, {{tree: ./hand}}"
        )
        alone = VM.format(name="plain", group=group, memory=plain, layers=busybox)
        self.write("site.yaml", GROUP)
        self.write("web.yaml", web + WEB_SPEC.format(port=WEB, deadline=deadline))
        self.write("hand.yaml", hand + HAND_SPEC.format(port=HAND))
        self.write("plain.yaml", alone + PLAIN_SPEC)

    def push(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        self.git("push", "-q", "origin", "main")
        return self.git("rev-parse", "HEAD")

    def until(self, revision: str, what: Callable[[dict[str, dict[str, Any]]], bool]) -> None:
        end, last = time.monotonic() + PATIENCE, ""
        while time.monotonic() < end:
            try:
                last = self.cli("status", "-o", "json")
                found = json.loads(last)
            except json.JSONDecodeError:
                found = {"revision": {"observed": None}, "vms": []}
            vms = {vm["name"]: vm for vm in found["vms"]}
            if found["revision"]["observed"] == revision and len(vms) == 3 and what(vms):
                return
            time.sleep(1)
        raise SystemExit(f"not within {PATIENCE:g} s: {last}")

    def live(self) -> None:
        for vm in ("web", "hand"):
            self.write(f"{vm}/etc/rc.local", "#!/bin/sh\nexec httpd -p 80 -h /www\n", 0o755)
            self.write(f"{vm}/www/healthz", "ok\n")
            self.page(vm, "one")
        self.manifests()
        first = self.push("three VMs")
        self.start()
        self.until(first, lambda vms: all(settled(vm, 1) for vm in vms.values()))
        self.page("web", "two")
        self.page("hand", "two")
        second = self.push("other pages")
        self.until(second, lambda vms: settled(vms["web"], 2) and settled(vms["hand"], 2))
        (self.work / "web/www/healthz").unlink()
        self.manifests(deadline="20s", plain="160MiB")
        third = self.push("a page that fails its check, and more memory after it")
        self.until(third, lambda vms: rolled_back(vms["web"], 2) and settled(vms["hand"], 2))
        self.cli("suspend", "hand", "--reason", "an upgrade of the controller")
        time.sleep(5)  # what was running out has ended, and is written

    def processes(self) -> list[dict[str, Any]]:
        """What the daemon had started, as /proc has it."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                environ = (
                    (entry / "environ").read_bytes().split(b"\0") if entry.name.isdigit() else []
                )
            except OSError:
                continue
            pairs = (word.decode(errors="replace").partition("=") for word in environ if word)
            env = {key: value for key, _, value in pairs}
            folder = env.get("RECONCILER_VM", "")
            if not folder.startswith(f"{self.root}/"):
                continue
            argv = (entry / "cmdline").read_bytes().decode().rstrip("\0").split("\0")
            cwd = str((entry / "cwd").readlink())
            found.append({"argv": argv, "env": env, "cwd": cwd})
            os.kill(int(entry.name), signal.SIGKILL)
        return sorted(found, key=lambda one: one["env"]["RECONCILER_VM"])

    def front(self) -> dict[str, Any]:
        """How the process that holds the ports was started, and what it answers; then it ends."""
        folder = self.state / "front"
        with socket.socket(socket.AF_UNIX) as link, link.makefile("rwb") as lines:
            link.connect(str(folder / "front.sock"))
            lines.write(b'{"do":"table","unless":-1}\n')
            lines.flush()
            answer: dict[str, Any] = json.loads(lines.readline())
        pid = int((folder / "lock").read_text())
        argv = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
        os.kill(pid, signal.SIGTERM)
        return {
            "argv": argv,
            "socket": "state/front/front.sock",
            "lock": "state/front/lock",
            "table": answer,
        }

    def pack(self, archive: Path, commit: str) -> None:
        front, processes = self.front(), self.processes()
        self.close_ledger()
        about = {"commit": commit, "processes": processes, "proxy": front}
        with tarfile.open(archive, "w:gz", compresslevel=9) as tar:
            self.add(tar, "fixture.json", json.dumps(about, indent=1).encode(), 0o644)
            for path in [self.state / "ledger.db", *self.files()]:
                self.keep(tar, path)

    def close_ledger(self) -> None:
        """One file, without its log, and of a boot that was never this host's."""
        ledger = sqlite3.connect(self.state / "ledger.db", isolation_level=None)
        for table in ("vms", "groups", "builds", "singles"):
            rows = ledger.execute(f"SELECT key, body FROM {table}").fetchall()  # noqa: S608 - our own name
            for key, body in rows:
                there = body.replace(boot_id(), BOOT_ID)
                crc = zlib.crc32(there.encode(), zlib.crc32(f"{table}\0{key}\0".encode()))
                ledger.execute(
                    f"UPDATE {table} SET body = ?, checksum = ? WHERE key = ?",  # noqa: S608 - as above
                    (there, crc, key),
                )
        ledger.execute("PRAGMA journal_mode = DELETE")
        ledger.execute("VACUUM")
        ledger.close()

    def files(self) -> list[Path]:
        found = (path for name in KEPT for path in sorted((self.state / name).rglob("*")))
        return [path for path in found if not path.is_socket() and not self.left_out(path)]

    def left_out(self, path: Path) -> bool:
        layer = path if path.parent == self.state / "layers" else path.parent
        image = layer / "image"
        return path.name in LEFT or (image.exists() and image.stat().st_size > MOST_LAYER_BYTES)

    def keep(self, tar: tarfile.TarFile, path: Path) -> None:
        name = str(path.relative_to(self.root))
        if path.is_symlink() or path.is_dir():
            member = tar.gettarinfo(path, name)
            tar.addfile(owned(member))
        else:
            content = path.read_bytes()
            if path.name == "console.log":  # what the living guest said, its successor says again
                at = content.rindex(ANNOUNCED)
                content = content[: content.index(b"\n", at) + 1]
            self.add(tar, name, content, path.stat().st_mode & 0o777)

    def add(self, tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
        content = self.anywhere(content)
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), mode
        tar.addfile(owned(member), io.BytesIO(content))

    def anywhere(self, content: bytes) -> bytes:
        """Text without what is this host's alone; a binary that names it is refused."""
        own = {str(self.root): "@ROOT@", self.python: "@PYTHON@", str(self.checkout): "@CHECKOUT@"}
        own |= {os.environ["PATH"]: "@PATH@", boot_id(): BOOT_ID}
        try:
            content.decode()
        except UnicodeDecodeError:
            return content
        for here, there in own.items():
            content = content.replace(here.encode(), there.encode())
        return content


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def settled(vm: dict[str, Any], number: int) -> bool:
    generation = vm["generation"]
    numbers = {generation["running"], generation["desired"], generation["last_good"]}
    return bool(vm["healthy"] and vm["sync"] == "synced" and numbers == {number})


def rolled_back(vm: dict[str, Any], number: int) -> bool:
    generation = vm["generation"]
    back = generation["running"] == generation["last_good"] == number
    return bool(back and vm["healthy"] and vm["sync"] == "blocked")


def run(*command: str, cwd: Path | None = None, check: bool = True) -> str:
    done = subprocess.run(
        command, cwd=cwd, check=check, capture_output=True, text=True, timeout=120
    )
    return done.stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main(checkout: str, archive: str) -> None:
    root = Path(tempfile.mkdtemp(prefix="kept-")).resolve()
    life = Life(Path(checkout).resolve(), root)
    try:
        life.live()
        life.stop()
        life.pack(Path(archive), run("git", "-C", checkout, "rev-parse", "HEAD"))
    finally:
        life.stop()
        life.processes()
    shutil.rmtree(root)


if __name__ == "__main__":
    main(*sys.argv[1:])
