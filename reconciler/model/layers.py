"""A layer of a manifest, and the source that its image is made of; `layer_kinds/` has each kind.

A layer's key is a hash of what a manifest asks for and of nothing else, as of every image (`image.py`).
`reconciler/image/README.md` says how to add a kind.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from reconciler.model.fields import EXACTLY_ONE, Face, one_of
from reconciler.model.layer_kinds.busybox_layer import Busybox, BusyboxSource
from reconciler.model.layer_kinds.debian_layer import DebianPackages, DebianSource
from reconciler.model.layer_kinds.described_source import StoreFormat
from reconciler.model.layer_kinds.image_layer import ImageSource, ReadyImage
from reconciler.model.layer_kinds.nix_layer import NixPackage, NixSource
from reconciler.model.layer_kinds.oci_layer import Oci, OciSource
from reconciler.model.layer_kinds.script_layer import Script, ScriptSource
from reconciler.model.layer_kinds.seed_layer import SeedSource
from reconciler.model.layer_kinds.tree_layer import Tree, TreeSource, folders_of, source_of
from reconciler.model.names import LayerKey, digest_of
from reconciler.model.nix_runner import is_folder

LIKELY_FOLDER = re.compile(rb"""\b(?:tree|path|inputs):[ \t]*["']?([^\s"',\[\]{}#]{1,1024})""")
"""What looks like a folder that a layer names, in text that is not YAML to its end."""


LayerSource = (
    TreeSource
    | BusyboxSource
    | OciSource
    | DebianSource
    | ImageSource
    | NixSource
    | ScriptSource
    | SeedSource
)
"""Stored with its `kind`; forms stored before there was a `kind` are distinguished by their fields."""

ProgramSource = ScriptSource
"""Made by a program of the host's policy: another program of that name makes another layer."""


class Layer(Face):
    model_config = EXACTLY_ONE
    tree: Tree | None = Field(
        default=None,
        description="A folder of the repository, relative to the manifest; or one with owners.",
    )
    busybox: Busybox | None = Field(
        default=None, description="A small base of static busybox: write `{}`."
    )
    debian: DebianPackages | None = Field(
        default=None, description="Packages of Debian on a base with systemd."
    )
    image: ReadyImage | None = Field(
        default=None,
        description="A ready erofs, squashfs or ext4 image of the host or of a server.",
    )

    oci: Oci | None = Field(
        default=None, description="An image as container tools make it, with its program."
    )
    nix: NixPackage | None = Field(
        default=None, description="A package that this host's Nix builds, with all that it needs."
    )

    script: Script | None = Field(
        default=None, description="A tree that a program of the host's policy writes."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {name: getattr(self, name) for name in type(self).model_fields}
        one_of(given, "a layer", "{tree: ./web}, {busybox: {}} or {oci: {image: ...}}")
        return self

    def source(self) -> LayerSource:
        """What it is made of, before its folders are resolved."""
        if self.tree is not None:
            return source_of(self.tree)
        if self.oci is not None:
            return self.oci.source()
        if self.debian is not None:
            return self.debian.source()
        if self.image is not None:
            return self.image.source()
        if self.nix is not None:
            return self.nix.source()
        if self.script is not None:
            return self.script.source()
        return BusyboxSource()


LAYER_KINDS = tuple(Layer.model_fields)
SEVERAL_IMAGES = ("oci", "debian", "nix")
"""Kinds of layers that are composed of images which others share."""


def folders_named(layer: object) -> Iterator[str]:
    """The folders of the repository that a layer names, whatever else is wrong with it."""
    if not isinstance(layer, dict):
        return
    yield from folders_of(layer.get("tree"))
    if isinstance(nix := layer.get("nix"), dict) and is_folder(str(nix.get("flake"))):
        yield str(nix["flake"])
    if isinstance(script := layer.get("script"), dict) and isinstance(
        inputs := script.get("inputs"), str
    ):
        yield inputs
    if isinstance(oci := layer.get("oci"), dict):
        if isinstance(layout := oci.get("layout"), str):
            yield layout
        if isinstance(archive := oci.get("archive"), str):
            yield posixpath.dirname(archive)


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One read-only disk of a stack, before or after it was built."""

    key: LayerKey
    format: StoreFormat
    source: LayerSource
    verity: bool = False
    """Whether its image ends in a tree of hashes, with which a guest compares each block that it reads."""

    @staticmethod
    def of(
        source: LayerSource, store_format: StoreFormat | None = None, *, verity: bool = False
    ) -> LayerSpec:
        """The spec of a resolved source; without a format it has that of its kind."""
        made_as = store_format or source.default_format
        # A source that comes in a format of its own says which.
        inputs = {"format": made_as, **source.key_inputs}
        if verity:
            inputs["verity"] = "yes"
        return LayerSpec(LayerKey(digest_of(inputs)), made_as, source, verity)

    @property
    def title(self) -> str:
        """What people call it: `tree ./web`, `busybox`."""
        return self.source.title
