"""What the control socket says, as values; and the settings that a trial daemon gets."""

import json
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from demo import images
from demo.client import ControlClient, DaemonAway, Fleet
from demo.daemon import Daemon, Settings, free_port
from reconciler.config import load_config
from reconciler.model.names import GenerationNumber, GroupName, VMName
from reconciler.model.status import (
    GenerationNumbers,
    GroupStatus,
    HostStatus,
    RevisionStatus,
    VMStatus,
)


def status(*vms: VMStatus) -> dict[str, Any]:
    group = GroupStatus(GroupName("front"), "held", 2, 1, 1, 1, hold="web failed")
    whole = HostStatus(RevisionStatus("abc", None), vms, (group,), suspended=False)
    answer: dict[str, Any] = json.loads(json.dumps(asdict(whole)))
    return answer


def web(sync: str = "synced", running: int = 2, desired: int = 2, good: int = 2) -> VMStatus:
    return VMStatus(
        name=VMName("web"),
        group=GroupName("front"),
        state="running",
        healthy=True,
        sync=sync,  # type: ignore[arg-type]
        generation=GenerationNumbers(
            GenerationNumber(running), GenerationNumber(desired), GenerationNumber(good)
        ),
        pid=7,
        why="",
        instance="i-1",
        blocked=int(sync == "blocked"),
    )


def test_a_fleet_is_settled_when_every_vm_runs_what_the_revision_wants() -> None:
    fleet = Fleet.of(status(web()))
    assert fleet.settled("abc", "web")
    assert not fleet.settled("abd", "web")
    assert not fleet.settled("abc", "web", "db")
    assert not Fleet.of(status(web(good=1))).settled("abc", "web")
    assert not Fleet.of(status(web(sync="out-of-sync"))).settled("abc", "web")


def test_a_rolled_back_vm_serves_its_last_good_generation() -> None:
    vm = Fleet.of(status(web("blocked", running=1, desired=2, good=1))).vms["web"]
    assert vm.rolled_back
    assert vm.blocked == 1
    assert not vm.settled
    assert not Fleet.of(status(web("blocked", running=2, desired=2, good=1))).vms["web"].rolled_back


def test_groups_pids_and_instances_are_told() -> None:
    fleet = Fleet.of(status(web()))
    assert fleet.groups["front"].state == "held"
    assert fleet.pids() == {"web": 7}
    assert fleet.instances() == {"web": "i-1"}


class Control(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/v1/status" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(status(web())).encode())

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "c.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), Control) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield path
        server.shutdown()
        thread.join()


def test_the_client_speaks_over_a_unix_socket(control: Path) -> None:
    client = ControlClient(control)
    assert client.fleet().vms["web"].healthy
    with pytest.raises(RuntimeError, match="404"):
        client.get("/v1/nothing")


def test_a_daemon_that_is_away_is_told_from_one_that_refuses(tmp_path: Path) -> None:
    with pytest.raises(DaemonAway):
        ControlClient(tmp_path / "none.sock").fleet()


def settings(folder: Path) -> Settings:
    return Settings(
        folder / "fleet.git", folder / "state", folder / "c.sock", http_port=free_port()
    )


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rc-") as folder:
        yield Path(folder)


def test_the_settings_are_what_the_daemon_reads(short: Path) -> None:
    given = settings(short)
    config = load_config(Daemon(short, given).config)
    assert config.source.url == str(given.repository)
    assert config.source.prune
    assert config.state == given.state
    assert config.control_socket == str(given.socket)
    assert config.http.port == given.http_port


def test_a_folder_too_long_for_unix_sockets_is_refused(short: Path) -> None:
    folder = short / ("x" * 60)
    folder.mkdir()
    with pytest.raises(RuntimeError, match="TMPDIR"):
        Daemon(folder, settings(folder))


def test_kernel_bundles_are_kept_for_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "cache_folder", lambda: tmp_path / ".cache" / "images-1")
    first, second = tmp_path / "first", tmp_path / "second"
    assert not images.seed(first)
    images.save(first)
    assert not images.seed(first)
    bundle = first / "kernels" / "key" / "vmlinuz"
    bundle.parent.mkdir(parents=True)
    bundle.write_text("kernel")
    images.save(first)
    assert images.seed(second)
    assert (second / "kernels" / "key" / "vmlinuz").read_text() == "kernel"
    assert [path.name for path in (tmp_path / ".cache").iterdir()] == ["images-1"]
