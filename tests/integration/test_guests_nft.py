"""The firewall for guests of systemd, in a network namespace: this host is out of reach, all else is as before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="no nft here: apt-get install nftables"),
]

RULES = Path(__file__).resolve().parents[2] / "deploy/nftables/guests.nft"
WITHIN = ("ip", "netns", "exec")
GROUP = 64_123
"""Of what plays a VMM."""
PLAY = """
import os, socket, subprocess, sys, threading
GROUP = int(sys.argv[1])
HERE, OUTSIDE, MISSING = "192.0.2.1", "198.51.100.7", "192.0.2.99"

def served(address, kind=socket.SOCK_STREAM, port=0):
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    sock.bind((address, port))
    def serve():
        while True:
            if kind == socket.SOCK_DGRAM:
                sock.sendto(b"hello", sock.recvfrom(100)[1])
            else:
                peer, _ = sock.accept(); peer.sendall(b"hello"); peer.close()
    if kind == socket.SOCK_STREAM:
        sock.listen()
    threading.Thread(target=serve, daemon=True).start()
    return sock.getsockname()[1]

def asked(address, port, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
        sock.settimeout(5)
        try:
            sock.connect((address, port)); sock.send(b"?")
            return sock.recv(100).decode()
        except OSError as error:
            return type(error).__name__

def as_vmm(work):
    "What `work` says in a process of the guests' group."
    read, write = os.pipe()
    if not os.fork():
        os.setgroups([]); os.setresgid(GROUP, GROUP, GROUP)
        os.write(write, repr(work()).encode()); os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        found = eval(file.read())
    os.wait()
    return found

anywhere = served("0.0.0.0"), served("::1"), served("0.0.0.0", socket.SOCK_DGRAM)
names = served("127.0.0.1", socket.SOCK_DGRAM, 53), served("127.0.0.1", socket.SOCK_STREAM, 53)
print("host", [asked(a, anywhere[0]) for a in ("127.0.0.1", HERE, "0.0.0.0")], asked("::1", anywhere[1]))
print("guest", as_vmm(lambda: [asked(a, anywhere[0]) for a in ("127.0.0.1", HERE, "0.0.0.0", "127.9.9.9")]),
      as_vmm(lambda: asked("::1", anywhere[1])), as_vmm(lambda: asked("127.0.0.1", anywhere[2], socket.SOCK_DGRAM)))
print("names", as_vmm(lambda: [asked("127.0.0.1", 53, socket.SOCK_DGRAM), asked("127.0.0.1", 53)]))
port = int(sys.argv[2])
print("outside", as_vmm(lambda: asked(OUTSIDE, port)))
read, write = os.pipe()
child = os.fork()
if not child:
    os.setgroups([]); os.setresgid(GROUP, GROUP, GROUP)
    forward = served("127.0.0.1"); os.write(write, str(forward).encode()); threading.Event().wait()
forward = int(os.read(read, 10))
print("forward", asked("127.0.0.1", forward))
subprocess.run(["nft", "add element inet reconciler_guests allowed { tcp . %d }" % anywhere[0]], check=True)
print("allowed", as_vmm(lambda: asked("127.0.0.1", anywhere[0])))
os.kill(child, 9)
sys.stdout.flush()
os._exit(0)
"""
SERVE = """
import socket
server = socket.create_server(("198.51.100.7", 0))
print(server.getsockname()[1], flush=True)
while True:
    peer, _ = server.accept(); peer.sendall(b"hello"); peer.close()
"""


def ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True)


@contextmanager
def two_networks() -> Iterator[tuple[str, str]]:
    """A host's and the world's, with a cable between them."""
    host, world = f"rh{os.getpid() % 100_000}", f"rw{os.getpid() % 100_000}"
    ip("netns", "add", host)
    ip("netns", "add", world)
    try:
        ip("-n", host, "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", world)
        for name, link, address in ((host, "v0", "192.0.2.1/24"), (world, "v1", "192.0.2.2/24")):
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "addr", "add", address, "dev", link)
            ip("-n", name, "link", "set", link, "up")
        ip("-n", world, "addr", "add", "198.51.100.7/32", "dev", "lo")
        ip("-n", host, "route", "add", "default", "via", "192.0.2.2")
        yield host, world
    finally:
        ip("netns", "del", host)
        ip("netns", "del", world)


@contextmanager
def serving(world: str) -> Iterator[str]:
    """The port of a server somewhere in the world."""
    server = subprocess.Popen(
        (*WITHIN, world, sys.executable, "-c", SERVE), stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.communicate()


@pytest.mark.shows(fault=32)
def test_a_guest_reaches_the_world_and_its_forwards_and_not_this_host(tmp_path: Path) -> None:
    rules = tmp_path / "guests.nft"
    rules.write_text(RULES.read_text().replace("skgid != microvm", f"skgid != {GROUP}"))
    with two_networks() as (host, world), serving(world) as port:
        for _ in range(2):  # loaded again it is the same
            subprocess.run((*WITHIN, host, "nft", "-f", str(rules)), check=True)
        played = subprocess.run(
            (*WITHIN, host, sys.executable, "-c", PLAY, str(GROUP), port),
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    told = dict(line.split(" ", 1) for line in played.stdout.splitlines())
    assert told["host"] == "['hello', 'hello', 'hello'] hello", "others are not concerned"
    assert "hello" not in told["guest"], told["guest"]
    assert told["names"] == "['hello', 'hello']"
    assert told["outside"] == "hello"
    assert told["forward"] == "hello"
    assert told["allowed"] == "hello"
