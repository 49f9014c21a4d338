"""The kinds of layers: what a manifest says of each, and the source that its image is made of.

A layer's key is a hash of what a manifest asks for and of nothing else, as of every image (`image.py`).
`reconciler/image/README.md` says how to add a kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, Self

from pydantic import Field, model_validator

from reconciler.model.fields import EXACTLY_ONE, Face, FieldConflict, Folder, one_of
from reconciler.model.names import LayerKey, digest_of

StoreFormat = Literal["erofs", "squashfs"]
LIKELY_FOLDER = re.compile(rb"""\btree:[ \t]*["']?([^\s"',\[\]{}#]{1,1024})""")
"""What looks like a folder that a layer names, in text that is not YAML to its end."""


class LayerPolicy(Protocol):
    """The host's policy, as far as layers ask for it; `PolicyConfig` has it by shape."""

    @property
    def host_paths(self) -> Sequence[str]:
        """Prefixes under which a manifest may name files of the host."""
        ...


class DescribedSource(Protocol):
    """What every source says of itself, so that nothing else has to know its kind."""

    @property
    def kind(self) -> str:
        """The key in a manifest's layer."""
        ...

    @property
    def title(self) -> str:
        """What people call it."""
        ...

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of the repository that it is made of, relative to the manifest."""
        ...

    def resolved(self, ids: tuple[str, ...], /) -> Self:
        """With the ids of the contents of its `folders`."""
        ...

    @property
    def key_inputs(self) -> Mapping[str, str]:
        """What its key covers, `kind` included. Changing it rebuilds every layer of the kind."""
        ...

    @property
    def brings_init(self) -> bool:
        """Whether it has an init for sure. One of its folders may have one all the same."""
        ...

    def refusal(self, policy: LayerPolicy, /) -> FieldConflict | None:
        """Why this host does not allow it, at a place below the kind's key; None: it does."""
        ...


@dataclass(frozen=True, slots=True)
class TreeSource:
    """A folder of the repository, by the id of its git tree; `path` is for people."""

    tree: str
    """Empty while it is not resolved."""
    path: str
    kind: Literal["tree"] = "tree"
    brings_init: ClassVar[bool] = False

    @property
    def title(self) -> str:
        return f"tree {self.path}"

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.path,)

    def resolved(self, ids: tuple[str, ...], /) -> TreeSource:
        return replace(self, tree=ids[0])

    @property
    def key_inputs(self) -> Mapping[str, str]:
        return {"kind": self.kind, "tree": self.tree}

    def refusal(self, _policy: LayerPolicy, /) -> None:
        """Its files end in a guest, and nothing of it runs here."""


class Busybox(Face):
    """A small base of Debian's static busybox, with an init that honours the power button."""


@dataclass(frozen=True, slots=True)
class BusyboxSource:
    """A small base: Debian's static busybox with an init that honours the power button."""

    kind: Literal["busybox"] = "busybox"
    brings_init: ClassVar[bool] = True
    folders: ClassVar[tuple[str, ...]] = ()
    title: ClassVar[str] = "busybox"

    def resolved(self, _ids: tuple[str, ...], /) -> BusyboxSource:
        return self

    @property
    def key_inputs(self) -> Mapping[str, str]:
        return {"kind": self.kind}

    def refusal(self, _policy: LayerPolicy, /) -> None:
        """It is of the host's own distribution."""


LayerSource = TreeSource | BusyboxSource
"""Stored with its `kind`; forms stored before there was a `kind` are distinguished by their fields."""


class Layer(Face):
    model_config = EXACTLY_ONE
    tree: Folder | None = Field(
        default=None, description="A folder of the repository, relative to the manifest."
    )
    busybox: Busybox | None = Field(
        default=None, description="A small base of static busybox: write `{}`."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {name: getattr(self, name) for name in type(self).model_fields}
        one_of(given, "a layer", "{tree: ./web} or {busybox: {}}")
        return self

    def source(self) -> LayerSource:
        """What it is made of, before its folders are resolved."""
        if self.tree is not None:
            return TreeSource("", self.tree)
        return BusyboxSource()


def folders_named(layer: object) -> Iterator[str]:
    """The folders of the repository that a layer names, whatever else is wrong with it."""
    tree = layer.get("tree") if isinstance(layer, dict) else None
    if isinstance(tree, str):
        yield tree


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One read-only disk of a stack, before or after it was built."""

    key: LayerKey
    format: StoreFormat
    source: LayerSource

    @staticmethod
    def of(source: LayerSource, store_format: StoreFormat) -> LayerSpec:
        inputs = {**source.key_inputs, "format": store_format}
        return LayerSpec(LayerKey(digest_of(inputs)), store_format, source)

    @property
    def title(self) -> str:
        """What people call it: `tree ./web`, `busybox`."""
        return self.source.title
