"""What the inventory answers: true after each change, and at no cost where nothing changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.image.counted_dict import CountedDict
from reconciler.image.image_directory import ImageDirectory
from reconciler.image.inventory import Inventory
from reconciler.model.image import BuiltImage


def image(key: str) -> BuiltImage:
    return BuiltImage(key, 1, "0" * 64, 0.0, "", key, 1.0)


class Shelf:
    def __init__(self, folder: Path, count: int) -> None:
        self.directory = ImageDirectory(folder / "layers", ("image",))
        self.present: CountedDict[str, BuiltImage] = CountedDict(
            (str(number), image(str(number))) for number in range(count)
        )
        self.inventory = Inventory(
            folder,
            SystemClock(),
            lambda: (("layer", self.directory, self.present),),
            lambda _: None,
        )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path, 3)


CHANGES: dict[str, Callable[[Shelf], Any]] = {
    "a new one": lambda shelf: shelf.present.update({"new": image("new")}),
    "another of the same key": lambda shelf: shelf.present.update({"1": image("other")}),
    "one less": lambda shelf: shelf.present.pop("1"),
    "one that is gone": lambda shelf: shelf.present.__delitem__("1"),
    "a broken one": lambda shelf: shelf.directory.broken.update({"x": image("x")}),
    "one that is used": lambda shelf: shelf.inventory.used(frozenset({"1"})),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_shows_at_the_next_question(shelf: Shelf, change: Callable[[Shelf], Any]) -> None:
    shelf.inventory.used(frozenset({"2"}))
    before = shelf.inventory.stored()
    assert shelf.inventory.stored() is before
    change(shelf)
    after = shelf.inventory.stored()
    assert after != before
    assert shelf.inventory.stored() is after


WAYS: dict[str, Callable[[CountedDict[str, int]], Any]] = {
    "set": lambda them: them.__setitem__("a", 1),
    "or": lambda them: them.__ior__({"a": 1}),
    "del": lambda them: them.__delitem__("b"),
    "pop": lambda them: them.pop("b"),
    "popitem": lambda them: them.popitem(),
    "clear": lambda them: them.clear(),
    "update": lambda them: them.update(a=1),
    "setdefault": lambda them: them.setdefault("a", 1),
}


@pytest.mark.parametrize("change", WAYS.values(), ids=WAYS)
def test_each_way_to_change_it_counts(change: Callable[[CountedDict[str, int]], Any]) -> None:
    them = CountedDict({"b": 2})
    change(them)
    assert them != {"b": 2}
    assert them.changes > 0


def calls_of(work: Callable[[], object]) -> int:
    made: list[str] = []
    sys.setprofile(lambda _frame, event, _of: made.append(event))
    try:
        work()
    finally:
        sys.setprofile(None)
    return len(made)


def test_a_pass_over_many_images_that_did_not_change_costs_as_much_as_over_few(
    tmp_path: Path,
) -> None:
    found = []
    for count in (3, 3000):
        shelf = Shelf(tmp_path / str(count), count)
        shelf.inventory.stored()
        found.append(calls_of(shelf.inventory.stored))
    assert found[0] == found[1]
