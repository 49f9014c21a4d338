"""The seed of cloud-init: a small read-only disk with texts of a manifest, beside a disk that firmware boots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from reconciler.model.layer_kinds.described_source import LayerPolicy, StoreFormat
from reconciler.model.machine import Mount
from reconciler.model.names import VMName, digest_of


@dataclass(frozen=True, slots=True)
class SeedSource:
    """What cloud-init reads by its data source NoCloud."""

    vm: VMName
    user_data: str
    network_config: str = ""
    """Empty: cloud-init's own default, DHCP."""
    mounts: tuple[Mount, ...] = ()
    """Volumes that cloud-init mounts, unless the user data has `mounts` of its own."""
    kind: Literal["seed"] = "seed"
    brings_init: ClassVar[bool] = True
    needs_contract: ClassVar[int] = 0
    folders: ClassVar[tuple[str, ...]] = ()
    default_format: ClassVar[StoreFormat] = "iso9660"
    title: ClassVar[str] = "cloud-init's seed"

    def resolved(self, _ids: tuple[str, ...], /) -> SeedSource:
        return self

    @property
    def key_inputs(self) -> Mapping[str, str]:
        return {
            "kind": self.kind,
            "vm": self.vm,
            "user data": self.user_data,
            "network": self.network_config,
            "mounts": " ".join(f"{m.serial}:{m.mount_point}:{m.fs_type}" for m in self.mounts),
        }

    @property
    def instance(self) -> str:
        """What cloud-init takes for the machine's id: it configures a guest once for each."""
        return digest_of(self.key_inputs)[:32]

    def refusal(self, _policy: LayerPolicy, /) -> None:
        """Its texts are read in a guest alone."""
