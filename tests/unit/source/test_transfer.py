"""A desired state comes over from the child as it was there, and after a push only what it changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.errors import ManifestErrors, Problem, SourceError
from reconciler.model.desired import DesiredState
from reconciler.model.names import Revision, VMName
from reconciler.source.manifests.folder import load_folder
from reconciler.source.manifests.transfer import Header, Receiver, Sender, refusal
from tests.unit.source.repositories import group, vm

pytestmark = pytest.mark.shows(fault=48)

ROOT = Path(__file__).resolve().parents[3]


class Wire:
    """Both ends, and what goes over it."""

    def __init__(self) -> None:
        self.sender, self.receiver = Sender(), Receiver()
        self.lines: list[bytes] = []

    def carry(self, state: DesiredState) -> DesiredState:
        first, *self.lines = self.sender.lines(state, 0, 0)
        header = Header.of(first)
        assert header.fresh == len(self.lines)
        for line in self.lines:
            self.receiver.take(line)
        return self.receiver.state(header, state.revision)


@pytest.fixture
def fleet(tmp_path: Path) -> DesiredState:
    """Of all kinds of things that a manifest can say."""
    (tmp_path / "web").mkdir()
    (tmp_path / "fleet.yaml").write_text(
        "---\n".join(
            (
                group("g", '{canary: [a], windows: [{allow: {cron: "0 2 * * *", duration: 2h}}]}'),
                vm("a", group="g", layers="[{busybox: {}}, {tree: ./web}]"),
                vm(
                    "b",
                    spec="volumes: [{name: data, mountPoint: /data, size: 1GiB}]\n"
                    "interfaces: [{type: user, forward: [{host: 8080, guest: 80}]}]\n"
                    "health: {checks: [{http: {port: 8080}}, {tcp: {port: 8080}}, {process: {}}]}\n"
                    "update: {after: [a]}\n",
                    moved_from="c",
                ),
            )
        )
    )
    return load_folder(tmp_path)[0]


def test_a_state_is_the_same_on_the_other_side(fleet: DesiredState) -> None:
    sample, _ = load_folder(ROOT / "manifests")
    for state in (fleet, sample):
        assert Wire().carry(state) == state
        assert list(Wire().carry(state).vms) == list(state.vms)


def test_only_what_changed_is_carried_and_the_rest_stays_the_same_object(
    fleet: DesiredState,
) -> None:
    wire = Wire()
    before = wire.carry(fleet)
    wire.carry(replace(fleet, revision=Revision("1" * 40)))
    assert wire.lines == []
    name = VMName("a")
    changed = {**fleet.vms, name: replace(fleet.vms[name], vcpu=3)}
    after = wire.carry(replace(fleet, vms=changed))
    assert len(wire.lines) == 1
    assert after.vms == changed
    assert after.vms[VMName("b")] is before.vms[VMName("b")]


def test_a_vm_that_left_and_came_back_is_carried_again(fleet: DesiredState) -> None:
    wire = Wire()
    wire.carry(fleet)
    wire.carry(replace(fleet, vms={}))
    assert wire.carry(fleet) == fleet
    assert len(wire.lines) == len(fleet.vms)


def test_problems_come_over_with_the_number_of_the_others() -> None:
    told = ManifestErrors([Problem("ä.yaml", 3, 1, "bad \udcff", "mend it")], more=7)
    error = Header.of(refusal(told).line()).error(Revision("a" * 40))
    assert isinstance(error, ManifestErrors)
    assert (error.revision, error.more) == ("a" * 40, 7)
    assert str(error.problems[0]) == "ä.yaml:3:1: bad ? (mend it)"


def test_an_error_of_the_mirror_keeps_its_kind() -> None:
    error = Header.of(refusal(SourceError("gone", kind="missing", hint="push")).line()).error(
        Revision("a" * 40)
    )
    assert isinstance(error, SourceError)
    assert (error.kind, error.hint) == ("missing", "push")
