"""The file system of a layer: as the manifest says, else as its kind has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.described_source import StoreFormat
from reconciler.model.layer_kinds.tree_layer import TreeSource
from reconciler.model.layers import LayerSource, LayerSpec


@dataclass(frozen=True, slots=True)
class ArchiveSource(TreeSource):
    """A kind that comes as a tar."""

    default_format: ClassVar[StoreFormat] = "squashfs"


@pytest.mark.parametrize("source", [TreeSource("1" * 40, "./web"), BusyboxSource()])
def test_a_layer_of_folders_is_erofs_by_the_key_that_it_always_had(source: LayerSource) -> None:
    spec = LayerSpec.of(source)
    assert spec.format == "erofs"
    assert spec == LayerSpec.of(source, "erofs")
    assert spec.key != LayerSpec.of(source, "squashfs").key


def test_a_layer_that_comes_as_a_tar_is_squashfs_unless_the_manifest_says_erofs() -> None:
    source: Any = ArchiveSource("1" * 40, "./web")
    assert LayerSpec.of(source).format == "squashfs"
    assert LayerSpec.of(source, "erofs").format == "erofs"
