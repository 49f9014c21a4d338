"""The layer kind `nix`: what a flake's output needs of Nix's store, and perhaps a program of it that runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from reconciler.model.fields import Face, FieldConflict, matching
from reconciler.model.layer_kinds.described_source import LayerPolicy, StoreFormat
from reconciler.model.nix_runner import AttributePath, FlakeRef, is_folder

WHO = "the host's policy"
ProgramPath = Annotated[
    str, matching(r"^[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*$", "a path in the output: bin/app")
]


class NixPackage(Face):
    """A package that this host's Nix builds, with all that it needs."""

    flake: FlakeRef = Field(
        description="A folder of the repository that holds a flake, relative to the manifest; or"
        " another flake, locked by `rev` or `narHash`, that the host's `policy.flakes` allows."
    )
    attribute: AttributePath = Field(description="Which output: `packages.x86_64-linux.web`.")
    program: ProgramPath | None = Field(
        default=None, description="What the guest runs, in the output: `bin/web`."
    )
    arguments: list[Annotated[str, Field(max_length=4096)]] = Field(
        default=[], max_length=256, description="Of the program."
    )

    def source(self) -> NixSource:
        """What it is made of, before its folder is resolved."""
        return NixSource(self.flake, self.attribute, self.program or "", tuple(self.arguments))


@dataclass(frozen=True, slots=True)
class NixSource:
    """An output of a flake."""

    flake: str
    """A locked reference, or a folder of the repository as the manifest writes it."""
    attribute: str
    program: str = ""
    """Relative to the output; empty: the guest has an init of another layer."""
    arguments: tuple[str, ...] = ()
    tree: str = ""
    """The id of the folder's content, once it is resolved."""
    kind: Literal["nix"] = "nix"
    default_format: ClassVar[StoreFormat] = "squashfs"

    @property
    def title(self) -> str:
        return f"nix {self.flake}#{self.attribute}"

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.flake,) if is_folder(self.flake) else ()

    def resolved(self, ids: tuple[str, ...], /) -> NixSource:
        return replace(self, tree=ids[0]) if ids else self

    @property
    def key_inputs(self) -> Mapping[str, Any]:
        asked = {"tree": self.tree} if self.tree else {"flake": self.flake}
        runs = {"program": self.program, "arguments": list(self.arguments)} if self.program else {}
        return {"kind": self.kind, **asked, "attribute": self.attribute, **runs}

    @property
    def brings_init(self) -> bool:
        return bool(self.program)

    @property
    def needs_contract(self) -> int:
        return 2 if self.program else 1

    def refusal(self, policy: LayerPolicy, /) -> FieldConflict | None:
        """A build by Nix runs the flake's code on this host, in Nix's sandbox."""
        if not policy.runners:
            return FieldConflict(
                (), f"builds by Nix are not allowed by {WHO}",
                "they run the repository's code on this host: policy.runners = true allows them",
            )  # fmt: skip
        if not self.folders and not any(fnmatchcase(self.flake, one) for one in policy.flakes):
            return FieldConflict(
                ("flake",), f"{self.flake} is not allowed by {WHO}",
                f"policy.flakes allows: {', '.join(policy.flakes) or 'none'}",
            )  # fmt: skip
        return None
