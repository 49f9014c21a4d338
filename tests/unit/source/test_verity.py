"""`store.verity` in a manifest: what it changes, and what it is refused beside."""

from __future__ import annotations

import pytest

from reconciler.config import PolicyConfig
from reconciler.errors import ManifestErrors
from reconciler.model.desired import VMSpec
from reconciler.model.image import DebianKernel
from tests.unit.source.repositories import InProcess, Repository, vm


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


@pytest.mark.parametrize(
    ("layers", "spec", "problem"),
    [
        ("[debian: {suite: bookworm}], verity: true", "", "layers[0].debian is composed of several"),
        ("[busybox: {}], verity: true", "kernel: {path: /k/a, initrd: /k/b}", "verity: needs the"),
    ],
)  # fmt: skip
def test_what_it_cannot_be_had_with_is_refused(
    repository: Repository, layers: str, spec: str, problem: str
) -> None:
    with pytest.raises(ManifestErrors) as caught:
        spec_of(repository, layers, spec)
    assert problem in str(caught.value.problems[0])
