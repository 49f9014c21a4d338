"""Values of the record as JSON and back."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from reconciler.errors import LedgerError
from reconciler.ledger.codec import Body, checksum, decode, encode, mended, sharing
from reconciler.model.change import Change, PutVM
from reconciler.model.checks import CheckSpec
from reconciler.model.desired import HealthPolicy
from reconciler.model.event import Event, EventKind
from reconciler.model.image import KernelSource
from reconciler.model.layers import LayerSource
from reconciler.model.record import (
    BuildTrouble,
    GroupRecord,
    Intent,
    SourceRecord,
    Suspension,
    VMRecord,
)
from tests.unit.ledger.ledger_samples import event, everything, vm_record

KINDS: list[type[Body]] = [
    VMRecord,
    GroupRecord,
    BuildTrouble,
    SourceRecord,
    Suspension,
    Event,
    Intent,
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_value_comes_back_exactly(kind: type[Body]) -> None:
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.from_type(kind))
    def comes_back(value: Body) -> None:
        # repr and not ==: it tells 1 from 1.0 and 0.0 from -0.0, and nan is equal to itself.
        assert repr(decode(kind, encode(value).encode())) == repr(value)

    comes_back()


def test_an_event_of_a_kind_that_another_version_knew_is_still_read() -> None:
    row = encode(Event("pinned", "web: kept", 1.0)).replace("pinned", "of-another-version")
    event = decode(Event, row.encode())
    assert (type(event), event.kind, event.message) == (Event, "of-another-version", "web: kept")


@settings(deadline=None)
@given(st.lists(st.one_of(*map(st.from_type, get_args(CheckSpec)))))
def test_checks_keep_their_kind(checks: list[CheckSpec]) -> None:
    record = vm_record("web", 1)
    (generation,) = record.generations
    health = HealthPolicy(tuple(checks))
    changed = record.with_generation(
        replace(generation, spec=replace(generation.spec, health=health))
    )
    back = decode(VMRecord, encode(changed).encode())
    assert repr(back.generations[0].spec.health.checks) == repr(tuple(checks))


@settings(deadline=None)
@given(
    st.one_of(*map(st.from_type, get_args(LayerSource))),
    st.one_of(*map(st.from_type, get_args(KernelSource))),
)
def test_sources_of_layers_and_kernels_keep_their_kind(
    source: LayerSource, kernel: KernelSource
) -> None:
    record = vm_record("web", 1)
    (generation,) = record.generations
    spec = generation.spec
    layers = tuple(replace(layer, source=source) for layer in spec.layers)
    spec = replace(spec, layers=layers, kernel=replace(spec.kernel, source=kernel))
    changed = record.with_generation(replace(generation, spec=spec))
    assert repr(decode(VMRecord, encode(changed).encode())) == repr(changed)


def test_the_samples_have_each_kind_of_thing_that_is_stored() -> None:
    """So that what is shown with them is shown of a new kind too: add it to `ledger_samples.py`."""
    changes = everything()
    vms = [change.vm for change in changes if isinstance(change, PutVM)]
    specs = [generation.spec for vm in vms for generation in vm.generations]
    assert {type(check) for one in specs for check in one.health.checks} == set(get_args(CheckSpec))
    assert {type(layer.source) for one in specs for layer in one.layers} == set(
        get_args(LayerSource)
    )
    assert {type(one.kernel.source) for one in specs} == set(get_args(KernelSource))
    puts = {change for change in get_args(Change) if change.__name__.startswith(("Put", "Add"))}
    assert {type(change) for change in changes} == puts


@pytest.mark.parametrize("kind", get_args(EventKind))
def test_an_event_of_every_kind_comes_back(kind: EventKind) -> None:
    told = event("something happened", kind)
    assert decode(Event, encode(told).encode()) == told


def test_a_deadline_that_never_comes_is_still_infinite() -> None:
    back = decode(VMRecord, encode(vm_record("web")).encode())
    assert back.start is not None
    assert back.start.deadline.boot == float("inf")


def test_bytes_that_are_no_text_become_question_marks_and_nothing_else_changes() -> None:
    broken = Suspension(1.5, "disk \udcff says\ud800 naïve")
    with pytest.raises(UnicodeError):
        encode(broken)
    assert mended(broken) == Suspension(1.5, "disk ? says? naïve")
    assert mended(vm_record("web")) == vm_record("web")


def test_a_value_of_another_form_is_an_error_with_its_place() -> None:
    with pytest.raises(LedgerError, match=r"Suspension.*since_wall") as caught:
        decode(Suspension, b'[{"since_wall": "yesterday", "reason": ""}]')
    assert caught.value.hint


def test_a_field_that_an_older_version_did_not_write_has_its_default() -> None:
    assert decode(Suspension, b'[{"since_wall": 1.0}]') == Suspension(1.0)


def test_a_row_cannot_pass_for_another() -> None:
    sums = {
        checksum("vms", "web", b"x"),
        checksum("vms", "db", b"x"),
        checksum("groups", "web", b"x"),
    }
    assert len(sums) == 3
    assert checksum("vms", "web", b"x") == checksum("vms", "web", b"x")


def test_equal_parts_of_records_become_one_object() -> None:
    share = sharing()
    first, second = (
        share(decode(VMRecord, encode(vm_record(name)).encode())) for name in ("web", "db")
    )
    assert first == vm_record("web")
    assert second == vm_record("db")
    one, other = first.generations[0].spec, second.generations[0].spec
    assert one.kernel is other.kernel
    assert one.health is other.health
    assert one.layers[0] is other.layers[0]
    assert one.layers[1] is not other.layers[1]
