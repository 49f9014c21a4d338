"""VMs that boot a disk: what the host allows, what may stand beside it, and when it is a new generation."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.config import PolicyConfig
from reconciler.errors import ManifestErrors
from reconciler.model.desired import VMSpec
from reconciler.model.image import DiskImage
from reconciler.model.layer_kinds.image_layer import ImageSource
from reconciler.model.layer_kinds.seed_layer import SeedSource
from reconciler.model.machine import Mount
from reconciler.planning.diff import differences
from tests.unit.source.repositories import InProcess, Repository

ALLOWED = PolicyConfig(host_paths=["/srv/images"], bridges=["br0"])
SHA = "ab" * 32
USER = '"#cloud-config\\n"'


def vm(disk: str = "", beside: str = "", **fields: str) -> str:
    given = {"path": "/srv/images/app.qcow2", "sha256": SHA, "format": "qcow2", **fields}
    words = ", ".join(f"{name}: {value}" for name, value in given.items())
    spec = f"{{memory: 512MiB, disk: {{{words}{disk}}}{beside}}}"
    return f"apiVersion: reconciler/v1\nkind: MicroVM\nmetadata: {{name: app}}\nspec: {spec}\n"


@pytest.fixture
def resolve(repository: Repository) -> Any:
    async def of(text: str, policy: PolicyConfig = ALLOWED) -> VMSpec:
        (spec,) = InProcess(repository, policy).read({"app.yaml": text}).vms.values()
        return spec

    return of


async def problem(resolve: Any, text: str, policy: PolicyConfig = ALLOWED) -> str:
    with pytest.raises(ManifestErrors) as caught:
        await resolve(text, policy)
    (found,) = caught.value.problems
    return str(found)


async def test_a_disk_is_booted_and_its_seed_is_a_layer(resolve: Any) -> None:
    bare = await resolve(vm(firmware="uefi"))
    assert bare.kernel.source == DiskImage(
        ImageSource(SHA, "/srv/images/app.qcow2"), "qcow2", "uefi"
    )
    assert bare.kernel.title == "disk /srv/images/app.qcow2"
    assert bare.image_keys == (bare.kernel.key,)
    seeded = await resolve(vm(f", cloudInit: {{userData: {USER}}}"))
    assert [layer.title for layer in seeded.layers] == ["cloud-init's seed"]
    assert seeded.driver == "qemu"


async def test_a_host_that_says_nothing_allows_no_disk(resolve: Any) -> None:
    assert await problem(resolve, vm(), PolicyConfig()) == (
        "app.yaml:4:37: spec.disk.path: /srv/images/app.qcow2 is not below a host path that the policy"
        " allows (policy.host_paths allows: none)"
    )


@pytest.mark.parametrize(
    "path", ["/srv/images/../shadow", "/srv/imagesx/a", "/srv/images", "/srv/images//a"]
)
async def test_a_path_that_leads_elsewhere_is_refused(resolve: Any, path: str) -> None:
    assert "spec.disk.path" in await problem(resolve, vm(path=path))


DATA = "{name: data, mountPoint: /srv/data, size: 64MiB}"


async def test_a_disk_is_downloaded_where_the_host_allows_the_server(resolve: Any) -> None:
    there = "https://images.example.org/app.raw"
    text = vm().replace("path: /srv/images/app.qcow2", f"url: {there}")
    assert "spec.disk.url" in await problem(resolve, text)
    policy = PolicyConfig(image_urls=["https://images.example.org/*"])
    spec = await resolve(text, policy)
    assert spec.kernel.source.file == ImageSource(SHA, url=there)
    assert spec.kernel.title == f"disk {there}"
    assert "exactly one of path, url" in await problem(resolve, vm(f", url: {there}"), policy)


TAP = "{type: tap, bridge: br0, address: 10.20.0.5/24"


@pytest.mark.parametrize(
    ("beside", "place"),
    [
        (", kernel: debian", "spec.kernel: has no effect"),
        (", store: {layers: [{busybox: {}}]}", "spec.store: has no effect"),
        (
            f", volumes: [{DATA}]",
            "spec.volumes: nothing mounts a volume in the guest of a disk without cloudInit",
        ),
        (f", interfaces: [{TAP}}}]", "spec.interfaces[0].address: nothing gives"),
    ],
)
async def test_what_has_no_effect_on_a_disk_is_refused_at_its_place(
    resolve: Any, beside: str, place: str
) -> None:
    assert place in await problem(resolve, vm(beside=beside))


async def test_a_tap_has_its_address_where_cloud_init_gives_it(resolve: Any) -> None:
    given = f', cloudInit: {{userData: {USER}, networkConfig: "version: 2"}}'
    spec = await resolve(vm(given, f", interfaces: [{TAP}}}]"))
    assert spec.taps[0].ip == "10.20.0.5"
    away = await problem(resolve, vm(given, f", interfaces: [{TAP}, gateway: 10.20.0.1}}]"))
    assert "spec.interfaces[0].gateway: has no effect on the guest of a disk" in away


async def test_a_volume_is_mounted_by_cloud_init_by_the_serial_of_its_disk(resolve: Any) -> None:
    spec = await resolve(vm(f", cloudInit: {{userData: {USER}}}", f", volumes: [{DATA}]"))
    source = spec.layers[0].source
    assert isinstance(source, SeedSource)
    assert source.mounts == (Mount("vol-data", "/srv/data", "ext4"),)
    assert not spec.handed_over


KEPT = ", writable: {volume: root}"
ROOT_VOLUME = "{name: root, size: 4GiB}"


async def test_a_volume_may_keep_what_is_written_to_the_disk_and_nothing_mounts_it(
    resolve: Any,
) -> None:
    spec = await resolve(vm(KEPT, f", volumes: [{ROOT_VOLUME}]"))
    assert spec.writable == "volume root"
    assert not spec.handed_over
    seeded = f"{KEPT}, cloudInit: {{userData: {USER}}}"
    both = await resolve(vm(seeded, f", volumes: [{ROOT_VOLUME}, {DATA}]"))
    source = both.layers[0].source
    assert isinstance(source, SeedSource)
    assert source.mounts == (Mount("vol-data", "/srv/data", "ext4"),)
    assert (await resolve(vm())).writable == "temporary"
    assert (await resolve(vm(", writable: temporary"))).digest == (await resolve(vm())).digest


@pytest.mark.parametrize(
    ("disk", "volumes", "said"),
    [
        (KEPT, "", "spec.disk.writable.volume: no volume is named root (the volumes are: none)"),
        (KEPT, ROOT_VOLUME.replace("size", "mountPoint: /, size"), "mountPoint"),
        (KEPT, f"{ROOT_VOLUME}, {DATA}", "spec.volumes: nothing mounts a volume"),
        ("", ROOT_VOLUME, "`writable: {volume: root}` in `disk`"),
        (", writable: tmpfs", "", "spec.disk.writable"),
    ],
)
async def test_a_disk_cannot_be_written_where_nothing_is(
    resolve: Any, disk: str, volumes: str, said: str
) -> None:
    text = vm(disk, f", volumes: [{volumes}]" if volumes else "")
    with pytest.raises(ManifestErrors) as caught:
        await resolve(text)
    assert said in "\n".join(map(str, caught.value.problems))


async def test_two_guests_are_never_given_one_kept_disk(resolve: Any) -> None:
    beside = f", volumes: [{ROOT_VOLUME}], update: {{strategy: handover}}"
    assert "two writers would destroy them" in await problem(resolve, vm(KEPT, beside))


async def test_another_image_shows_in_the_plan_that_its_disk_begins_with_nothing(
    resolve: Any,
) -> None:
    beside = f", volumes: [{ROOT_VOLUME}]"
    first = await resolve(vm(KEPT, beside))
    changes = differences(first, await resolve(vm(KEPT, beside, sha256="cd" * 32)))
    assert [change.path for change in changes] == ["spec.disk", "spec.volumes[root]"]
    assert (changes[1].old, changes[1].new) == (
        "what was written above abababab, which is kept",
        "what was written above cdcdcdcd, at first nothing",
    )
    firmware = differences(first, await resolve(vm(KEPT, beside, firmware="uefi")))
    assert [change.path for change in firmware] == ["spec.disk"]
    thrown_away = differences(first, await resolve(vm()))
    assert "spec.disk.writable" in [change.path for change in thrown_away]


async def test_a_text_that_cloud_init_ignores_is_refused(resolve: Any) -> None:
    found = await problem(resolve, vm(", cloudInit: {userData: 'packages: [nginx]'}"))
    assert "spec.disk.cloudInit.userData" in found
    assert "is nothing that cloud-init acts on (begin it with #cloud-config or #!)" in found


async def test_another_file_firmware_or_text_is_a_new_generation_and_a_moved_file_is_not(
    resolve: Any,
) -> None:
    first = await resolve(vm(f", cloudInit: {{userData: {USER}}}"))
    moved = vm(f", cloudInit: {{userData: {USER}}}", path="/srv/images/b.qcow2")
    assert (await resolve(moved)).digest == first.digest
    changed = {
        "spec.disk": vm(f", cloudInit: {{userData: {USER}}}", sha256="cd" * 32),
        "spec.disk ": vm(f", cloudInit: {{userData: {USER}}}", firmware="uefi"),
        "spec.disk.cloudInit": vm(', cloudInit: {userData: "#!/bin/sh"}'),
    }
    for path, text in changed.items():
        new = await resolve(text)
        assert new.digest != first.digest
        assert [change.path for change in differences(first, new)] == [path.strip()]


async def test_a_spec_has_one_thing_to_boot(resolve: Any) -> None:
    spec = "spec: {}\n"
    text = f"apiVersion: reconciler/v1\nkind: MicroVM\nmetadata: {{name: app}}\n{spec}"
    assert "write `store`, `disk`" in await problem(resolve, text)
    beside = ', runner: {flake: "./web", attribute: a}'
    assert "spec.disk: has no effect beside a runner" in await problem(resolve, vm(beside=beside))
