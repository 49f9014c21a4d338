"""The layer kind `busybox`: a small base, which needs nothing but the host's distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from reconciler.model.fields import Face
from reconciler.model.layer_kinds.described_source import LayerPolicy, StoreFormat


class Busybox(Face):
    """A small base of Debian's static busybox, with an init that honours the power button."""


@dataclass(frozen=True, slots=True)
class BusyboxSource:
    """A small base: Debian's static busybox with an init that honours the power button."""

    kind: Literal["busybox"] = "busybox"
    brings_init: ClassVar[bool] = True
    default_format: ClassVar[StoreFormat] = "erofs"
    needs_contract: ClassVar[int] = 1
    folders: ClassVar[tuple[str, ...]] = ()
    title: ClassVar[str] = "busybox"

    def resolved(self, _ids: tuple[str, ...], /) -> BusyboxSource:
        return self

    @property
    def key_inputs(self) -> Mapping[str, str]:
        return {"kind": self.kind}

    def refusal(self, _policy: LayerPolicy, /) -> None:
        """It is of the host's own distribution."""
