"""One file of manifests: bytes in, drafts or faults out. Knows nothing of other files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from reconciler.model import manifest
from reconciler.model.runners import is_folder
from reconciler.source import yamldoc
from reconciler.source.builder import Refused
from reconciler.source.drafts import GroupDraft, VMDraft, draft_of
from reconciler.source.explain import did_you_mean, explain, shown
from reconciler.source.places import Document, Fault, Places

API_PREFIX = manifest.API_VERSION.split("/", maxsplit=1)[0] + "/"


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What one blob holds; the same for every path and revision that has it."""

    size: int
    drafts: tuple[VMDraft | GroupDraft, ...] = ()
    """Of documents without a fault."""
    faults: tuple[Fault, ...] = ()
    trees: tuple[str, ...] = ()
    """Every folder that a layer names, also those of documents with faults."""
    claimed: frozenset[tuple[str, str]] = frozenset()
    """Kind and name of documents with faults: they are declared, though nobody knows as what."""
    legible: bool = True
    """Whether all that it declares is known by name."""
    is_manifest: bool = True
    """Whether a document claims our apiVersion; a guest's own YAML in its layer does not."""


def parse_file(content: bytes) -> ParsedFile:
    """Fast when all is well; reads again, with positions, what is not."""
    size = len(content)
    try:
        documents = yamldoc.read(content)
        drafts = tuple(_draft(index, data) for index, data in enumerate(documents))
    except (Refused, ValidationError):
        return _failed(content, size)
    trees = tuple(
        tree for d in drafts if isinstance(d, VMDraft) for tree in d.trees if tree is not None
    )
    return ParsedFile(size, drafts, trees=trees, is_manifest=bool(drafts))


def _draft(index: int, data: Any) -> VMDraft | GroupDraft:
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in manifest.KINDS:
        raise Refused
    return draft_of(index, manifest.parse(kind, data))


def _failed(content: bytes, size: int) -> ParsedFile:
    reading = yamldoc.examine(content)
    faults = [*reading.faults]
    drafts, claimed = list[VMDraft | GroupDraft](), set[tuple[str, str]]()
    for index, document in enumerate(reading.documents):
        found = list(_faults(document))
        faults.extend(found)
        if found:
            claimed.update(_claims(document.data))
        elif not reading.faults:
            drafts.append(_draft(index, document.data))
    trees = tuple(tree for document in reading.documents for tree in named_trees(document.data))
    return ParsedFile(
        size,
        tuple(drafts),
        tuple(faults),
        trees,
        frozenset(claimed),
        legible=not reading.faults,
        is_manifest=any(claims_to_be_ours(document.data) for document in reading.documents),
    )


def _claims(data: Any) -> Iterator[tuple[str, str]]:
    """What a document with faults means to declare; of an unknown kind, whatever may be meant."""
    metadata = data.get("metadata") if isinstance(data, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if isinstance(name, str):
        kind = data.get("kind")
        known = isinstance(kind, str) and kind in manifest.KINDS
        yield from ((one, name) for one in ([kind] if known else manifest.KINDS))


def _faults(document: Document) -> Iterator[Fault]:
    data, places = document.data, document.places
    if not isinstance(data, dict):
        yield Fault(*places.value(()), f"{shown(data)} is not a manifest", "write apiVersion, kind")
        return
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in manifest.KINDS:
        yield from _unknown_kind(data, places)
        return
    try:
        manifest.parse(kind, data)
    except ValidationError as error:
        yield from explain(error, manifest.KINDS[kind], places)


def _unknown_kind(data: dict[str, Any], places: Places) -> Iterator[Fault]:
    if "apiVersion" not in data:
        hint = f"write apiVersion: {manifest.API_VERSION}"
        yield Fault(*places.value(()), "apiVersion is missing", hint)
    elif data["apiVersion"] != manifest.API_VERSION:
        words = f"apiVersion: {shown(data['apiVersion'])} is not {manifest.API_VERSION}"
        yield Fault(*places.value(("apiVersion",)), words, "only manifests belong here")
    known = list(manifest.KINDS)
    if "kind" not in data:
        yield Fault(*places.value(()), "kind is missing", f"write one of: {', '.join(known)}")
    else:
        words = f"kind: {shown(data['kind'])} is not one of: {', '.join(known)}"
        yield Fault(*places.value(("kind",)), words, did_you_mean(str(data["kind"]), known))


def claims_to_be_ours(data: Any) -> bool:
    version = data.get("apiVersion") if isinstance(data, dict) else None
    return isinstance(version, str) and version.startswith(API_PREFIX)


def named_trees(data: Any) -> Iterator[str]:
    """The folders of a document's layers and runner, whatever else is wrong with it."""
    runner = data.get("spec") if isinstance(data, dict) else None
    runner = runner.get("runner") if isinstance(runner, dict) else None
    flake = runner.get("flake") if isinstance(runner, dict) else None
    if isinstance(flake, str) and is_folder(flake):
        yield flake
    for name in ("spec", "store", "layers"):
        data = data.get(name) if isinstance(data, dict) else None
    for layer in data if isinstance(data, list) else ():
        tree = layer.get("tree") if isinstance(layer, dict) else None
        if isinstance(tree, str):
            yield tree
