"""A real fleet for tests: pushes, questions, waits, and what is kept when a test fails."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Any

import yaml

from demo.client import DaemonAway, Fleet
from demo.daemon import Daemon, free_port
from demo.fleet import NAMES, manifest_files, manifest_of, page, use_ports
from demo.processes import Found, guests_under
from demo.repository import Repository
from demo.screen import in_words
from demo.stage import MANIFESTS, NOT_OF_THE_FLEET, Stage
from tests.wait import wait_until

FIRST = 600.0
"""Seconds for the first guests: the kernel bundle may have to be fetched and made."""
ROLL = 150.0
"""Seconds for a rollout of the whole fleet, on a machine that does other things too."""
HEALTH = {"minHealthyTime": "1s", "startupDeadline": "60s"}


class Harness:
    """The sample fleet on ports of its own, quick to judge."""

    def __init__(self) -> None:
        self.stage = Stage.open()
        self.ports = {name: free_port() for name in NAMES}
        self.good = ""
        """The newest revision that ran with nothing odd in it."""

    @property
    def repository(self) -> Repository:
        return self.stage.repository

    @property
    def daemon(self) -> Daemon:
        return self.stage.daemon

    def open(self) -> None:
        """Boot the fleet for the first time."""
        self.repository.copy_from(MANIFESTS, NOT_OF_THE_FLEET)
        use_ports(self.repository, self.ports)
        for vm in NAMES:
            self.edit(vm, lambda spec: spec["health"].update(HEALTH))
        self.good = self.repository.push("the fleet")
        self.stage.seed()
        self.daemon.start()
        self.settled(self.good, deadline=FIRST)

    def tidy(self) -> None:
        """The fleet is whole and settled for the next test, with as few restarts as can be."""
        if self.daemon.pid is None:
            self.daemon.start()
        head = self.repository.head()
        changed = self.repository.git("diff", "--name-only", self.good, head).splitlines()
        if set(changed) <= {page(vm) for vm in NAMES} and self.fleet().settled(head, *NAMES):
            self.good = head
            return
        self.repository.restore(self.good)
        self.good = self.repository.push("as it was")
        self.settled(self.good)

    def close(self) -> None:
        left = self.stage.close()
        assert left == []

    # --- changing the repository

    def edit(self, vm: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the `spec` of one VM's manifest."""
        self.edit_document(vm, lambda document: change(document["spec"]))

    def edit_document(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        path = manifest_of(self.repository, name)
        documents = list(yaml.safe_load_all(self.repository.read(path)))
        for document in documents:
            if document["metadata"]["name"] == name:
                change(document)
        self.repository.write(path, yaml.safe_dump_all(documents, sort_keys=False))

    def drop(self, *names: str) -> None:
        """Remove the manifests of these, and leave others in the same files."""
        for path in manifest_files(self.repository):
            documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
            kept = [one for one in documents if one["metadata"]["name"] not in names]
            if not kept:
                path.unlink()
            elif len(kept) < len(documents):
                path.write_text(yaml.safe_dump_all(kept, sort_keys=False), encoding="utf-8")

    def pages(self, text: str, *vms: str) -> None:
        for vm in vms:
            self.repository.write(page(vm), f"{vm}: {text}\n")

    def push(self, message: str) -> str:
        return self.repository.push(message)

    # --- asking the daemon and the guests

    def fleet(self) -> Fleet:
        return self.daemon.fleet()

    def until(
        self, what: str, condition: Callable[[Fleet], object], deadline: float = ROLL
    ) -> Fleet:
        last: Fleet | None = None

        def look() -> Fleet | None:
            nonlocal last
            try:
                last = self.fleet()
            except DaemonAway:
                last = None
            return last if last is not None and condition(last) else None

        try:
            return wait_until(look, deadline, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{in_words(last)}") from None

    def settled(self, revision: str, *names: str, deadline: float = ROLL) -> Fleet:
        return self.until(
            f"settled at {revision[:8]}",
            lambda fleet: fleet.settled(revision, *(names or NAMES)),
            deadline,
        )

    def seen(self, revision: str) -> Fleet:
        """Wait until the daemon read this revision."""
        return self.until(f"saw {revision[:8]}", lambda fleet: fleet.observed == revision, 30)

    def ask(self, vm: str, path: str = "/", body: str | None = None) -> str:
        """GET, or with a body POST, of the VM's forwarded port; the answer's text."""
        return request(self.ports[vm], path, body)[1]

    def http(self, path: str) -> tuple[int, str]:
        """GET of the daemon's TCP face."""
        headers = reading(self.daemon)
        return request(self.daemon.settings.http_port, path, headers=headers)

    def history(self, vm: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.daemon.control.get(f"/v1/history/{vm}")
        return answer

    def verdicts(self, vm: str) -> dict[int, str]:
        return {one["number"]: one["verdict"] for one in self.history(vm)["generations"]}

    def guests(self, vm: str) -> list[Found]:
        return [guest for guest in guests_under(self.stage.root) if guest.vm == vm]


def reading(daemon: Daemon) -> dict[str, str]:
    """Headers of those who may read on the TCP face."""
    return {"Authorization": f"Bearer {daemon.control.get('/v1/token')['read']}"}


def request(
    port: int, path: str, body: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()
    finally:
        connection.close()


def other_pids(before: Fleet, after: Fleet) -> dict[str, tuple[int | None, int | None]]:
    """VMs whose guest is not the one it was, with both pids."""
    return {
        name: (before.vms[name].pid, after.vms[name].pid)
        for name in before.vms.keys() & after.vms.keys()
        if before.vms[name].instance != after.vms[name].instance
    }
