"""One file of manifests: bytes in, drafts or faults out. Knows nothing of other files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from reconciler.model import manifest
from reconciler.model.nix_runner import is_folder
from reconciler.source.manifests import yaml_reader
from reconciler.source.manifests.convert import GroupDraft, VMDraft, draft_of
from reconciler.source.manifests.error_messages import explain, nearest, shown
from reconciler.source.manifests.places import Document, Fault, Places
from reconciler.source.manifests.yaml_builder import Builder, DocumentRefused

API_PREFIX = manifest.API_VERSION.split("/", maxsplit=1)[0] + "/"
MOST_FAULTS = 100
"""Of one file, that are put into words."""
LIKELY_TREE = re.compile(rb"""\btree:[ \t]*["']?([^\s"',\[\]{}#]{1,1024})""")
MOST_LIKELY = 1_000


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What one blob holds; the same for every path and revision that has it."""

    size: int
    drafts: tuple[VMDraft | GroupDraft, ...] = ()
    """Of documents without a fault."""
    faulty: bool = False
    """Whether it has any fault; `faults_of` puts them into words."""
    faults: tuple[Fault, ...] = ()
    """Those that are known already."""
    trees: tuple[str, ...] = ()
    """Every folder that a layer names, also those of documents with faults."""
    likely_trees: tuple[str, ...] = ()
    """Where YAML ends before the document does: what looks like a layer's folder."""
    claimed: frozenset[tuple[str, str]] = frozenset()
    """Kind and name of documents with faults: they are declared, though nobody knows as what."""
    legible: bool = True
    """Whether all that it declares is known by name."""
    is_manifest: bool = True
    """Whether a document claims our apiVersion; a guest's own YAML in its layer does not."""


def parse_file(content: bytes) -> ParsedFile:
    """What a file declares, with its faults in words."""
    parsed = parse_quickly(content)
    return replace(parsed, faults=tuple(faults_of(content))) if parsed.faulty else parsed


def parse_quickly(content: bytes) -> ParsedFile:
    """What a file declares, and whether it has faults: positions cost many times as much time."""
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
        is_manifest=any(map(claims_to_be_ours, documents)) if faulty else bool(drafts),
    )


def _illegible(content: bytes, documents: Sequence[Any]) -> ParsedFile:
    """A file that is no YAML to its end; nothing that it declares is taken."""
    likely = itertools.islice(LIKELY_TREE.finditer(content), MOST_LIKELY)
    return ParsedFile(
        len(content),
        faulty=True,
        trees=_trees_of(documents),
        likely_trees=tuple(found[1].decode("utf-8", "replace") for found in likely),
        claimed=frozenset(claim for data in documents for claim in _claims(data)),
        legible=False,
        is_manifest=any(map(claims_to_be_ours, documents)),
    )


def _trees_of(documents: Sequence[Any]) -> tuple[str, ...]:
    return tuple(tree for data in documents for tree in named_trees(data))


def _trees_of_drafts(drafts: list[VMDraft | GroupDraft]) -> tuple[str, ...]:
    return tuple(
        tree for d in drafts if isinstance(d, VMDraft) for tree in d.trees if tree is not None
    )


def _draft(index: int, data: Any) -> VMDraft | GroupDraft:
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in manifest.KINDS:
        raise DocumentRefused
    return draft_of(index, manifest.parse(kind, data))


def faults_of(content: bytes, most: int = MOST_FAULTS) -> list[Fault]:
    """The first faults of a file, in words, each with its line and column."""
    reading = yaml_reader.examine(content)
    of_documents = itertools.chain.from_iterable(map(_faults, reading.documents))
    return list(itertools.islice(itertools.chain(reading.faults, of_documents), most))


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
        yield Fault(*places.value(("kind",)), words, nearest(str(data["kind"]), known))


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
