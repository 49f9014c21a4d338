"""YAML as manifests may use it: bytes in, plain data out, or every fault with its line and column.

The reader streams libyaml's events and never builds a tree of nodes, so a bomb of any kind ends at
the first limit it passes. Scalars have the types of YAML 1.2's core schema: `no` is a text, `0o17`
a number, a date a text. Tags, merge keys, duplicate keys and numbers that are not finite are
refused. Positions cost time, so `read` goes without them and `examine` reads again with them.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

from reconciler.source.manifests.places import Fault, Place, Reading
from reconciler.source.manifests.yaml_builder import Builder, DocumentRefused

BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")


def read(content: bytes) -> list[Any]:
    """The documents of a file as plain data, without empty ones. Raises DocumentRefused."""
    if faults_of_bytes(content):
        raise DocumentRefused
    builder = Builder(careful=False)
    builder.run(content)
    return list(builder.whole_documents)


def examine(content: bytes) -> Reading:
    """The documents with the place of every value, and all faults that can be found."""
    if faults := faults_of_bytes(content):
        return Reading((), tuple(faults))
    builder = Builder(careful=True)
    with contextlib.suppress(DocumentRefused):  # the faults found so far are still reported
        builder.run(content)
    documents = tuple(d for d in builder.documents if d.data is not None)
    return Reading(documents, tuple(builder.faults))


def faults_of_bytes(content: bytes) -> list[Fault]:
    """Faults below YAML: encoding and control characters."""
    if content.startswith(BOMS):
        return [Fault(1, 1, "begins with a byte order mark", "save it as UTF-8 without a BOM")]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, col = _place_of(content[: error.start].decode("utf-8", "replace"))
        return [Fault(line, col, "is not UTF-8 here", "save the file as UTF-8")]
    found = CONTROL.search(text)
    if found is None:
        return []
    line, col = _place_of(text[: found.start()])
    return [Fault(line, col, f"control character U+{ord(found[0]):04X}", "remove it")]


def _place_of(before: str) -> Place:
    return before.count("\n") + 1, len(before) - before.rfind("\n")
