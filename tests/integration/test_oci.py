"""A Python application as an OCI image of a real registry: booted, updated by one layer, and rolled back."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.stage import Stage
from tests.integration.harness import FIRST
from tests.integration.one_vm import OneVM, stage_that_allows
from tests.registry.images import Entry, Layout, pack_folder, write_layer
from tests.registry.serving import Registry, serving_registry

pytestmark = [
    pytest.mark.integration,
    pytest.mark.stacks,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None or shutil.which("mksquashfs") is None,
        reason="qemu-system-x86_64 or mksquashfs is missing",
    ),
]

APP = """\
import http.server, os, signal, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = f"VERSION {os.environ['GREETING']} {os.getuid()}:{os.getgid()} {os.getcwd()} {sys.argv[1:]}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

print("serving", flush=True)
http.server.HTTPServer(("", 8000), Answer).serve_forever()
"""
SETTINGS = {
    "config.entrypoint": ["/usr/bin/python3", "-u"],
    "config.cmd": ["/app/server.py", "two words"],
    "config.env": ["GREETING=hello there"],
    "config.user": "app",
    "config.workingdir": "/app/data",
    "config.exposedports": "8000/tcp",
}
LIBRARY = re.compile(r"(/\S+) \(0x")


def python_layer(folder: Path) -> Path:
    """The interpreter of this host with what it needs to serve, as its own files; there is no shell."""
    root = folder / "python"
    program = Path(sys.executable).resolve()
    standard = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(
        standard, root / str(standard).lstrip("/"), symlinks=True,
        ignore=shutil.ignore_patterns("__pycache__", "test", "*-packages", "config-*", "idlelib", "ensurepip"),
    )  # fmt: skip
    needed = [program, *standard.glob("lib-dynload/*.so")]
    listed = subprocess.run(["ldd", *needed], capture_output=True, text=True, check=True).stdout
    for library in {*LIBRARY.findall(listed)}:
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(program, root / str(program).lstrip("/")) if program.parent != Path(
        "/usr/bin"
    ) else shutil.copy(program, root / "usr/bin")
    (root / "usr/bin/python3").symlink_to(program)
    return pack_folder(folder / "python.tar", root)


def app_layer(folder: Path, version: str, source: str = APP) -> Path:
    entries: dict[str, Entry | str] = {
        "app/": "",
        "app/server.py": Entry(source.replace("VERSION", version)),
        "etc/": "",
        "etc/passwd": "root:x:0:0::/:\napp:x:1000:1000::/app:\n",
        "etc/group": "root:x:0:\napp:x:1000:\n",
    }
    return write_layer(folder / f"app-{version}.tar", entries)


class Host(OneVM):
    """A daemon that may have images of a registry, and one VM of them."""

    def __init__(self, stage: Stage, registry: Registry, layout: Layout) -> None:
        super().__init__(stage)
        self.registry = registry
        self.layout = layout

    def push(self, digest: str) -> str:
        layer = {"oci": {"image": f"{self.registry.host}/acme/app@{digest}"}}
        health = {"checks": [{"http": {"port": self.port}}]}
        return self.declare([layer], 8000, digest[:19], memory="256MiB", health=health)


@pytest.fixture
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Host]:
    with serving_registry(tmp_path / "registry") as registry:
        more = f'[[registries]]\nname = "{registry.host}"\ninsecure = true\n'
        allowed = {"registries": [f"{registry.host}/acme/*"]}
        with stage_that_allows(allowed, request.node, more=more) as stage:
            yield Host(stage, registry, Layout(tmp_path / "layout"))


def test_an_application_of_a_registry_boots_is_updated_by_one_layer_and_goes_back(
    host: Host, tmp_path: Path
) -> None:
    python = python_layer(tmp_path)
    first = host.layout.add("one", python, app_layer(tmp_path, "one"), settings=SETTINGS)
    second = host.layout.add("two", python, app_layer(tmp_path, "two"), settings=SETTINGS)
    broken = host.layout.add(
        "bad", python, app_layer(tmp_path, "bad", "raise SystemExit(3)\n"), settings=SETTINGS
    )
    for tag in ("one", "two", "bad"):
        host.registry.push(host.layout, tag, "acme/app")
    revision = host.push(first)
    host.start()
    host.until("the first is healthy", lambda now: now.settled(revision, "app"), FIRST)
    assert host.answer() == "one hello there 1000:1000 /app/data ['two words']"
    layers, asked = host.stage.layers(), len(host.registry.served())
    revision = host.push(second)
    host.until("the second is healthy", lambda now: now.settled(revision, "app"))
    assert host.answer().startswith("two ")
    assert len(host.stage.layers() - layers) == 1, (
        "the base and the start of the program are shared"
    )
    assert host.registry.blob_bytes(asked) < 100_000, "the base was not fetched again"
    revision = host.push(broken)
    host.until(
        "it went back", lambda now: now.vms["app"].sync == "blocked" and now.vms["app"].healthy
    )
    assert host.answer().startswith("two ")
    console = host.stage.console("app")
    assert "serving" in console
