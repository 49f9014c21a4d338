"""The builder of Debian packages in its unit: caged, and still able to make a base."""

from __future__ import annotations

import json

import pytest

from reconciler.image.debian_roots.user_namespace import FIRST_ID, IDS
from tests.systemd.host import Host
from tests.systemd.test_life import assert_caged

pytestmark = [pytest.mark.integration, pytest.mark.stacks, pytest.mark.timeout(1200)]

MOST_EXPOSED = 4.2
UNIT = "reconciler-build@0.service"
SECONDS = 900.0
MAKE = f"""
import asyncio, json, tarfile
from pathlib import Path
from reconciler.daemon import BUILDER_SOCKET
from reconciler.image.debian_roots.builder_client import DebianRoots, by_socket
from reconciler.image.debian_roots.root_request import RootRequest

tar = Path("/srv/base.tar")
request = RootRequest(
    archive_id="0" * 64, suite="bookworm", components=["main"], packages=[], seconds={SECONDS}
)
versions = asyncio.run(DebianRoots(by_socket(BUILDER_SOCKET)).make(request, tar))
with tarfile.open(tar) as made:
    owners = {{entry.uid for entry in made}}
print(json.dumps([dict(versions), sorted(owners)]))
"""


def test_its_units_are_sound_and_it_is_caged(host: Host) -> None:
    paths = [f"/usr/lib/systemd/system/reconciler-build{end}" for end in (".socket", "@.service")]
    verified = host.container.run("systemd-analyze", "verify", "--man=no", *paths)
    assert verified.stdout + verified.stderr == ""
    assert host.systemctl("is-active", "reconciler-build.socket").stdout.strip() == "active"
    assert_caged(host, UNIT, MOST_EXPOSED, "The builder's sandbox")


def test_it_makes_a_base_with_ids_of_no_user_and_leaves_nothing_running(host: Host) -> None:
    host.apt("install", "--no-install-recommends", "mmdebstrap", "mount")
    python = ("env", "PYTHONPATH=/usr/lib/reconciler/python", "python3", "-P", "-c")
    said = host.container.run(*python, MAKE, timeout=SECONDS).stdout
    versions, owners = json.loads(said)
    assert {"systemd-sysv", "dbus", "apt"} <= versions.keys()
    assert max(owners) < IDS, "owners in the tar are those of the guest"
    found = host.container.run(
        "find", "/var/cache/reconciler-build/home", "-mindepth", "1", "-printf", "%U\n"
    ).stdout
    kept = {int(line) for line in found.split()}
    assert kept
    assert kept <= set(range(FIRST_ID, FIRST_ID + IDS))
    listed = host.systemctl("list-units", "--plain", "--no-legend", "reconciler-build@*").stdout
    assert listed == ""
