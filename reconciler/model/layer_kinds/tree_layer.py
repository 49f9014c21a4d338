"""The layer kind `tree`: a folder of the repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from reconciler.model.layer_kinds.described_source import LayerPolicy, StoreFormat


@dataclass(frozen=True, slots=True)
class TreeSource:
    """A folder of the repository, by the id of its git tree; `path` is for people."""

    tree: str
    """Empty while it is not resolved."""
    path: str
    kind: Literal["tree"] = "tree"
    brings_init: ClassVar[bool] = False
    default_format: ClassVar[StoreFormat] = "erofs"
    needs_contract: ClassVar[int] = 1

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
