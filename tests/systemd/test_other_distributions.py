"""`deploy/install.sh`, for hosts that have no package of ours: here a Debian that purged it."""

from __future__ import annotations

import pytest

from demo.daemon import free_port
from tests.systemd.host import CHECKOUT, NAMES, Host

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

INSTALL = f"{CHECKOUT}/deploy/install.sh"
AGREED = "reconciler reconciler/purge-state boolean true\n"


@pytest.fixture(scope="module")
def bare(host: Host) -> Host:
    """What the program needs is there, and nothing of itself."""
    (host.container.root / "srv/agreed").write_text(AGREED)
    if (host.container.root / "usr/bin/reconciler").exists():
        host.container.run("debconf-set-selections", "/srv/agreed")
        host.apt("purge", "reconciler")
    assert not (host.container.root / "var/lib/reconciler").exists()
    return host


def test_it_refuses_where_something_is_missing_and_names_it(bare: Host) -> None:
    bare.apt("purge", "--no-install-recommends", "python3-pip")
    said = bare.container.run(INSTALL, check=False)
    assert said.returncode == 1
    assert "pip is missing" in said.stderr
    assert "hint: install your distribution's python3-pip" in said.stderr
    assert not (bare.container.root / "usr/bin/reconciler").exists()


def test_it_installs_and_the_first_push_gives_running_vms(bare: Host) -> None:
    bare.apt("install", "--no-install-recommends", "python3-pip")
    bare.container.run(INSTALL)
    bare.configure(port=f"port = {free_port()}")
    bare.systemctl("restart", "reconciler.service")
    assert bare.systemctl("is-enabled", "reconciler.socket").stdout.strip() == "enabled"
    bare.push("version 1, without a package\n")
    assert [bare.ask(name) for name in NAMES] == ["version 1, without a package"] * 2
    assert '"ok": true' in bare.container.run("reconciler", "doctor", "-o", "json").stdout


def test_run_again_it_upgrades_and_keeps_config_and_guests(bare: Host) -> None:
    boots, pid = bare.boot_ids(), bare.daemon_pid()
    config = bare.container.root / "etc/reconciler/config.toml"
    before = config.read_text()
    bare.container.run(INSTALL)
    bare.settled()
    assert bare.daemon_pid() != pid
    assert config.read_text() == before
    assert bare.boot_ids() == boots


def test_taken_away_it_leaves_guests_data_and_config(bare: Host) -> None:
    boots = bare.boot_ids()
    said = bare.container.run(INSTALL, "--remove").stdout
    assert "guests keep running" in said
    assert bare.boot_ids() == boots
    root = bare.container.root
    assert (root / "var/lib/reconciler/vms/left/volumes/data.raw").exists()
    assert (root / "etc/reconciler/config.toml").exists()
    left = [p for p in ("usr/bin/reconciler", "usr/lib/reconciler") if (root / p).exists()]
    assert left == []
    bare.systemctl("stop", "microvms.slice")
