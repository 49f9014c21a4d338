"""A real ssh server on loopback that serves git, installed or only unpacked by `./dev test`.

Called as `python -m tests.integration.sshd SSHD CONFIG` under `unshare --mount` it gives the server
the user and the folder that its package would have made.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
UNPACKED = ROOT / ".cache" / "sshd"
OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private")
NOBODY_ELSE = "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"


@dataclass(frozen=True)
class Server:
    port: int
    keys: dict[str, str]
    """Type and key of each of its host keys, by type: `ssh-ed25519 AAAA...`."""
    client_key: Path

    @property
    def name(self) -> str:
        """As known_hosts has it."""
        return f"[127.0.0.1]:{self.port}"

    def url(self, repository: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{repository}"


def make_key(path: Path, kind: str = "ed25519") -> str:
    """A new key pair; returns type and key as they stand in known_hosts."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
    kind, key, *_ = path.with_suffix(".pub").read_text(encoding="utf-8").split()
    return f"{kind} {key}"


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Skips the test where there is no server, or it cannot have mounts of its own."""
    program = found_program()
    keys = [make_key(folder / f"host_{kind}", kind) for kind in ("ed25519", "rsa")]
    make_key(folder / "client")
    shutil.copy(folder / "client.pub", folder / "authorized")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = folder / "sshd_config"
    config.write_text("".join(f"{line}\n" for line in settings(folder, port)), encoding="utf-8")
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen(
            command(program, config), cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=log,
            env={**os.environ, "LD_LIBRARY_PATH": libraries()},
        )  # fmt: skip
    try:
        wait_until(lambda: server.poll() is not None or listens(port), 20, "sshd listens")
        assert server.poll() is None, (folder / "sshd.log").read_text(encoding="utf-8")
        yield Server(port, {key.split()[0]: key for key in keys}, folder / "client")
    finally:
        server.kill()  # those that serve a connection end with it
        server.wait(10)


def found_program() -> Path:
    for candidate in (UNPACKED / "usr/sbin/sshd", shutil.which("sshd", path="/usr/sbin:/sbin")):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    pytest.skip("OpenSSH's server is neither installed nor unpacked: ./dev test unpacks it")


def settings(folder: Path, port: int) -> Iterator[str]:
    yield from (
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host_ed25519",
        f"HostKey {folder}/host_rsa", f"AuthorizedKeysFile {folder}/authorized",
        "StrictModes no", "UsePAM no", "PidFile none", "PermitRootLogin yes",
    )  # fmt: skip
    for key, name in (("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth")):
        helper = UNPACKED / "usr/lib/openssh" / name  # since OpenSSH 9.8 and 10.0
        if helper.exists():
            yield f"{key} {helper}"


def command(program: Path, config: Path) -> list[str]:
    if os.geteuid() != 0:
        return [str(program), "-D", "-e", "-f", str(config)]
    if subprocess.run([*OWN_MOUNTS, "true"], check=False, capture_output=True).returncode:
        pytest.skip("sshd is not installed, and no mounts of its own can be had here")
    launcher = [sys.executable, "-m", "tests.integration.sshd", str(program), str(config)]
    return [*OWN_MOUNTS, *launcher]


def libraries() -> str:
    return ":".join(map(str, (UNPACKED / "usr/lib").glob("*-linux-gnu")))


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    program, config = sys.argv[1:]
    users = Path("/etc/passwd").read_text(encoding="utf-8")
    if "\nsshd:" not in users:
        own = Path(config).with_name("passwd")
        own.write_text(users + NOBODY_ELSE, encoding="utf-8")
        subprocess.run(["mount", "--bind", str(own), "/etc/passwd"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    Path("/run/sshd").mkdir(mode=0o755)
    os.execv(program, [program, "-D", "-e", "-f", config])  # noqa: S606  # an argv, in place of this process


if __name__ == "__main__":
    main()
