"""The parts of one layer while it is being composed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from reconciler.content_store import ContentStore
from reconciler.host import layout
from reconciler.image.build_site import BuildSite, BuildTools, MakePart
from reconciler.image.progress_board import Progress
from reconciler.image.registry import build_part
from reconciler.model.image import BuiltImage
from reconciler.model.layers import LayerSpec
from reconciler.model.names import LayerKey


class PartStore(Protocol):
    """The store that has the parts."""

    tools: BuildTools

    def has_part(self, key: LayerKey) -> bool:
        """Whether an image of this key is there, which is no composed one."""
        ...

    def layer_path(self, key: LayerKey) -> Path: ...

    async def build_part(
        self, key: LayerKey, title: str, make: Callable[[Path, Progress], Coroutine[Any, Any, None]]
    ) -> BuiltImage:
        """Make one part of a layer that is being composed, or verify that it is there."""
        ...


class PartBuilds:
    """What the input of a composed layer asks for; what it has made or found is not collected meanwhile."""

    def __init__(self, store: PartStore, spec: LayerSpec, content: ContentStore) -> None:
        self._store = store
        self._spec = spec
        self._content = content
        self.made: set[str] = set()

    def site(self, workspace: Path, progress: Progress) -> BuildSite:
        """Where the layer, or a part of it, is made."""
        spec, tools = self._spec, self._store.tools
        return BuildSite(
            spec.format, workspace, self._content, tools, self, progress, verity=spec.verity
        )

    def has(self, key: LayerKey) -> bool:
        return self._store.has_part(key)

    def image(self, key: LayerKey) -> Path:
        return self._store.layer_path(key)

    def contents(self, key: LayerKey) -> Path:
        return self._store.layer_path(key).with_name(layout.CONTENTS)

    async def make(self, key: LayerKey, title: str, make: MakePart) -> None:
        self.made.add(key)

        async def make_in(workspace: Path, progress: Progress) -> None:
            await build_part(title, make, self.site(workspace, progress))

        await self._store.build_part(key, title, make_in)
