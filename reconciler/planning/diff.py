"""What differs between two specs, field by field, and what each difference costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from reconciler.model.checks import CheckSpec
from reconciler.model.desired import VMSpec
from reconciler.model.image import DiskImage, NixRunner
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layer_kinds.seed_layer import SeedSource
from reconciler.model.layers import LayerSpec
from reconciler.model.machine import Tap, UserNetwork
from reconciler.model.plan import Effect, FieldChange, LayerPair
from reconciler.model.quantity import format_size

SHOWN = 80
"""Longest value shown, in characters."""

_SIMPLE: tuple[tuple[str, str, Effect], ...] = (
    ("hypervisor", "spec.hypervisor", "restart"),
    ("vcpu", "spec.vcpu", "restart"),
    ("group", "metadata.group", "in place"),
)


def differences(old: VMSpec, new: VMSpec) -> tuple[FieldChange, ...]:
    """Every field in which `new` differs from `old`, in the order of the manifest."""
    return tuple(_walk(old, new))


def _walk(old: VMSpec, new: VMSpec) -> Iterator[FieldChange]:
    for attribute, path, effect in _SIMPLE:
        yield from _changed(path, getattr(old, attribute), getattr(new, attribute), effect)
    place = "spec.disk" if isinstance(new.kernel.source, DiskImage) else "spec.store"
    yield from _changed(f"{place}.writable", old.writable, new.writable, "restart")
    yield from _changed(
        "metadata.movedFrom", old.moved_from or "none", new.moved_from or "none", "in place"
    )
    yield from _changed("metadata.labels", dict(old.labels), dict(new.labels), "in place")
    yield from _changed(
        "spec.memory", format_size(old.memory_mib), format_size(new.memory_mib), "restart"
    )
    if old.kernel.key != new.kernel.key:
        yield FieldChange(
            _booted(old, new), f"{old.kernel.name} {old.kernel.key[:8]}",
            f"{new.kernel.name} {new.kernel.key[:8]}", "rebuild",
        )  # fmt: skip
    yield from _kept_disk(old, new)
    yield from _layers(old.layers, new.layers)
    yield from _named(
        "spec.volumes",
        {v.name: f"{format_size(v.size_mib)} on {v.mount_point}" for v in old.volumes},
        {v.name: f"{format_size(v.size_mib)} on {v.mount_point}" for v in new.volumes},
        "restart",
    )
    yield from _networks(_interfaces(old), _interfaces(new))
    # A new generation is judged by its own checks from its first start.
    tried: Effect = "checks on trial" if old.digest == new.digest else "restart"
    yield from _checks(old.health.checks, new.health.checks, tried)
    asked = replace(new.health, checks=old.health.checks)
    yield from _fields("spec.health", old.health, asked, tried)
    yield from _fields("spec.update", old.update, new.update, "in place")
    yield from _fields("spec.rollback", old.rollback, new.rollback, "in place")
    yield from _fields("spec.restart", old.restart, new.restart, "in place")


def _kept_disk(old: VMSpec, new: VMSpec) -> Iterator[FieldChange]:
    """What a guest wrote to its disk belongs to one image, and is not seen above another."""
    before, after = old.kernel.source, new.kernel.source
    if not isinstance(before, DiskImage) or not isinstance(after, DiskImage):
        return
    one, other = before.file.sha256, after.file.sha256
    if one != other and old.root_volume is not None and old.root_volume == new.root_volume:
        yield FieldChange(
            f"spec.volumes[{new.root_volume.name}]",
            f"what was written above {one[:8]}, which is kept",
            f"what was written above {other[:8]}, at first nothing",
            "restart",
        )


def _booted(old: VMSpec, new: VMSpec) -> str:
    sources = (new.kernel.source, old.kernel.source)
    if any(isinstance(source, NixRunner) for source in sources):
        return "spec.runner"
    return "spec.disk" if any(isinstance(s, DiskImage) for s in sources) else "spec.kernel"


def _changed(path: str, old: object, new: object, effect: Effect) -> Iterator[FieldChange]:
    if old != new:
        yield FieldChange(path, _show(old), _show(new), effect)


def _layers(old: tuple[LayerSpec, ...], new: tuple[LayerSpec, ...]) -> Iterator[FieldChange]:
    for index in range(max(len(old), len(new))):
        before = old[index] if index < len(old) else None
        after = new[index] if index < len(new) else None
        if (before and before.key) != (after and after.key):
            seed = any(isinstance(one.source, SeedSource) for one in (before, after) if one)
            path = "spec.disk.cloudInit" if seed else f"spec.store.layers[{index}]"
            pair = _pair(before, after) if before and after else None
            yield FieldChange(path, _layer(before), _layer(after), "rebuild", pair)


def _pair(before: LayerSpec, after: LayerSpec) -> LayerPair | None:
    """Both, if they can be compared."""
    old, new = before.source, after.source
    if old.kind != new.kind:
        return None
    digests = ("", "")
    if isinstance(old, OciSource) and isinstance(new, OciSource):
        digests = (old.digest, new.digest)
    return LayerPair(new.kind, before.key, after.key, digests)


def _layer(layer: LayerSpec | None) -> str:
    return f"{layer.title} {layer.key[:8]}" if layer else "none"


def _interfaces(spec: VMSpec) -> dict[int, str]:
    """The interfaces as texts, by their index in the manifest."""
    return {place: _network(network) for place, network in spec.user_interfaces} | {
        tap.interface: _tap(tap) for tap in spec.taps
    }


def _networks(old: dict[int, str], new: dict[int, str]) -> Iterator[FieldChange]:
    for place in sorted(old.keys() | new.keys()):
        before, after = old.get(place, "none"), new.get(place, "none")
        yield from _changed(f"spec.interfaces[{place}]", before, after, "restart")


def _tap(tap: Tap) -> str:
    words = (f"tap {tap.name} on {tap.bridge}", tap.mac, tap.address, tap.gateway, *tap.nameservers)
    return " ".join(word for word in words if word)


def _network(network: UserNetwork) -> str:
    forwards = ",".join(f"{f.address}:{f.host}->{f.guest}/{f.protocol}" for f in network.forwards)
    return f"user {network.mac} {forwards}".rstrip()


def _named(
    path: str, old: dict[str, str], new: dict[str, str], effect: Effect
) -> Iterator[FieldChange]:
    for name in sorted(old.keys() | new.keys()):
        yield from _changed(f"{path}[{name}]", old.get(name, "none"), new.get(name, "none"), effect)


def _fields(path: str, old: object, new: object, effect: Effect) -> Iterator[FieldChange]:
    """Fields of a policy are compared one by one."""
    if old == new:
        return
    for name in type(old).__dataclass_fields__:  # type: ignore[attr-defined]  # both are dataclasses
        yield from _changed(
            f"{path}.{_camel(name)}", getattr(old, name), getattr(new, name), effect
        )


def _checks(
    old: tuple[CheckSpec, ...], new: tuple[CheckSpec, ...], effect: Effect
) -> Iterator[FieldChange]:
    for index in range(max(len(old), len(new))):
        before = _check(old[index]) if index < len(old) else "none"
        after = _check(new[index]) if index < len(new) else "none"
        yield from _changed(f"spec.health.checks[{index}]", before, after, effect)


def _check(check: CheckSpec) -> str:
    """The kind of a check and every field that is not the default: `http port 8080 path /healthz`."""
    parts: list[str] = [check.kind]
    for each in fields(check):
        value = getattr(check, each.name)
        if value != each.default:
            parts.append(f"{_camel(each.name)} {_show(value)}")
    return " ".join(parts)


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def _show(value: object) -> str:
    match value:
        case bool():
            text = str(value).lower()
        case float():  # all of them are durations
            text = f"{value:g}s"
        case dict():
            text = ", ".join(f"{key}={each}" for key, each in value.items()) or "none"
        case tuple():
            text = ", ".join(_show(each) for each in value) or "none"
        case _:
            text = "none" if value is None else str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
