"""Plain JSON from frozen values and back: one serializer for the daemon and its command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from reconciler.now import in_utc

T = TypeVar("T")


def plain(value: object) -> Any:
    """The same data as JSON knows it: dataclasses and mappings become objects, sets sorted lists.

    Beside each `wall` or `X_wall`, in Unix seconds, stands `time` or `X_time`, as RFC 3339 has it.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted(plain(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        found = {item.name: plain(getattr(value, item.name)) for item in fields(value)}
        for name, alias in _times_of(type(value)):
            found[alias] = rfc3339(found[name]) if found[name] else None  # 0 stands for never
        return found
    raise TypeError(f"{type(value).__name__} has no plain form")


@lru_cache(maxsize=128)
def _times_of(shape: type) -> tuple[tuple[str, str], ...]:
    """Names of the fields that are moments, and of the texts beside them."""
    names = [item.name for item in fields(shape)]
    return tuple((n, f"{n.removesuffix('wall')}time") for n in names if n.split("_")[-1] == "wall")


@lru_cache(maxsize=4096)
def rfc3339(wall: float) -> str:
    """Unix seconds as `2026-07-21T06:00:00.125Z`."""
    when = in_utc(wall)
    return f"{when.year:04}-{when:%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z"


def encode(value: object, *, indent: int | None = None) -> str:
    """JSON with sorted keys, in ASCII: no control character survives unescaped."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(
        plain(value), sort_keys=True, indent=indent, separators=separators, allow_nan=False
    )


def revive(shape: type[T], data: object) -> T:
    """The value of this shape that `plain` made the data of.

    Unknown keys are ignored and missing ones take their defaults, so that a command line and a
    daemon of neighbouring versions understand each other. Raises ValueError.
    """
    revived: T = _revive(shape, data, shape.__name__)
    return revived


def _revive(shape: Any, data: Any, place: str) -> Any:
    if isinstance(shape, NewType):
        return _revive(shape.__supertype__, data, place)
    if is_dataclass(shape):
        return _revive_dataclass(shape, data, place)
    origin, arguments = get_origin(shape), get_args(shape)
    if origin in (Union, UnionType):
        return _revive_optional(arguments, data, place)
    if origin is Literal:
        # A newer daemon may know more words than we do; they are for showing only.
        return _checked(str, data, place)
    if origin is tuple:
        return _revive_tuple(arguments, data, place)
    if origin is not None and issubclass(origin, Mapping):
        return {
            key: _revive(arguments[1], item, f"{place}.{key}")
            for key, item in _checked(dict, data, place).items()
        }
    return float(data) if shape is float and isinstance(data, int) else _checked(shape, data, place)


def _revive_dataclass(shape: Any, data: Any, place: str) -> Any:
    _checked(dict, data, place)
    found: dict[str, Any] = {}
    for name, (hint, item) in _fields_of(shape).items():
        if name in data:
            found[name] = _revive(hint, data[name], f"{place}.{name}")
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{place}.{name} is missing")
    return shape(**found)


@lru_cache(maxsize=64)
def _fields_of(shape: Any) -> dict[str, tuple[Any, Field[Any]]]:
    hints = get_type_hints(shape)
    return {item.name: (hints[item.name], item) for item in fields(shape) if item.init}


def _revive_optional(choices: tuple[Any, ...], data: Any, place: str) -> Any:
    if data is None and NoneType in choices:
        return None
    first = next(choice for choice in choices if choice is not NoneType)
    return _revive(first, data, place)


def _revive_tuple(parts: tuple[Any, ...], data: Any, place: str) -> tuple[Any, ...]:
    items = _checked(list, data, place)
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(items)
    if len(parts) != len(items):
        raise ValueError(f"{place} has {len(items)} items instead of {len(parts)}")
    return tuple(
        _revive(part, item, f"{place}[{index}]")
        for index, (part, item) in enumerate(zip(parts, items, strict=True))
    )


def _checked(shape: type, data: Any, place: str) -> Any:
    if not isinstance(data, shape) or (isinstance(data, bool) and shape is not bool):
        raise ValueError(f"{place} is not of type {shape.__name__}")
    return data
