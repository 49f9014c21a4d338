"""A host as its operator has it: the package installed, a repository on it, two VMs in a group."""

from __future__ import annotations

import http.client
import re
import subprocess
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from demo.client import ControlClient, DaemonAway, Fleet
from demo.daemon import free_port
from demo.repository import Repository
from tests.systemd.container import Container
from tests.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("left", "right")
CONFIG = "etc/reconciler/config.toml"
CHECKOUT = "/srv/checkout"
FIRST = 180.0
ROLL = 120.0

GROUP = """\
apiVersion: reconciler/v1
kind: Group
metadata: {name: pair}
spec: {maxUnavailable: 1}
"""
DATA = {"name": "data", "mountPoint": "/var/lib/app", "size": "16MiB", "fsType": "ext4"}
HTTPD = "#!/bin/sh\nexec httpd -p 80 -h /www\n"
LOCAL = "#!/bin/sh\nset -e\ndate >>/var/lib/app/starts\nexec httpd -p 80 -h /www\n"
TELL = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\ncat %s\n"
TOLD = {"boot": "/proc/sys/kernel/random/boot_id", "uptime": "/proc/uptime"}


def manifest(name: str, tree: str, path: str, port: int, *, group: str = "", **spec: object) -> str:
    """A VM that serves a tree's pages, and is asked for one of them at this port."""
    metadata = {"name": name} | ({"group": group} if group else {})
    health = {
        "startupDeadline": "90s", "minHealthyTime": "1s", "period": "1s",
        "checks": [{"http": {"port": port, "path": path}}],
    }  # fmt: skip
    common = {
        "vcpu": 1,
        "memory": "160MiB",
        "kernel": "debian",
        "store": {"format": "erofs", "layers": [{"busybox": {}}, {"tree": f"./{tree}"}]},
        "health": health,
        "update": {"stopTimeout": "10s"},
    }
    head = {"apiVersion": "reconciler/v1", "kind": "MicroVM", "metadata": metadata}
    return yaml.safe_dump(head | {"spec": common | spec})


def forwarded(port: int) -> list[dict[str, object]]:
    """Interfaces with a port of the host that leads to the guest's web server."""
    return [{"type": "user", "forward": [{"host": port, "guest": 80}]}]


class Host:
    """Installed by `install()`; its repository is pushed to from outside."""

    def __init__(self, container: Container, repository: Repository) -> None:
        self.container = container
        self.repository = repository
        self.ports = {name: free_port() for name in NAMES}
        self.good = ""

    def install(self, package: Path) -> None:
        """As a person would; without what is only recommended, so that what is missing is seen."""
        target = self.container.root / "srv" / package.name
        target.write_bytes(package.read_bytes())
        self.apt("install", "--no-install-recommends", f"/srv/{package.name}")

    def apt(self, *arguments: str) -> str:
        done = self.container.run("apt-get", "-q", "-y", *arguments)
        return done.stdout + done.stderr

    def is_ready(self) -> None:
        """The daemon answers as soon as it can; it says that it is ready after its first pass."""
        wait_until(
            lambda: (
                self.systemctl("is-active", "reconciler.service", check=False).stdout == "active\n"
            ),
            60,
            "the daemon is ready",
        )

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.container.run("systemctl", *arguments, check=check)

    def configure(self, **words: str) -> None:
        """Replace words of the shipped config."""
        path = self.container.root / CONFIG
        text = path.read_text(encoding="utf-8")
        for old, new in words.items():
            assert f"#{old} = " in text
            text = "\n".join(
                new if line.startswith(f"#{old} = ") else line for line in text.split("\n")
            )
        path.write_text(text, encoding="utf-8")

    def write_fleet(self, page: str, healthz: str = "ok\n") -> None:
        self.repository.write("pair.yaml", GROUP)
        for name in NAMES:
            port = self.ports[name]
            text = manifest(
                name, "web", "/healthz", port,
                group="pair", interfaces=forwarded(port), volumes=[DATA],
            )  # fmt: skip
            self.repository.write(f"{name}.yaml", text)
        self.repository.write("web/etc/rc.local", LOCAL, 0o755)
        for name, path in TOLD.items():
            self.repository.write(f"web/www/cgi-bin/{name}", TELL % path, 0o755)
        self.repository.write("web/www/index.html", page)
        if healthz:
            self.repository.write("web/www/healthz", healthz)
        else:
            self.repository.remove("web/www/healthz")

    def push(self, page: str) -> str:
        """A good commit, and wait until the fleet runs it."""
        self.write_fleet(page)
        self.good = self.repository.push(page.strip())
        self.settled(FIRST)
        return self.good

    def leave(self, name: str) -> None:
        """A VM of its own leaves the repository, and is removed."""
        if "#prune = false" in (self.container.root / CONFIG).read_text(encoding="utf-8"):
            self.configure(prune="prune = true")
            self.systemctl("restart", "reconciler.service")
        self.repository.remove(f"{name}.yaml")
        self.good = self.repository.push(f"without {name}")
        self.settled(FIRST)

    def settled(self, deadline: float = ROLL, *others: str) -> Fleet:
        names = (*NAMES, *others)
        return self.until("settled", lambda fleet: fleet.settled(self.good, *names), deadline)

    def fleet(self) -> Fleet:
        live = self.container.live
        return ControlClient(live / "run/reconciler/control.sock").fleet()

    def until(
        self, what: str, condition: Callable[[Fleet], object], deadline: float = ROLL
    ) -> Fleet:
        def look() -> Fleet | None:
            try:
                fleet = self.fleet()
            except DaemonAway:
                return None
            return fleet if condition(fleet) else None

        return wait_until(look, deadline, what, every=0.2)

    def ask(self, name: str, path: str = "/") -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[name], timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode().strip()
        finally:
            connection.close()

    def boot_ids(self) -> dict[str, str]:
        """Of the guests, as they say themselves."""
        return {name: self.ask(name, "/cgi-bin/boot") for name in NAMES}

    def uptimes(self) -> dict[str, float]:
        """Seconds, as the guests say themselves."""
        return {name: float(self.ask(name, "/cgi-bin/uptime").split()[0]) for name in NAMES}

    def series(self, vm: str) -> dict[str, float]:
        """What /metrics says of a VM, by name."""
        config = tomllib.loads((self.container.root / CONFIG).read_text(encoding="utf-8"))
        address = f"http://127.0.0.1:{config['http']['port']}/metrics"
        token = self.container.run("reconciler", "token", "--metrics").stdout.strip()
        asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310  as above
            text = answer.read().decode()
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("vm") == vm
        }

    def daemon_pid(self) -> int:
        return int(self.container.show("reconciler.service", "MainPID")["MainPID"])

    def events(self, kind: str) -> int:
        """How many of a kind there were, as far as events are kept."""
        said = self.container.run("reconciler", "events", "-n", "1000").stdout
        return len(re.findall(rf"\b{kind}\b", said))

    def journal(self) -> str:
        return self.container.run("journalctl", "--no-pager", "-q", "-n", "200").stdout
