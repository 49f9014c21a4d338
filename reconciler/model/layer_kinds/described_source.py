"""What the source of every kind of layer says of itself, so that nothing else has to know its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, Self

from reconciler.model.fields import FieldConflict

StoreFormat = Literal["erofs", "squashfs", "iso9660"]
"""iso9660: only of a seed, which cloud-init looks for."""


class LayerPolicy(Protocol):
    """The host's policy, as far as layers ask for it; `PolicyConfig` has it by shape."""

    @property
    def host_paths(self) -> Sequence[str]:
        """Prefixes under which a manifest may name files of the host."""
        ...

    @property
    def runners(self) -> bool:
        """Whether Nix may build what the repository says, for a runner or a layer."""
        ...

    @property
    def flakes(self) -> Sequence[str]:
        """Patterns of flakes outside of the repository that Nix may build."""
        ...

    @property
    def registries(self) -> Sequence[str]:
        """Patterns of OCI images that a manifest may name."""
        ...

    @property
    def mirrors(self) -> Sequence[str]:
        """Archives of packages that a manifest may name, by their addresses or what these begin with."""
        ...

    @property
    def image_urls(self) -> Sequence[str]:
        """Patterns of URLs from which images may be downloaded."""
        ...

    @property
    def scripts(self) -> Mapping[str, object]:
        """Programs of the host that may write layers, by name."""
        ...


class DescribedSource(Protocol):
    """The source of a layer, resolved or not."""

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

    @property
    def default_format(self) -> StoreFormat:
        """Of its image where the manifest says none: squashfs for what comes as a tar, which every release packs."""
        ...

    @property
    def needs_contract(self) -> int:
        """What our initrd must be able to do for it, by number (`DebianKernel.contract`)."""
        ...

    def refusal(self, policy: LayerPolicy, /) -> FieldConflict | None:
        """Why this host does not allow it, at a place below the kind's key; None: it does."""
        ...
