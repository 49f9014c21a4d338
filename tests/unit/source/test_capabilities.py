"""What a manifest asks of a VMM is held against what that VMM can do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.hypervisors import CAPABILITIES, DEFAULT
from reconciler.model.desired import VMSpec
from reconciler.source.manifests.policy_bounds import capability_faults
from tests.world import vm

ALL = CAPABILITIES[DEFAULT]


@pytest.mark.parametrize(
    ("spec", "lacking", "place"),
    [
        (vm("a", port=8080), "user_networks", ("spec", "hypervisor")),
        (vm("a", bridge="br0"), "taps", ("spec", "hypervisor")),
        (vm("a", handover=True), "open_ports", ("spec", "update", "strategy")),
    ],
)
def test_what_a_vmm_cannot_do_is_refused_at_its_place(
    spec: VMSpec, lacking: str, place: tuple[str, ...]
) -> None:
    assert list(capability_faults(spec, ALL)) == []
    can = replace(ALL, **{lacking: False})
    (fault,) = capability_faults(spec, can)
    assert fault.at == place
    assert DEFAULT in fault.message


def test_what_is_not_asked_for_need_not_be_there() -> None:
    less = replace(ALL, taps=False, open_ports=False)
    assert list(capability_faults(vm("a", port=8080), less)) == []
