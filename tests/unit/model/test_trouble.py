"""Keys of what failed, and the form in which every ledger has them."""

from typing import get_args

import pytest

from reconciler.model.actions import STORE
from reconciler.model.names import VMName
from reconciler.model.trouble import COLLECTION, IMAGE, TroubleKey, TroubleKind, of_vm

KEY = "a1" * 32


def test_keys_are_stored_as_they_always_were() -> None:
    assert str(TroubleKey.of("create", "web")) == "create/web"
    assert str(TroubleKey.of("build-layer", KEY)) == str(TroubleKey.of("build-kernel", KEY)) == KEY
    assert str(TroubleKey.of("collect", STORE)) == str(COLLECTION) == "collect/store"
    assert {"trial/web", "candidate/web", "stop/web"} < {str(key) for key in of_vm(VMName("web"))}


@pytest.mark.parametrize("kind", get_args(TroubleKind))
def test_a_stored_key_is_read_back(kind: TroubleKind) -> None:
    key = TroubleKey(kind, KEY if kind == IMAGE else "web")
    assert TroubleKey.parse(str(key)) == key


def test_a_kind_of_another_version_is_kept_as_it_is_stored() -> None:
    assert str(TroubleKey.parse("fly/web")) == "fly/web"
