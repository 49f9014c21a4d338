"""One file's errors, as people read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model.desired import GroupSpec, UpdateWindow
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.machine import ANY_ADDRESS
from reconciler.model.names import GroupName, VMName
from reconciler.source.manifests.convert import GroupDraft, VMDraft, derived_mac
from reconciler.source.manifests.parse import parse_file
from tests.unit.source.repositories import forwarded, group, vm

pytestmark = pytest.mark.shows(fault=120)

GOLDEN = Path(__file__).with_name("golden")


def told(content: str) -> list[str]:
    parsed = parse_file(content.encode())
    assert not parsed.faults or not parsed.drafts
    return [
        f"{f.line}:{f.col}: {f.message} ({f.hint})"
        for f in sorted(parsed.faults, key=lambda f: (f.line, f.col))
    ]


@pytest.mark.shows(row=38)
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_errors_read_as_they_did(path: Path) -> None:
    assert told(path.read_text()) == path.with_suffix(".errors").read_text().splitlines()


def test_a_whole_manifest_becomes_a_draft() -> None:
    content = vm(
        spec="memory: 1GiB\nvcpu: 2\n" + forwarded(8080, ANY_ADDRESS) + "\n"
        "health: {checks: [{http: {port: 8080, path: /ok, status: 204}}, {process: {}}]}\n",
        layers="[busybox: {}, tree: ./web]",
        group="front",
    ) + "---\n" + group("front", '{maxUnavailable: "25%", canary: [web]}')  # fmt: skip
    first, second = parse_file(content.encode()).drafts
    assert isinstance(first, VMDraft)
    assert isinstance(second, GroupDraft)
    assert (first.spec.memory_mib, first.spec.vcpu) == (1024, 2)
    assert first.layers == (BusyboxSource(), TreeSource("", "./web"))
    assert first.spec.networks[0].mac == derived_mac("web", 0)
    check = first.spec.health.checks[0]
    assert (check.host, check.status) == ("127.0.0.1", (204, 204))  # type: ignore[union-attr]
    assert second.max_unavailable.of(9) == 2  # type: ignore[union-attr]
    assert second.max_unavailable.of(1) == 1  # type: ignore[union-attr]


def test_a_whole_group_becomes_a_draft() -> None:
    content = group(
        "front",
        "{canary: [a, b], canarySoak: 10m, onFailure: continue, maxFailures: 2,"
        " progressDeadline: 1h, approval: manual, windows: ["
        '{allow: {cron: "0 2 * * *", duration: 2h, timeZone: Europe/Berlin}},'
        ' {deny: {cron: "0 0 * * FRI", duration: 72h}}]}',
    )
    (draft,) = parse_file(content.encode()).drafts
    assert isinstance(draft, GroupDraft)
    assert draft.spec == GroupSpec(
        GroupName("front"),
        canary=(VMName("a"), VMName("b")),
        canary_soak=600.0,
        on_failure="continue",
        max_failures=2,
        progress_deadline=3600.0,
        windows=(
            UpdateWindow("0 2 * * *", 7200.0, "Europe/Berlin"),
            UpdateWindow("0 0 * * FRI", 259_200.0, allow=False),
        ),
        approval="manual",
    )


def test_a_group_that_says_nothing_has_the_defaults() -> None:
    (draft,) = parse_file(group("g").encode()).drafts
    assert isinstance(draft, GroupDraft)
    assert (draft.spec, draft.max_unavailable) == (GroupSpec(GroupName("g")), 1)


def test_keeping_the_volumes_of_before_restarts_nothing() -> None:
    plain, keeping = (
        parse_file(vm(spec=spec).encode()).drafts[0]
        for spec in ("", "update: {snapshotVolumes: true}")
    )
    assert isinstance(plain, VMDraft)
    assert isinstance(keeping, VMDraft)
    assert keeping.spec.update.snapshot_volumes
    assert keeping.spec.restart_inputs() == plain.spec.restart_inputs()


def test_defaults_are_those_of_the_design() -> None:
    (draft,) = parse_file(vm().encode()).drafts
    assert isinstance(draft, VMDraft)
    spec = draft.spec
    assert (spec.vcpu, spec.memory_mib, spec.format, draft.kernel) == (1, 256, "erofs", None)
    assert draft.store_format is None
    health = spec.health
    assert (health.startup_deadline, health.min_healthy_time) == (300.0, 10.0)
    assert (health.period, health.failure_threshold) == (10.0, 3)
    assert (spec.update.stop_timeout, spec.rollback.data_epoch) == (60.0, 1)


@pytest.mark.shows(row=32)
def test_huge_values_are_never_echoed() -> None:
    # A longer key is no YAML.
    lines = told(vm("x" * 5000, spec=f"memory: {'9' * 5000}MiB\n{'k' * 1000}: 1"))
    assert len(lines) == 3
    assert max(map(len, lines)) < 250


def test_a_guests_own_yaml_does_not_claim_to_be_a_manifest() -> None:
    assert not parse_file(b"server: {port: 80}\n").is_manifest
    assert not parse_file(b"a: [\n").is_manifest
    assert parse_file(b"apiVersion: reconciler/v1\nkind: Nothing\n").is_manifest


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (vm("a" * 41), "metadata.name: "),
        (vm("a", group="g" * 41), "metadata.group: "),
        (vm("a", moved_from="m" * 41), "metadata.movedFrom: "),
        (vm("a", spec=f"update: {{after: [{'b' * 41}]}}"), "spec.update.after[0]: "),
        (group("g", f"{{canary: [{'c' * 41}]}}"), "spec.canary[0]: "),
    ],
)
def test_a_name_that_is_too_long_says_how_long_it_may_be(content: str, says: str) -> None:
    (problem,) = told(content)
    assert says in problem
    assert problem.endswith("is too long: 41 characters (40 at most)")


def test_names_of_volumes_and_interfaces_say_their_own_limits() -> None:
    long = vm(
        spec=f"volumes: [{{name: {'v' * 17}, mountPoint: /v, size: 1GiB}}]\n"
        f"interfaces: [{{type: tap, bridge: {'b' * 16}}}]"
    )
    volume, bridge = told(long)
    assert volume.endswith("is too long: 17 characters (16 at most)")
    assert bridge.endswith("is too long: 16 characters (15 at most)")
