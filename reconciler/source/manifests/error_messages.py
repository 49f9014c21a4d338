"""Turns pydantic's errors into messages with a remedy, at the field's place in the file."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from reconciler.errors import did_you_mean
from reconciler.model.fields import FORMS
from reconciler.model.manifest import UNION_TAGS
from reconciler.source.manifests.places import Fault, Loc, Places, shortened

KEY_MARK = "[key]"
QUOTED = re.compile(r"'([^']*)'")
TYPES = {
    "string_type": ("is not a text", "quote it"),
    "int_type": ("is not a whole number", "write it without quotes or a fraction"),
    "int_from_float": ("is not a whole number", "write it without a fraction"),
    "bool_type": ("is neither true nor false", "write true or false"),
    "list_type": ("is not a list", "write [...] or lines that begin with `- `"),
    "model_type": ("is not a mapping", "write {...} or indented fields"),
    "dict_type": ("is not a mapping", "write {...} or indented fields"),
}


def explain(error: ValidationError, model: type[BaseModel], places: Places) -> Iterator[Fault]:
    """The faults of one document, with line and column."""
    for detail in error.errors(include_url=False):
        loc = tuple(part for part in detail["loc"] if part not in UNION_TAGS)
        match detail["type"]:
            case "faults":
                for fault in detail["ctx"]["faults"]:
                    at = (*loc, *fault.at)
                    place = places.value(at)
                    yield Fault(*place, sentence(at, fault.message), fault.hint)
            case "extra_forbidden":
                hint = nearest(str(loc[-1]), fields_at(model, loc[:-1]))
                yield Fault(*places.key(loc), f"{dotted(loc)}: unknown field", hint)
            case "missing":
                yield Fault(*places.key(loc[:-1]), f"{dotted(loc)} is missing", "add it")
            case _:
                yield _about_a_value(detail, loc, places)


def _about_a_value(detail: ErrorDetails, loc: Loc, places: Places) -> Fault:
    place = places.value(loc)
    if loc and loc[-1] == KEY_MARK:
        loc = loc[:-1]
        place = places.key(loc)
    words, hint = _words(detail)
    return Fault(*place, f"{dotted(loc)}: {shown(detail['input'])} {words}", hint)


def _words(detail: ErrorDetails) -> tuple[str, str]:
    context = detail.get("ctx", {})
    kind = detail["type"]
    if kind in TYPES:
        return TYPES[kind]
    match kind:
        case "quantity":
            return context["says"], context["hint"]
        case "literal_error":
            known = QUOTED.findall(context["expected"])
            return f"is not one of: {', '.join(known)}", nearest(str(detail["input"]), known)
        case "string_pattern_mismatch":
            return _of_a_pattern(detail["input"], context["pattern"])
        case "string_too_long":
            return "is too long", f"{context['max_length']} characters at most"
        case "greater_than_equal":
            return "is too small", f"{context['ge']} or more"
        case "less_than_equal":
            return "is too large", f"{context['le']} or less"
        case "too_short":
            return "has too few entries", f"{context['min_length']} or more"
        case "too_long":
            return "has too many entries", f"{context['max_length']} at most"
        case _:
            return "is not accepted", shortened(detail["msg"])


def _of_a_pattern(value: object, pattern: str) -> tuple[str, str]:
    form = FORMS.get(pattern)
    if form is None:
        return "is not well formed", f"it must match {pattern}"
    if form.most and isinstance(value, str) and len(value) > form.most:
        return f"is too long: {len(value)} characters", f"{form.most} at most"
    return "is not well formed", form.hint


def nearest(name: str, known: list[str]) -> str:
    """A hint for an unknown name: the most similar known one, or else all of them."""
    return did_you_mean(name, known, f"known: {', '.join(known)}" if known else "remove it")


def sentence(loc: Loc, message: str) -> str:
    """`spec.memory is ...`, or `spec.volumes[1].name: data is also ...`."""
    return f"{dotted(loc)}{' ' if message.startswith('is ') else ': '}{message}"


def dotted(loc: Loc) -> str:
    """`spec.health.checks[0].http.port`."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{shortened(part)}" if text else shortened(part)
    return text or "document"


def shown(value: object) -> str:
    """A value from a manifest, shortened and made printable for a message."""
    match value:
        case str():
            return f'"{shortened(value)}"'
        case bool() | None:
            return str(value).lower() if value is not None else "nothing"
        case Mapping():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return shortened(str(value))


def fields_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """Names of the fields that the model has at a place."""
    kind: Any = model
    for part in loc:
        kind = _child(kind, part)
        if kind is None:
            return []
    found = _model_of(kind)
    return [f.alias or name for name, f in found.model_fields.items()] if found else []


def _child(kind: Any, part: str | int) -> Any:
    if isinstance(part, int):
        lists = [k for k in _branches(kind) if get_origin(k) is list]
        return get_args(lists[0])[0] if lists else None
    found = _model_of(kind)
    if found is None:
        return None
    fields = {f.alias or name: f.annotation for name, f in found.model_fields.items()}
    return fields.get(part)


def _model_of(kind: Any) -> type[BaseModel] | None:
    for branch in _branches(kind):
        if isinstance(branch, type) and issubclass(branch, BaseModel):
            return branch
    return None


def _branches(kind: Any) -> Iterator[Any]:
    origin = get_origin(kind)
    if origin is Annotated:
        yield from _branches(get_args(kind)[0])
    elif origin in (Union, types.UnionType):
        for branch in get_args(kind):
            yield from _branches(branch)
    else:
        yield kind
