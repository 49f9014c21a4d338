"""What changes inside of a layer is shown where it is known, and said to be unknown where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.explain.layer_changes import MOST_PLANNED, all_with_contents, with_contents
from reconciler.model.desired import VMSpec
from reconciler.model.image import StoredImage
from reconciler.model.image_contents import ExposedPort, LayerContents
from reconciler.model.layer_kinds.debian_layer import DebianSource
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layers import LayerSource, LayerSpec
from reconciler.model.names import VMName
from reconciler.planning.diff import differences
from tests.world import vm

OLD, NEW = (
    DebianSource("bookworm", ("nginx-light",)),
    DebianSource("bookworm", ("ed", "nginx-light")),
)
FIRST, SECOND = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
REPOSITORY = "registry.example.org/acme/app"


def spec(source: LayerSource) -> VMSpec:
    return replace(vm("web"), layers=(LayerSpec.of(source),))


def stored(known: Mapping[LayerSource, LayerContents]) -> dict[str, StoredImage]:
    keys = {LayerSpec.of(source).key: contents for source, contents in known.items()}
    return {key: StoredImage(key, "composed", "", 1, contents=of) for key, of in keys.items()}


def packages(**versions: str) -> LayerContents:
    return LayerContents(packages=versions)


def lines(
    old: LayerSource, new: LayerSource, known: Mapping[LayerSource, LayerContents]
) -> tuple[str, ...]:
    (change,) = with_contents(differences(spec(old), spec(new)), stored(known))
    return change.inside


def test_packages_are_compared_by_their_versions() -> None:
    known: dict[LayerSource, LayerContents] = {
        OLD: packages(nginx="1.22.1-9", geoip="2.1", libc6="2.36"),
        NEW: packages(nginx="1.22.1-10", ed="1.19", libc6="2.36"),
    }
    assert lines(OLD, NEW, known) == ("+ ed 1.19", "- geoip 2.1", "nginx 1.22.1-9 -> 1.22.1-10")
    assert lines(NEW, OLD, known) == ("- ed 1.19", "+ geoip 2.1", "nginx 1.22.1-10 -> 1.22.1-9")


def test_versions_of_a_layer_that_is_not_built_yet_are_known_after_the_build() -> None:
    assert lines(OLD, NEW, {OLD: packages(nginx="1")}) == ("packages: known after the build",)
    assert lines(OLD, NEW, {}) == ("packages: known after the build",)


def test_versions_of_a_layer_that_left_the_store_or_was_never_noted_are_not_invented() -> None:
    now = packages(nginx="1")
    assert lines(OLD, NEW, {NEW: now}) == (
        "packages before: not known any more, that layer left the store",
    )
    unnoted = "not noted when that layer was built"
    assert lines(OLD, NEW, {OLD: LayerContents(), NEW: now}) == (f"packages before: {unnoted}",)
    assert lines(OLD, NEW, {OLD: now, NEW: LayerContents()}) == (f"packages: {unnoted}",)


def test_a_refresh_that_found_nothing_newer_says_so() -> None:
    newer = DebianSource("bookworm", ("nginx-light",), refresh="2026-11-30")
    same = packages(nginx="1")
    assert lines(OLD, newer, {OLD: same, newer: same}) == ("packages: the same versions",)


def test_of_a_layout_the_digest_is_known_after_the_build() -> None:
    old, new = (OciSource("linux/amd64", layout="./app", tree=one * 40) for one in "ab")
    before = LayerContents(digest=FIRST, program="/app --old", exposed=(ExposedPort(80),))
    after = LayerContents(digest=SECOND, program="/app", exposed=(ExposedPort(8080),))
    assert lines(old, new, {old: before}) == (
        "digest: sha256:111111111111 -> known after the build",
    )
    assert lines(old, new, {old: before, new: after}) == (
        "digest: sha256:111111111111 -> sha256:222222222222",
        "program: /app --old -> /app",
        "exposed ports: 80/tcp -> 8080/tcp",
    )


def test_of_an_image_of_a_registry_the_manifest_says_the_digest() -> None:
    old, new = (OciSource("linux/amd64", REPOSITORY, one) for one in (FIRST, SECOND))
    assert lines(old, new, {}) == ("digest: sha256:111111111111 -> sha256:222222222222",)


def test_other_kinds_and_other_fields_have_nothing_inside() -> None:
    other = replace(spec(OLD), memory_mib=1024)
    changes = with_contents(
        differences(other, spec(OciSource("linux/amd64", REPOSITORY, FIRST))), {}
    )
    assert {change.path: change.inside for change in changes} == {
        "spec.memory": (), "spec.store.layers[0]": (),
    }  # fmt: skip


def test_a_plan_of_many_vms_has_few_lines_for_each_and_counts_the_others() -> None:
    many = {f"p{number:03}": "1" for number in range(300)}
    known = stored({OLD: LayerContents({"p000": "0"}), NEW: LayerContents(many)})
    changes = differences(spec(OLD), spec(NEW))
    found = all_with_contents({VMName("web"): changes, VMName("db"): changes}, known)
    assert found[VMName("web")] == found[VMName("db")]
    (change,) = found[VMName("web")]
    assert change.inside[0] == "p000 0 -> 1"
    assert (len(change.inside), change.inside[-1]) == (MOST_PLANNED + 1, "and 280 more")
