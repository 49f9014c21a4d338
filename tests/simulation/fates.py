"""What becomes of a guest is written in the name of its content."""

from __future__ import annotations

from reconciler.model.machine import Machine
from reconciler.model.names import LayerKey, digest_of
from tests.simulation.naming import OTHER_NAMES
from tests.world import vm

NAMES = ("db", "web-a", "web-b", "web-c", "job")
BAD_CONTENT = ("bad", "sick", "exits", "panics")


def composed(key: LayerKey) -> tuple[LayerKey, ...]:
    """Each second layer has two parts: one that all of these share, and its own."""
    own = LayerKey(digest_of({"part": key}))
    return (LayerKey("b" * 64), own) if int(key[0], 16) % 2 else ()


def fate_of(machine: Machine) -> str:
    """That of its topmost layer that is not good."""
    fates = (FATES.get(layer.path, "good") for layer in reversed(machine.layers))
    return next((fate for fate in fates if fate != "good"), "good")


FATES: dict[str, str] = {}


def register(key: LayerKey, kind: str) -> None:
    """What becomes of guests with this layer, or with the part of it that is its own."""
    for one in (key, *composed(key)[1:]):
        FATES[f"/state/layers/{one}/image"] = kind


def _register() -> None:
    for name in (*NAMES, *OTHER_NAMES):
        for kind in BAD_CONTENT:
            for commit in range(60):
                layer = vm(name, f"{kind}{commit}").layers[-1]
                register(layer.key, kind)


_register()
