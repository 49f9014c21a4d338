"""Guests of container images whose services OpenRC starts, by its own init and by busybox's, as Alpine has it.

OpenRC and its libraries are Debian's, the image is made by umoci, and all programs beside OpenRC are busybox.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from demo.client import Fleet
from demo.daemon import Daemon, Settings, free_port
from demo.stage import Stage
from reconciler.image.debian_packages import Debian, Package
from reconciler.image.inputs.busybox import fetch_busybox
from tests.integration import evidence
from tests.integration.harness import FIRST, ROLL, request
from tests.registry.images import Entry, Layout, pack_folder, write_layer
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.stacks,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64") is None or shutil.which("mksquashfs") is None,
        reason="qemu-system-x86_64 or mksquashfs is missing",
    ),
]

PACKAGES = (
    "openrc", "libeinfo1", "librc1", "libc6", "libpam0g", "libaudit1", "libcap-ng0", "libselinux1",
    "libpcre2-8-0",
)  # fmt: skip
SERVICE = """\
#!/sbin/openrc-run
description="Serves what is in /www"
start() {
    ebegin "Starting the pages"
    httpd -p 80 -h /www
    eend $?
}
stop() {
    echo "the pages end in order" >/dev/console
    killall httpd
}
"""
INITTAB = """\
::sysinit:/sbin/openrc sysinit
::sysinit:/sbin/openrc boot
::wait:/sbin/openrc default
::shutdown:/sbin/openrc shutdown
"""
FILES: Mapping[str, Entry | str] = {
    "etc/": "",
    "etc/init.d/": "",
    "etc/insserv.conf": "",
    "etc/init.d/pages": Entry(SERVICE, 0o755),
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "etc/group": "root:x:0:\nuucp:x:10:\n",
    "etc/runlevels/": "",
    "etc/runlevels/default/": "",
    "etc/runlevels/default/pages": Entry(link="/etc/init.d/pages"),
    "sbin/": "",
}
INITS: Mapping[str, Mapping[str, Entry | str]] = {
    "openrc-init": {"sbin/init": Entry(link="openrc-init")},
    "busybox": {"sbin/init": Entry(link="../bin/busybox"), "etc/inittab": INITTAB},
}


def userland(folder: Path) -> Path:
    """A layer's tar: OpenRC with what it needs."""
    root = folder / "root"
    debian = Debian()

    async def fetch() -> Path:
        await debian.unpack([Package(name, "") for name in PACKAGES], root)
        return await fetch_busybox(debian, folder / "busybox")

    busybox = asyncio.run(fetch())
    for name in ("bin", "sbin", "usr/bin", "usr/sbin"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(busybox, root / "bin/busybox")
    listed = subprocess.run([busybox, "--list-full"], check=True, capture_output=True, text=True)
    for applet in listed.stdout.split():
        if not (root / applet).exists() and not applet.endswith("/init"):
            (root / applet).symlink_to("/bin/busybox")
    shutil.rmtree(root / "usr/share")
    return pack_folder(folder / "userland.tar", root)


class Host:
    """A daemon that may have images of one folder, and one VM without checks."""

    def __init__(self, stage: Stage, layout: Layout) -> None:
        self.stage = stage
        self.layout = layout
        self.port = free_port()

    def push(self, digest: str, page: str) -> str:
        image = {"layout": str(self.layout.folder), "digest": digest}
        document = {
            "apiVersion": "reconciler/v1",
            "kind": "MicroVM",
            "metadata": {"name": "web"},
            "spec": {
                "memory": "192MiB",
                "store": {"layers": [{"oci": image}, {"tree": "./site"}]},
                "interfaces": [{"type": "user", "forward": [{"host": self.port, "guest": 80}]}],
                "health": {"minHealthyTime": "1s", "startupDeadline": "90s"},
                "update": {"stopTimeout": "60s"},
            },
        }
        self.stage.repository.write("web.yaml", yaml.safe_dump(document))
        self.stage.repository.write("site/www/index.html", f"{page}\n")
        return self.stage.repository.push(page)

    def settled(self, revision: str, deadline: float = ROLL) -> Fleet:
        def look() -> Fleet | None:
            fleet = self.stage.daemon.fleet()
            return fleet if fleet.settled(revision, "web") else None

        return wait_until(look, deadline, f"settled at {revision[:8]}")

    def page(self) -> str:
        return request(self.port, "/")[1]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """An image for each init; they share the layer below."""
    folder = tmp_path_factory.mktemp("image")
    layout, below = Layout(folder / "layout"), userland(folder)
    for init, files in INITS.items():
        top = write_layer(folder / f"{init}.tar", {**FILES, **files})
        layout.add(init, below, top, settings={"config.cmd": ["/sbin/init"]})
    return layout


@pytest.fixture
def host(layout: Layout, request: pytest.FixtureRequest) -> Iterator[Host]:
    stage = Stage.open()
    settings = Settings(
        repository=stage.repository.bare, state=stage.state,
        socket=stage.daemon.settings.socket, http_port=free_port(),
        allowed={"host_paths": [str(layout.folder.parent)]},
    )  # fmt: skip
    stage.daemon = Daemon(stage.root, settings)
    try:
        with evidence.kept_of(stage, request.node):
            stage.seed()
            yield Host(stage, layout)
    finally:
        assert stage.close() == []


@pytest.mark.parametrize("init", INITS)
def test_openrc_starts_the_services_says_so_and_stops_them_when_the_guest_is_told_to_end(
    host: Host, init: str
) -> None:
    first = host.push(host.layout.digest(init), "one")
    host.stage.daemon.start()
    host.settled(first, FIRST)
    instance = host.stage.daemon.fleet().vms["web"].instance
    said = host.stage.console("web")
    assert f"reconciler-up: {instance}" in said
    assert said.index("Starting the pages") < said.index("reconciler-up")
    assert host.page() == "one"

    host.settled(host.push(host.layout.digest(init), "two"))
    assert host.page() == "two"
    ended = host.stage.console("web").split("start of instance")[1]
    assert "the pages end in order" in ended
    assert "reboot: Power down" in ended
