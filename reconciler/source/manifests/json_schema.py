"""Generates the JSON schema for editors and the reference in Markdown, both from the models.

`python -m reconciler.source.manifests.json_schema --write [ROOT]` writes `manifests/schema.json` and
`docs/manifest.md`; a test fails when they are stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from reconciler.model import manifest

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_PATH, REFERENCE_PATH = Path("manifests/schema.json"), Path("docs/manifest.md")
TITLES = {
    "Metadata": "metadata", "GroupMetadata": "metadata", "Spec": "spec", "GroupPolicy": "spec",
}  # fmt: skip

OPENING = """# Manifests

Generated from the models in `reconciler/model/` (`manifest.py`, `groups.py`, `nix_runner.py`) by
`python -m reconciler.source.manifests.json_schema --write`.

Every `*.yaml` and `*.yml` below the configured folder of the repository contains manifests; a file
may hold several documents. Three kinds of files are skipped: those in a folder that a layer or a
runner names, which belong to the guest; files and folders whose name begins with a dot, such as
`.github` and `.gitlab-ci.yml` (a manifest in one is an error); and those that `.reconcilerignore`
names. That file is at the top of the configured folder, has the syntax of `.gitignore` and at most
100 lines. One invalid document rejects the whole commit, and nothing changes. With
`# yaml-language-server: $schema=schema.json` as the first line, editors check while you type.

YAML follows version 1.2: `no` and `12:30` are strings. Tags, merge keys, duplicate keys, byte order
marks and numbers such as `0123`, `.inf` and `1e999` are refused. Durations are `500ms`, `90s`, `5m`
or `1h` (24h at most, unless stated), sizes `256MiB` or `1GiB`.
"""


def manifest_schema() -> dict[str, Any]:
    """One JSON schema that covers every kind of document."""
    definitions: dict[str, Any] = {}
    for name, kind in manifest.KINDS.items():
        made = kind.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
        definitions |= made.pop("$defs", {})
        definitions[name] = made
    for model in models():
        describe(model, definitions[model.__name__])
    kinds: list[dict[str, str]] = [{"$ref": f"#/$defs/{name}"} for name in manifest.KINDS]
    return {
        "$schema": DIALECT,
        "title": f"Manifests of {manifest.API_VERSION}",
        "oneOf": kinds,
        "$defs": dict(sorted(definitions.items())),
    }


def describe(model: type[BaseModel], made: dict[str, Any]) -> None:
    """Rewrite a model's schema: defaults as written in a manifest, and no `null` for an optional field."""
    made.pop("title", None)
    for name, field in model.model_fields.items():
        entry = made["properties"][field.alias or name]
        entry.pop("title", None)
        entry.pop("default", None)
        branches = [b for b in entry.get("anyOf", ()) if b != {"type": "null"}]
        if "anyOf" in entry and len(branches) == 1:
            del entry["anyOf"]
            entry.update(branches[0])
        if (value := default_of(field)) not in (None, {}, []):
            entry["default"] = value


def default_of(field: FieldInfo) -> Any:
    """A field's default as written in a manifest; None if it has none."""
    if field.is_required() or field.default is None:
        return None
    adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
    return adapter.dump_python(field.default, mode="json", by_alias=True, exclude_defaults=True)


def models() -> list[type[BaseModel]]:
    """Every model, in the order of the reference: each before the models of its fields."""
    found: dict[type[BaseModel], None] = {}

    def visit(model: type[BaseModel]) -> None:
        if model not in found:
            found[model] = None
            for field in model.model_fields.values():
                for inner in _models_in(field.annotation):
                    visit(inner)

    for model in manifest.KINDS.values():
        visit(model)
    return list(found)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)


def reference() -> str:
    """The reference in Markdown."""
    definitions = manifest_schema()["$defs"]
    parts = [OPENING]
    for model in models():
        made = definitions[model.__name__]
        if not made["properties"]:
            continue
        level = "##" if model.__name__ in manifest.KINDS else "###"
        parts.append(f"{level} {heading(model)}\n")
        if model.__doc__ and "description" in made:
            parts.append(f"{made['description']}\n")
        parts.append("| field | is | default | |\n|---|---|---|---|")
        required = made.get("required", ())
        for name, entry in made["properties"].items():
            default = "required" if name in required else _shown_default(entry)
            parts.append(f"| `{name}` | {kind_of(entry)} | {default} | {entry['description']} |")
        parts.append("")
    return "\n".join(parts)


def heading(model: type[BaseModel]) -> str:
    """The heading of a model in the reference."""
    name = model.__name__
    if name in manifest.KINDS:
        return f"kind: {name}"
    owner = "Group" if name.startswith("Group") else "MicroVM"
    return f"{TITLES[name]} of a {owner}" if name in TITLES else name


def _shown_default(entry: dict[str, Any]) -> str:
    return f"`{json.dumps(entry['default'])}`" if "default" in entry else ""


def kind_of(entry: dict[str, Any]) -> str:
    """A field's type, for the reference."""
    for union in ("anyOf", "oneOf"):
        if union in entry:
            return " or ".join(kind_of(branch) for branch in entry[union])
    if "$ref" in entry:
        name = entry["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{anchor(name)})" if name not in EMPTY else "`{}`"
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in entry:
        return " or ".join(f"`{value}`" for value in entry["enum"])
    match entry.get("type"):
        case "array":
            return f"list of {kind_of(entry['items'])}"
        case "integer":
            low, high = entry.get("minimum"), entry.get("maximum")
            return f"{low} to {high}" if low is not None and high is not None else "number"
        case "boolean":
            return "`true` or `false`"
        case "object":
            return "mapping of text to text"
        case "string" if "examples" in entry:
            return f"as `{entry['examples'][0]}`"
        case _:
            return "text"


EMPTY = {model.__name__ for model in models() if not model.model_fields}
BY_NAME = {model.__name__: model for model in models()}


def anchor(name: str) -> str:
    """The anchor that Markdown derives from a model's heading."""
    return heading(BY_NAME[name]).lower().replace(":", "").replace(" ", "-")


def generated() -> dict[Path, str]:
    """The generated files: content by path from the repository's root."""
    text = json.dumps(manifest_schema(), indent=2) + "\n"
    return {SCHEMA_PATH: text, REFERENCE_PATH: reference()}


def main(arguments: list[str]) -> None:
    """Print the schema, or with `--write [ROOT]` write both files."""
    if arguments[:1] != ["--write"]:
        sys.stdout.write(generated()[SCHEMA_PATH])
        return
    root = Path(arguments[1]) if arguments[1:] else Path()
    for path, text in generated().items():
        (root / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
