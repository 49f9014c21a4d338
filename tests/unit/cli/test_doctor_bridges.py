"""What `doctor` says of hosts whose config allows bridges."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cli import doctor_bridges as bridgechecks
from reconciler.cli.doctor_findings import Finding
from reconciler.vmm.netlink import may_open

ROOT = Path(__file__).resolve().parents[3]


def test_a_missing_tun_is_named_with_its_module(tmp_path: Path) -> None:
    found = bridgechecks.check_tun(tmp_path / "tun")
    assert (found.result, found.remedy) == ("failed", "modprobe tun")
    (tmp_path / "tun").touch(mode=0o600)
    assert bridgechecks.check_tun(tmp_path / "tun").result == "ok"
    stranger = (tmp_path / "tun").stat().st_gid + 1
    closed = bridgechecks.check_tun(tmp_path / "tun", group=stranger)
    assert closed.remedy == f"chmod 666 {tmp_path}/tun"


def test_a_tun_that_the_guests_group_may_open_is_well_as_for_the_daemon(tmp_path: Path) -> None:
    tun = tmp_path / "tun"
    tun.touch()
    tun.chmod(0o660)
    group = tun.stat().st_gid
    assert may_open(tun, group)
    assert bridgechecks.check_tun(tun, group=group).result == "ok"
    assert bridgechecks.check_tun(tun, group=bridgechecks.NO_GROUP).result == "failed"


def test_a_daemon_without_the_right_is_named_with_the_drop_in_that_gives_it(tmp_path: Path) -> None:
    found = bridgechecks.check_drop_in((tmp_path,))
    assert found.result == "failed"
    assert found.remedy.startswith("install -Dm644 /usr/share/reconciler/bridges.conf /etc/systemd")
    (tmp_path / "other.conf").write_text("[Service]\n# CapabilityBoundingSet=CAP_NET_ADMIN\n")
    assert bridgechecks.check_drop_in((tmp_path,)).result == "failed"
    ours = (ROOT / "deploy/systemd/bridges.conf").read_text()
    (tmp_path / "bridges.conf").write_text(ours)
    assert bridgechecks.check_drop_in((tmp_path,)).result == "ok"


@pytest.mark.parametrize(("rights", "result"), [("0000000000001000", "ok"), ("0" * 16, "failed")])
def test_who_runs_the_daemon_by_hand_needs_the_right(
    tmp_path: Path, rights: str, result: str
) -> None:
    (tmp_path / "status").write_text(f"Name: x\nCapEff:\t{rights}\n")
    assert bridgechecks.check_capability(tmp_path / "status").result == result


def test_a_missing_bridge_is_named_with_what_makes_one(tmp_path: Path) -> None:
    found = bridgechecks.check_bridge("no-br0", tmp_path)
    assert found.remedy == "ip link add no-br0 type bridge && ip link set no-br0 up"
    (tmp_path / "no-br0").mkdir()
    assert "is not a bridge" in bridgechecks.check_bridge("no-br0", tmp_path).detail
    (tmp_path / "no-br0/bridge").mkdir()
    bare = bridgechecks.check_bridge("no-br0", tmp_path)
    assert (bare.result, bare.remedy) == ("warning", "ip address add 10.20.0.1/24 dev no-br0")


def test_an_interface_with_an_address_is_told_with_it(tmp_path: Path) -> None:
    (tmp_path / "lo/bridge").mkdir(parents=True)
    fit = Finding("bridge lo", "ok", "its guests are checked from 127.0.0.1")
    assert bridgechecks.check_bridge("lo", tmp_path) == fit


def test_all_that_a_tap_takes_is_looked_at() -> None:
    names = [one.name for one in bridgechecks.check_bridges(("a", "b"), kept=True)]
    assert names == ["tun", "taps", "bridge a", "bridge b"]
