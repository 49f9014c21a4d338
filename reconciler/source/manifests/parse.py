"""Parses one file of manifests into drafts or faults, without knowledge of other files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from reconciler.model import manifest
from reconciler.model.layers import LIKELY_FOLDER, folders_named
from reconciler.model.nix_runner import is_folder
from reconciler.source.manifests import yaml_reader
from reconciler.source.manifests.convert import GroupDraft, VMDraft, draft_of
from reconciler.source.manifests.error_messages import explain, nearest, shown
from reconciler.source.manifests.places import Document, Fault, Places
from reconciler.source.manifests.yaml_builder import Builder, DocumentRefused

API_PREFIX = manifest.API_VERSION.split("/", maxsplit=1)[0] + "/"
MOST_FAULTS = 100
"""Faults of one file that are reported."""
MOST_LIKELY = 1_000


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """The content of one blob, parsed; valid for every path and revision that has the blob."""

    size: int
    drafts: tuple[VMDraft | GroupDraft, ...] = ()
    """From documents without faults."""
    faulty: bool = False
    """Whether it has any fault; `faults_of` finds them with their places."""
    faults: tuple[Fault, ...] = ()
    """Faults that are known without another read."""
    trees: tuple[str, ...] = ()
    """Folders of all layers, also those in documents with faults."""
    likely_trees: tuple[str, ...] = ()
    """If the file is not valid YAML to its end: texts that look like a layer's folder."""
    claimed: frozenset[tuple[str, str]] = frozenset()
    """Kind and name of documents with faults: the names are taken, though their content is unknown."""
    legible: bool = True
    """Whether the names of all its declarations are known."""
    is_manifest: bool = True
    """Whether any document has our apiVersion; other YAML, as in a guest's layer, has not."""


def parse_file(content: bytes) -> ParsedFile:
    """A parsed file, with all its faults."""
    parsed = parse_quickly(content)
    return replace(parsed, faults=tuple(faults_of(content))) if parsed.faulty else parsed


def parse_quickly(content: bytes) -> ParsedFile:
    """A parsed file, without the places of its faults: finding those takes several times as long."""
    size = len(content)
    if yaml_reader.faults_of_bytes(content):
        return _illegible(content, ())
    builder = Builder(careful=False)
    try:
        builder.run(content)
    except DocumentRefused:
        return _illegible(content, builder.whole_documents)
    documents = builder.whole_documents
    drafts, claimed = list[VMDraft | GroupDraft](), set[tuple[str, str]]()
    faulty = False
    for index, data in enumerate(documents):
        try:
            drafts.append(_draft(index, data))
        except (DocumentRefused, ValidationError):
            faulty = True
            claimed.update(_claims(data))
    return ParsedFile(
        size,
        tuple(drafts),
        faulty,
        trees=_trees_of(documents) if faulty else _trees_of_drafts(drafts),
        claimed=frozenset(claimed),
        is_manifest=any(map(_claims_to_be_ours, documents)) if faulty else bool(drafts),
    )


def _illegible(content: bytes, documents: Sequence[Any]) -> ParsedFile:
    """A file that is not valid YAML to its end; none of its declarations are used."""
    likely = itertools.islice(LIKELY_FOLDER.finditer(content), MOST_LIKELY)
    return ParsedFile(
        len(content),
        faulty=True,
        trees=_trees_of(documents),
        likely_trees=tuple(found[1].decode("utf-8", "replace") for found in likely),
        claimed=frozenset(claim for data in documents for claim in _claims(data)),
        legible=False,
        is_manifest=any(map(_claims_to_be_ours, documents)),
    )


def _trees_of(documents: Sequence[Any]) -> tuple[str, ...]:
    return tuple(tree for data in documents for tree in named_trees(data))


def _trees_of_drafts(drafts: list[VMDraft | GroupDraft]) -> tuple[str, ...]:
    return tuple(folder for d in drafts if isinstance(d, VMDraft) for folder in d.folders)


def _draft(index: int, data: Any) -> VMDraft | GroupDraft:
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in manifest.KINDS:
        raise DocumentRefused
    return draft_of(index, manifest.parse(kind, data))


def faults_of(content: bytes, most: int = MOST_FAULTS) -> list[Fault]:
    """The first faults of a file, each with line and column."""
    reading = yaml_reader.examine(content)
    of_documents = itertools.chain.from_iterable(map(_faults, reading.documents))
    return list(itertools.islice(itertools.chain(reading.faults, of_documents), most))


def _claims(data: Any) -> Iterator[tuple[str, str]]:
    """Kind and name that a document with faults declares; every kind if its own is unknown."""
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
        yield Fault(*places.value(("kind",)), words, nearest(str(data["kind"]), known))


def _claims_to_be_ours(data: Any) -> bool:
    version = data.get("apiVersion") if isinstance(data, dict) else None
    return isinstance(version, str) and version.startswith(API_PREFIX)


def named_trees(data: Any) -> Iterator[str]:
    """Folders of a document's layers and runner, also if the document has faults elsewhere."""
    runner = data.get("spec") if isinstance(data, dict) else None
    runner = runner.get("runner") if isinstance(runner, dict) else None
    flake = runner.get("flake") if isinstance(runner, dict) else None
    if isinstance(flake, str) and is_folder(flake):
        yield flake
    for name in ("spec", "store", "layers"):
        data = data.get(name) if isinstance(data, dict) else None
    for layer in data if isinstance(data, list) else ():
        yield from folders_named(layer)
