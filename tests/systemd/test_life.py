"""A host's life with the package, from its installation to its end. The tests are its chapters, in order."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from os import kill
from pathlib import Path

import pytest

from demo.daemon import free_port
from tests.systemd.host import CONFIG, NAMES, ROOT, Host
from tests.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

MOST_EXPOSED = 2.2
MOST_EXPOSED_GUEST = 1.5
OTHER_PORT = """\
[Socket]
ListenStream=
ListenStream=127.0.0.1:%d
"""
CREDENTIALS = "/run/credentials/reconciler.service"
SECRET = b"0123456789abcdef"
PRESSED = "power button: shutting down"
UNITS = ("reconciler.service", "reconciler.socket", "microvms.slice")


def assert_caged(host: Host, unit: str, most: float, chapter: str) -> None:
    """No more exposed than `most`, and a chapter of docs/deploy.md has the reason for all that is left."""
    said = host.container.run("systemd-analyze", "security", "--no-pager", unit, check=False).stdout
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level, said
    assert float(level[1]) <= most
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    reasons = page.split(f"## {chapter}\n")[1].split("\n## ")[0].replace("\\|", "|")
    left = {point(line.split()[1]) for line in said.splitlines() if line.startswith("✗")}
    assert sorted(name for name in left if f"`{name}`" not in reasons) == []


def point(setting: str) -> str:
    """`User` of `User=/DynamicUser=`, `@resources` of `SystemCallFilter=~@resources`."""
    name, _, value = setting.partition("=~")
    return value.replace("(INET|INET6)", "INET") or name.partition("=")[0]


def test_units_are_sound_and_the_daemon_is_ready(host: Host) -> None:
    paths = [f"/usr/lib/systemd/system/{unit}" for unit in UNITS]
    verified = host.container.run("systemd-analyze", "verify", "--man=no", *paths)
    assert verified.stdout + verified.stderr == ""
    for unit in UNITS:
        assert host.systemctl("is-active", unit, check=False).stdout.strip() == "active"
    assert_caged(host, "reconciler.service", MOST_EXPOSED, "The daemon's sandbox")


def test_traces_need_nothing_but_the_package(host: Host) -> None:
    python = ("env", "PYTHONPATH=/usr/lib/reconciler/python", "python3", "-P", "-c")
    host.container.run(*python, "import reconciler.tracing.otel")


def test_man_page_and_completion_are_there(host: Host) -> None:
    installed = host.container.run("dpkg", "-L", "reconciler").stdout.split()
    shells = ("bash-completion/completions/reconciler", "zsh/vendor-completions/_reconciler", "fish/vendor_completions.d/reconciler.fish")  # fmt: skip
    assert {f"/usr/share/{one}" for one in ("man/man1/reconciler.1.gz", *shells)} <= set(installed)


def test_a_bad_config_is_named_and_not_tried_again(host: Host) -> None:
    config = host.container.root / CONFIG
    good = config.read_text()
    config.write_text(good.replace("[http]", "[http]\nprot = 1"))
    host.systemctl("restart", "reconciler.service", check=False)
    shown = host.container.show("reconciler.service", "ExecMainStatus", "NRestarts", "ActiveState")
    assert shown == {"ExecMainStatus": "78", "NRestarts": "0", "ActiveState": "failed"}
    said = host.journal()
    config.write_text(good)
    host.configure(port=f"port = {free_port()}")
    host.systemctl("reset-failed", "reconciler.service")
    host.systemctl("restart", "reconciler.socket", "reconciler.service")
    assert "/etc/reconciler/config.toml: http.prot: unknown key" in said
    assert "did you mean port?" in said


def test_the_first_push_gives_running_vms(host: Host) -> None:
    host.push("version 1\n")
    for name in NAMES:
        assert host.ask(name) == "version 1"
    status = host.container.run("reconciler", "status")
    assert "2 of 2 VMs healthy" in status.stdout
    wait_until(
        lambda: told(host).startswith("2 of 2 VMs healthy"), 20, "systemd knows how the fleet is"
    )


def test_the_journal_knows_which_vm_a_record_is_about(host: Host) -> None:
    said = host.container.run(
        *("journalctl", "-q", "-o", "json", "_SYSTEMD_UNIT=reconciler.service", "VM=left")
    ).stdout
    records = [json.loads(line) for line in said.splitlines()]
    committed = [one for one in records if one.get("EVENT") == "generation-committed"]
    assert committed, said
    assert {one["GROUP"] for one in committed} == {"pair"}
    assert committed[0]["GENERATION"] == "1"
    assert host.good.startswith(committed[0]["REVISION"])
    assert "left" in committed[0]["MESSAGE"]


def told(host: Host) -> str:
    return host.container.show("reconciler.service", "StatusText")["StatusText"]


def test_a_guest_has_limits_a_user_and_a_cage(host: Host) -> None:
    shown = host.container.show(
        "microvm-left.service",
        *("Slice", "MemoryMax", "TasksMax", "CPUWeight", "IOWeight", "CPUQuotaPerSecUSec"),
        *("User", "DynamicUser", "NoNewPrivileges", "ProtectSystem", "CapabilityBoundingSet"),
        *("DevicePolicy", "DeviceAllow", "PrivateDevices", "PrivateTmp"),
    )
    assert shown == {
        "Slice": "microvms.slice",
        "MemoryMax": str((160 + 256) * 1024 * 1024),
        "TasksMax": "65",
        "CPUWeight": "100",
        "IOWeight": "100",
        "CPUQuotaPerSecUSec": "2s",
        "User": "microvm-left",
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "CapabilityBoundingSet": "",
        "DevicePolicy": "closed",
        "DeviceAllow": "char-rtc r",  # by ProtectClock=; there is none in its /dev
        "PrivateDevices": "yes",
        "PrivateTmp": "yes",
    }
    assert_caged(host, "microvm-left.service", MOST_EXPOSED_GUEST, "A guest's sandbox")


def test_traffic_of_a_guest_is_told_where_its_unit_counts_it(host: Host) -> None:
    shown = host.container.show("microvm-left.service", "IPAccounting", "IPIngressBytes")
    assert shown["IPAccounting"] == "yes"
    asked = "reconciler_vm_memory_bytes"
    wait_until(lambda: asked in host.series("left"), 60, "it was asked")
    exposed = host.series("left")
    assert exposed[asked] == 160 << 20
    assert 0 < exposed["reconciler_vm_memory_available_bytes"] < 160 << 20
    received = exposed.get("reconciler_vm_network_received_bytes_total")
    if not shown["IPIngressBytes"].isdigit():  # "[no data]" of a kernel without BPF for cgroups
        assert received is None
        return
    now = int(host.container.show("microvm-left.service", "IPIngressBytes")["IPIngressBytes"])
    assert received is not None
    assert 0 < received <= now


def test_guests_are_different_users_and_see_nothing_of_each_other(host: Host) -> None:
    pids = host.fleet().pids()
    owners = set()
    for name, pid in pids.items():
        # Pids are those inside; nsenter sees them through the container's own /proc.
        status = (host.container.live / f"proc/{pid}/status").read_text()
        owners.add(re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)[1])  # type: ignore[index]
        assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
        assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)  # filtered
        argv = (host.container.live / f"proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert argv[argv.index(b"-sandbox") + 1].startswith(b"on,")
        said = host.container.run("journalctl", "-q", "-u", f"microvm-{name}.service").stdout
        assert f"Started microvm-{name}.service - microVM {name}, generation 1." in said
        seen = host.container.live / f"proc/{pid}/root/var/lib/reconciler"
        assert sorted(path.name for path in (seen / "vms").iterdir()) == [name]
        assert not (seen / "ledger.db").exists()
        assert (seen / "vms" / name / "volumes/data.raw").exists()
    assert len(owners) == 2
    assert "0" not in owners


def test_an_update_rolls_through_the_group(host: Host) -> None:
    before = host.boot_ids()
    host.push("version 2\n")
    after = host.boot_ids()
    assert all(before[name] != after[name] for name in NAMES)
    assert [host.ask(name) for name in NAMES] == ["version 2", "version 2"]


def test_a_bad_change_is_rolled_back(host: Host) -> None:
    good = host.good
    host.write_fleet("version 3\n")
    host.repository.write("web/etc/rc.local", "#!/bin/sh\nexit 1\n", 0o755)
    for name in NAMES:
        host.repository.replace(f"{name}.yaml", "startupDeadline: 90s", "startupDeadline: 12s")
    host.repository.push("version 3, which never answers")
    fleet = host.until("rolled back", lambda fleet: fleet.rolled_back() == ["left"], 90)
    assert fleet.groups["pair"].state == "held"
    assert [host.ask(name) for name in NAMES] == ["version 2", "version 2"]
    host.repository.restore(good)
    host.push("version 2\n")


def test_guests_outlive_the_daemon_however_it_ends(host: Host) -> None:
    before, boots = host.fleet().instances(), host.boot_ids()
    first = host.daemon_pid()
    host.container.run("kill", "-KILL", str(first))
    second = wait_until(lambda: again(host, first), 60, "systemd started the daemon again")
    assert host.settled().instances() == before
    host.systemctl("restart", "reconciler.service")
    assert host.daemon_pid() not in {first, second}
    assert host.settled().instances() == before
    assert host.boot_ids() == boots


def again(host: Host, former: int) -> int:
    pid = host.daemon_pid()
    return pid if pid != former else 0


def test_a_reload_is_told_and_looks_at_the_source(host: Host) -> None:
    pid = host.daemon_pid()
    host.systemctl("reload", "reconciler.service")
    assert host.systemctl("is-active", "reconciler.service").stdout.strip() == "active"
    assert host.daemon_pid() == pid


def test_a_daemon_that_hangs_is_replaced_by_the_watchdog(host: Host) -> None:
    before, boots = host.fleet().instances(), host.boot_ids()
    folder = host.container.live / "run/systemd/system/reconciler.service.d"
    folder.mkdir(parents=True)
    (folder / "soon.conf").write_text("[Service]\nWatchdogSec=3\nRestartSec=1\n")
    host.systemctl("daemon-reload")
    host.systemctl("restart", "reconciler.service")
    hung = host.daemon_pid()
    kill(inside(host, hung), signal.SIGSTOP)
    wait_until(lambda: again(host, hung), 60, "the watchdog replaced the daemon")
    assert "Watchdog timeout" in host.journal()
    assert host.settled().instances() == before
    assert host.boot_ids() == boots
    (folder / "soon.conf").unlink()
    host.systemctl("daemon-reload")


def inside(host: Host, pid: int) -> int:
    """The pid, out here, of a process in the container."""
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            numbers = re.search(r"^NSpid:\s+(.*)$", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        if numbers and numbers[1].split()[1:] == [str(pid)]:
            found = int(path.parent.name)
            same = (
                Path(f"/proc/{found}/ns/pid").readlink()
                == Path(f"/proc/{host.container.leader}/ns/pid").readlink()
            )
            if same:
                return found
    raise AssertionError(f"no process {pid} in the container")


def test_an_upgrade_restarts_the_daemon_and_no_guest(
    host: Host, package: Path, tmp_path: Path
) -> None:
    before, boots, pid = host.fleet().instances(), host.boot_ids(), host.daemon_pid()
    uptimes, begin = host.uptimes(), time.monotonic()
    newer = repacked(package, tmp_path, "99.0.0")
    (host.container.root / "srv" / newer.name).write_bytes(newer.read_bytes())
    host.apt("install", "--no-install-recommends", f"/srv/{newer.name}")
    assert host.daemon_pid() != pid
    shown = host.container.run("dpkg-query", "-W", "-f", "${Version}", "reconciler").stdout
    assert shown == "99.0.0"
    assert host.settled().instances() == before
    assert host.boot_ids() == boots
    spent = time.monotonic() - begin
    for name, uptime in host.uptimes().items():
        # A guest's clock goes on while it is not stopped; a busy machine may hold it up for a moment.
        assert uptime - uptimes[name] == pytest.approx(spent, abs=5)


def repacked(package: Path, folder: Path, version: str) -> Path:
    """The same package under a newer version."""
    tree, made = folder / "tree", folder / f"reconciler_{version}_all.deb"
    for argv in (
        ["dpkg-deb", "-R", str(package), str(tree)],
        ["sed", "-i", f"s/^Version: .*/Version: {version}/", str(tree / "DEBIAN/control")],
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", str(tree), str(made)],
    ):
        subprocess.run(argv, check=True, capture_output=True, timeout=120)
    return made


def test_stopping_the_daemon_leaves_guests(host: Host) -> None:
    boots = host.boot_ids()
    host.systemctl("stop", "reconciler.socket", "reconciler.service")
    assert host.boot_ids() == boots
    host.systemctl("start", "reconciler.socket", "reconciler.service")
    host.settled()
    assert host.boot_ids() == boots


def test_who_stops_a_unit_by_hand_presses_its_power_button(host: Host) -> None:
    host.container.run("reconciler", "suspend", "left", "--reason", "a person stops it")
    pressed = presses(host, "left")
    host.systemctl("stop", "microvm-left.service")
    assert presses(host, "left") == pressed + 1
    host.container.run("reconciler", "resume", "left")
    host.settled()


def test_a_person_presses_the_button_with_nothing_but_the_package(host: Host) -> None:
    host.container.run("reconciler", "suspend", "left", "--reason", "a person stops it")
    pressed = presses(host, "left")
    host.container.run("/var/lib/reconciler/vms/left/booted/bin/microvm-shutdown")
    assert presses(host, "left") == pressed + 1
    host.container.run("reconciler", "resume", "left")
    host.settled()


def presses(host: Host, name: str) -> int:
    """How often the guest's own power button script ran, as its console has it."""
    console = host.container.root / f"var/lib/reconciler/vms/{name}/console.log"
    return console.read_text(errors="replace").count(PRESSED)


def test_a_command_wakes_a_daemon_that_was_stopped(host: Host) -> None:
    host.systemctl("stop", "reconciler.service")
    assert "VMs healthy" in host.container.run("reconciler", "status", check=False).stdout
    host.is_ready()
    host.settled()


def test_the_tcp_face_with_its_webhook_may_be_a_socket_that_outlives_the_daemon(host: Host) -> None:
    port, unit = free_port(), host.container.live / "run/systemd/system/reconciler-http.socket.d"
    secret = host.container.root / "etc/reconciler/credentials/webhook"
    secret.write_bytes(SECRET)
    config = host.container.root / CONFIG
    before = config.read_text()
    host.configure(secret_file=f'secret_file = "{CREDENTIALS}/git_webhook"')
    assert "disabled" in host.systemctl("is-enabled", "reconciler-http.socket", check=False).stdout
    unit.mkdir(parents=True)
    (unit / "port.conf").write_text(OTHER_PORT % port)
    host.systemctl("daemon-reload")
    host.systemctl("stop", "reconciler.service")
    host.systemctl("start", "reconciler-http.socket")
    # Nobody serves it yet: who comes now wakes the daemon, and is not refused meanwhile.
    assert hook(port) == 202
    wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), 60, "the daemon is ready")
    host.systemctl("stop", "reconciler.service", "reconciler-http.socket")
    shutil.rmtree(unit)
    secret.unlink()
    config.write_text(before)
    host.systemctl("daemon-reload")
    host.systemctl("start", "reconciler.service")
    host.settled()


def hook(port: int) -> int:
    """As a git server tells of a push."""
    body = b'{"ref": "refs/heads/main"}'
    signature = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    headers = {"X-Gitea-Event": "push", "X-Gitea-Signature": signature}
    url = f"http://127.0.0.1:{port}/webhook"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
        return int(answer.status)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own daemon
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False  # it is there, and not ready


def test_a_reboot_of_the_host_brings_guests_back_at_their_last_good_generation(host: Host) -> None:
    before = {name: vm.last_good for name, vm in host.fleet().vms.items()}
    boots = host.boot_ids()
    pressed = {name: presses(host, name) for name in NAMES}
    crashes = host.events("guest-crashed")
    host.container.power_off()
    # Each guest was told, and turned itself off: its volumes are clean, and nothing counts as a crash.
    assert {name: presses(host, name) for name in NAMES} == {n: k + 1 for n, k in pressed.items()}
    for name in NAMES:
        volume = host.container.root / f"var/lib/reconciler/vms/{name}/volumes/data.raw"
        state = subprocess.run(
            ["dumpe2fs", "-h", volume], capture_output=True, text=True, check=True
        )
        assert re.search(r"^Filesystem state: +clean$", state.stdout, re.MULTILINE)
        assert "needs_recovery" not in state.stdout
    host.container.boot()
    after = host.settled()
    assert host.events("guest-crashed") == crashes
    assert {name: vm.running for name, vm in after.vms.items()} == before
    assert all(boots[name] != now for name, now in host.boot_ids().items())
