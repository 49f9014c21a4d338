"""Builds plain data from libyaml's events, and stops at the first limit that is exceeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import yaml

from reconciler.source.manifests.places import Document, Fault, Loc, Place, Places, shortened
from reconciler.source.manifests.yaml_scalars import NotPlain, resolve

MOST_DEPTH = 64
MOST_NODES = 10_000
"""Values of one document. An alias counts as everything it stands for, so that bombs are found."""
MOST_ALIASES = 100
MOST_DOCUMENTS = 1_000
MOST_FAULTS = 100
"""Faults of one file that are reported."""
LOADER = yaml.CSafeLoader
NO_KEY: Final = object()


class DocumentRefused(Exception):
    """The file has at least one fault."""


@dataclass(slots=True)
class Frame:
    """A mapping or sequence whose end has not been read yet."""

    container: dict[str, Any] | list[Any]
    anchor: str | None
    begin: Any
    nodes: int
    """The document's number of values when the frame began."""
    height: int = 1
    key: Any = NO_KEY


class Builder:
    """Builds documents from the events of one file.

    `careful`: record positions and collect all faults; otherwise stop at the first fault, which is
    several times faster.
    """

    def __init__(self, *, careful: bool) -> None:
        self.careful = careful
        self.documents: list[Document] = []
        self.faults: list[Fault] = []
        self._begin_document()

    def _begin_document(self) -> None:
        self._stack: list[Frame] = []
        self._anchors: dict[str, tuple[Any, int, int] | None] = {}
        self._nodes = self._aliases = 0
        self._places = Places()
        self._root: Any = None

    @property
    def whole_documents(self) -> tuple[Any, ...]:
        """The data of completed documents, without empty ones."""
        return tuple(document.data for document in self.documents if document.data is not None)

    def run(self, content: bytes) -> None:
        """Read a whole file. Raises DocumentRefused at the first fault that ends reading."""
        on = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document_start,
            yaml.DocumentEndEvent: self._document_end,
        }
        ignore = {yaml.StreamStartEvent, yaml.StreamEndEvent}
        try:
            for event in yaml.parse(content, LOADER):
                kind = type(event)
                if kind not in ignore:
                    on[kind](event)
        except yaml.MarkedYAMLError as error:
            self._syntax(error, content)
        except yaml.YAMLError as error:
            self._refuse((1, 1), f"not YAML: {str(error)[:80]}", fatal=True)

    def _refuse(self, place: Place, message: str, hint: str = "", *, fatal: bool = False) -> None:
        self.faults.append(Fault(*place, message, hint))
        if fatal or not self.careful or len(self.faults) >= MOST_FAULTS:
            raise DocumentRefused

    def _syntax(self, error: yaml.MarkedYAMLError, content: bytes) -> None:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        lines = content.decode("utf-8").splitlines()
        line = lines[place[0] - 1] if place[0] <= len(lines) else ""
        words = error.problem or "not YAML"
        if "\t" in line[: place[1]]:
            self._refuse(place, "a tab cannot indent YAML", "use spaces", fatal=True)
        hint = "quote the text, or look at the lines before" if error.context is None else ""
        if error.context_mark is not None and error.context is not None:
            hint = f"{error.context} that begins at line {error.context_mark.line + 1}"
        self._refuse(place, f"not YAML: {words}", hint, fatal=True)

    # Documents

    def _document_start(self, event: Any) -> None:
        if len(self.documents) >= MOST_DOCUMENTS:
            self._refuse(
                start(event), f"more than {MOST_DOCUMENTS} documents", "split it", fatal=True
            )
        self._begin_document()
        if event.tags:
            self._refuse(start(event), "tags are not allowed", "remove the %TAG line")

    def _document_end(self, _event: Any) -> None:
        self.documents.append(Document(self._root, self._places))

    # Values

    def _scalar(self, event: Any) -> None:
        frame = self._stack[-1] if self._stack else None
        if event.tag is not None:
            self._tag(event)
        if frame is not None and frame.key is NO_KEY and type(frame.container) is dict:
            self._key(frame, event)
            return
        value: Any = event.value
        if event.implicit[0]:
            try:
                value = resolve(value)
            except NotPlain as error:
                self._refuse(start(event), str(error), error.hint)
        self._count(event, 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1, 0)
        self._put(value, event)

    def _key(self, frame: Frame, event: Any) -> None:
        key = event.value
        if event.anchor is not None:
            self._refuse(start(event), "a key cannot have an anchor", "remove it")
        if key == "<<" and event.implicit[0]:
            self._refuse(start(event), "merge keys are not allowed", "write the fields out")
        if key in frame.container:
            self._duplicate(key, event)
        frame.key = key
        if self.careful:
            self._places.keys.setdefault(self._loc(), start(event))

    def _duplicate(self, key: str, event: Any) -> None:
        first = ""
        if self.careful:
            parent = tuple(frame.key for frame in self._stack[:-1])
            line, col = self._places.key((*parent, key))
            first = f"first at line {line}, column {col}"
        self._refuse(start(event), f"duplicate key {shortened(key)}", first)

    def _open(self, event: Any) -> None:
        if event.tag is not None:
            self._tag(event)
        frame = self._stack[-1] if self._stack else None
        is_map = type(event) is yaml.MappingStartEvent
        if frame is not None and type(frame.container) is dict and frame.key is NO_KEY:
            self._refuse(start(event), "a key must be a plain text", fatal=True)
        self._count(event, 1)
        if len(self._stack) >= MOST_DEPTH:
            self._refuse(start(event), f"more than {MOST_DEPTH} levels deep", fatal=True)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if self.careful:
            self._places.values.setdefault(self._loc(), start(event))
        key = NO_KEY if is_map else 0
        self._stack.append(Frame({} if is_map else [], event.anchor, event, self._nodes, key=key))

    def _close(self, _event: Any) -> None:
        frame = self._stack.pop()
        if frame.anchor is not None:
            nodes = self._nodes - frame.nodes + 1
            self._anchors[frame.anchor] = (frame.container, nodes, frame.height)
        if self._stack:
            self._stack[-1].height = max(self._stack[-1].height, frame.height + 1)
        self._put(frame.container, frame.begin)

    def _alias(self, event: Any) -> None:
        name = shortened(event.anchor)
        if event.anchor not in self._anchors:
            self._refuse(start(event), f"alias *{name} has no anchor", f"write &{name} before it")
        target = self._anchors.get(event.anchor) or (None, 1, 0)
        if event.anchor in self._anchors and self._anchors[event.anchor] is None:
            self._refuse(start(event), f"alias *{name} holds itself", "write the value out")
        frame = self._stack[-1] if self._stack else None
        if frame is not None and type(frame.container) is dict and frame.key is NO_KEY:
            self._refuse(start(event), "a key must be a plain text", fatal=True)
        value, nodes, height = target
        self._aliases += 1
        if self._aliases > MOST_ALIASES:
            self._refuse(start(event), f"more than {MOST_ALIASES} aliases", fatal=True)
        self._count(event, nodes)
        if len(self._stack) + height > MOST_DEPTH:
            self._refuse(start(event), f"more than {MOST_DEPTH} levels deep", fatal=True)
        if frame is not None:
            frame.height = max(frame.height, height + 1)
        self._put(value, event)

    def _put(self, value: Any, event: Any) -> None:
        if self.careful:
            self._places.values.setdefault(self._loc(), start(event))
        if not self._stack:
            self._root = value
            return
        frame = self._stack[-1]
        if type(frame.container) is dict:
            frame.container.setdefault(frame.key, value)
            frame.key = NO_KEY
        elif type(frame.container) is list:
            frame.container.append(value)
            frame.key += 1

    def _loc(self) -> Loc:
        return tuple(frame.key for frame in self._stack)

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            self._refuse(
                start(event), f"more than {MOST_NODES} values in a document", "split it", fatal=True
            )

    def _tag(self, event: Any) -> None:
        self._refuse(start(event), f"tag {shortened(event.tag)} is not allowed", "remove it")


def start(event: Any) -> Place:
    """Line and column of an event, both from 1."""
    return event.start_mark.line + 1, event.start_mark.column + 1
