"""Actions describe themselves, in one vocabulary."""

from dataclasses import fields
from typing import get_args

import pytest

from reconciler.model.actions import (
    ACTION_OF,
    STORE,
    Action,
    ActionKind,
    BuildLayer,
    Collect,
    Disturbs,
    OutcomeKind,
    Phase,
    RemoveVM,
    Scope,
)
from reconciler.model.event import FAILED, FailureKind
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSpec
from reconciler.model.names import VMName

ACTIONS = get_args(Action)


def test_every_kind_has_one_action_and_every_action_one_kind() -> None:
    assert sorted(action.kind for action in ACTIONS) == sorted(get_args(ActionKind))
    assert set(ACTION_OF) == set(get_args(OutcomeKind))


def test_every_slow_action_has_an_event_for_its_failure() -> None:
    assert {kind: f"{kind}-failed" for kind in get_args(OutcomeKind)} == FAILED
    assert set(FAILED.values()) == set(get_args(FailureKind))


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_an_action_says_what_it_is(action: type[Action]) -> None:
    names = {field.name for field in fields(action)}
    assert "why" in names
    assert action.scope in get_args(Scope)
    assert ("vm" in names) == (action.scope == "vm")
    assert action.disturbs in get_args(Disturbs)
    assert action.phase in (None, *get_args(Phase))


def test_a_subject_names_the_vm_the_image_or_the_store() -> None:
    layer = LayerSpec.of(TreeSource("1a2b3c", "./web"), "erofs")
    assert RemoveVM(VMName("web"), "it left").subject == "web"
    assert BuildLayer(layer, "web wants it").subject == layer.key
    assert BuildLayer(layer, "web wants it").title == layer.title
    assert Collect(frozenset(), "garbage").subject == STORE
