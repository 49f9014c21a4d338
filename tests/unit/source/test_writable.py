"""`store.writable`: where a guest's writes to its root go."""

from __future__ import annotations

import pytest

from reconciler.config import PolicyConfig
from reconciler.errors import ManifestErrors
from reconciler.model.desired import VMSpec
from reconciler.model.image import DebianKernel
from reconciler.planning.diff import differences
from tests.unit.source.repositories import InProcess, Repository, vm

VOLUME = "volumes: [{name: root, size: 64MiB}]"
MOUNTED = "volumes: [{name: root, size: 64MiB, mountPoint: /data}]"


def spec_of(repository: Repository, writable: str = "", volumes: str = "") -> VMSpec:
    layers = f"[busybox: {{}}], writable: {writable}" if writable else "[busybox: {}]"
    (spec,) = (
        InProcess(repository).read({"a.yaml": vm("a", layers=layers, spec=volumes)}).vms.values()
    )
    return spec


def problem_of(repository: Repository, writable: str = "", volumes: str = "") -> str:
    with pytest.raises(ManifestErrors) as caught:
        spec_of(repository, writable, volumes)
    (problem,) = caught.value.problems
    return f"{problem.line}:{problem.col}: {problem.message} ({problem.hint})"


def test_by_default_writes_go_to_memory_and_the_digest_is_what_it_was(
    repository: Repository,
) -> None:
    default = spec_of(repository)
    assert default.writable == "tmpfs"
    assert "writable" not in default.restart_inputs()
    assert spec_of(repository, "tmpfs").digest == default.digest


def test_an_initrd_that_does_not_know_it_is_never_asked_for_it(repository: Repository) -> None:
    """A bundle of the first contract, which may be in the store for years, would boot with a tmpfs."""
    kernels = [
        spec_of(repository, *asked).kernel for asked in ((), ("none",), ("{volume: root}", VOLUME))
    ]
    assert [
        kernel.source.contract for kernel in kernels if isinstance(kernel.source, DebianKernel)
    ] == [1, 2, 2]
    assert kernels[0].key != kernels[1].key == kernels[2].key


def test_a_read_only_root_is_another_digest(repository: Repository) -> None:
    default, sealed = spec_of(repository), spec_of(repository, "none")
    assert (sealed.read_only_root, sealed.writable) == (True, "none")
    assert sealed.digest != default.digest
    (change,) = (one for one in differences(default, sealed) if one.path != "spec.kernel")
    assert (change.path, change.old, change.new, change.effect) == (
        "spec.store.writable", "tmpfs", "none", "restart",
    )  # fmt: skip


def test_a_volume_that_keeps_the_root_has_no_mount_point_of_its_own(repository: Repository) -> None:
    kept = spec_of(repository, "{volume: root}", VOLUME)
    assert [(v.name, v.mount_point) for v in kept.volumes] == [("root", "/")]
    assert kept.writable == "volume root"
    assert kept.digest != spec_of(repository, volumes=MOUNTED).digest


@pytest.mark.parametrize(
    ("writable", "volumes", "problem"),
    [
        ("disk", "", 'spec.store.writable: "disk" is not one of: tmpfs, none'),
        ("{volume: data}", MOUNTED, "spec.store.writable.volume: no volume is named data (the volumes are: root)"),
        ("{volume: data}", "", "(the volumes are: none)"),
        ("", VOLUME, "6:13: spec.volumes[0]: `mountPoint` is missing"),
        ("{volume: root}", MOUNTED, "spec.volumes[0].mountPoint: has no effect: store.writable has this volume"),
    ],
)  # fmt: skip
def test_a_root_that_no_volume_can_keep_is_refused(
    repository: Repository, writable: str, volumes: str, problem: str
) -> None:
    assert problem in problem_of(repository, writable, volumes)


def test_a_kernel_that_brings_its_own_initrd_has_a_root_of_its_own_kind(
    repository: Repository,
) -> None:
    spec = "kernel: {path: /k/vmlinuz, initrd: /k/initrd}"
    document = vm("a", layers="[busybox: {}], writable: none", spec=spec)
    with pytest.raises(ManifestErrors, match="needs the controller's own initrd"):
        InProcess(repository, PolicyConfig(host_paths=["/k"])).read({"a.yaml": document})
