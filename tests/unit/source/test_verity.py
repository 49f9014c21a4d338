"""`store.verity` in a manifest: what it changes, and what it is refused beside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.config import PolicyConfig
from reconciler.errors import ManifestErrors
from reconciler.model.desired import VMSpec
from reconciler.model.image import DebianKernel
from reconciler.model.machine import NO_TREE
from reconciler.model.names import InstanceId, LayerKey
from reconciler.model.observed import HostFacts, Observed
from reconciler.planning.machines import machine_of
from tests.unit.source.repositories import InProcess, Repository, vm
from tests.unit.vmm.machines import a_generation


def spec_of(repository: Repository, layers: str, spec: str = "") -> VMSpec:
    policy = PolicyConfig(host_paths=["/k"], registries=["registry.example.org/*"])
    reader = InProcess(repository, policy)
    (found,) = reader.read({"a.yaml": vm("a", layers=layers, spec=spec)}).vms.values()
    return found


def test_it_makes_other_layers_and_another_bundle(repository: Repository) -> None:
    plain = spec_of(repository, "[busybox: {}]")
    sealed = spec_of(repository, "[busybox: {}], verity: true")
    assert (plain.layers[0].verity, sealed.layers[0].verity) == (False, True)
    assert plain.layers[0].key != sealed.layers[0].key
    assert isinstance(sealed.kernel.source, DebianKernel)
    assert (sealed.kernel.source.contract, sealed.kernel.source.verity) == (2, True)
    assert spec_of(repository, "[busybox: {}], verity: false").digest == plain.digest


def test_a_layer_of_several_images_has_an_initrd_that_reads_a_list_of_trees(
    repository: Repository,
) -> None:
    image = f"registry.example.org/app@sha256:{'a' * 64}"
    for layers, contract in (
        (f"[oci: {{image: '{image}'}}], verity: true", 3),
        (f"[oci: {{image: '{image}'}}]", 2),
        ("[debian: {suite: bookworm}], verity: true", 3),
    ):
        source = spec_of(repository, layers).kernel.source
        assert isinstance(source, DebianKernel)
        assert (source.contract, source.verity) == (contract, contract == 3)


@pytest.mark.parametrize(
    ("layers", "spec", "problem"),
    [
        ("[busybox: {}], verity: true", "kernel: {path: /k/a, initrd: /k/b}", "verity: needs the"),
    ],
)  # fmt: skip
def test_what_it_cannot_be_had_with_is_refused(
    repository: Repository, layers: str, spec: str, problem: str
) -> None:
    with pytest.raises(ManifestErrors) as caught:
        spec_of(repository, layers, spec)
    assert problem in str(caught.value.problems[0])


def test_a_machine_has_the_root_of_each_layer_and_says_when_it_is_not_known(
    repository: Repository,
) -> None:
    spec = spec_of(repository, "[busybox: {}], verity: true")
    generation = replace(a_generation(), spec=spec)
    tree = f"2:{'a' * 64}"

    def trees(known: dict[LayerKey, str]) -> list[str]:
        facts = Observed({}, frozenset(), frozenset(), HostFacts(0, 0, None), hash_trees=known)
        machine = machine_of(generation, InstanceId("a-g1-x"), facts, "/state")
        return [layer.hash_tree for layer in machine.layers]

    assert trees({spec.layers[0].key: tree}) == [tree]
    assert trees({}) == [NO_TREE]
