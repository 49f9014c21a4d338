"""The layer kind `script`: a tree that a program of the host writes, if the host's policy has that program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from reconciler.errors import did_you_mean
from reconciler.model.fields import Face, FieldConflict, Folder, Name, matching
from reconciler.model.layer_kinds.described_source import LayerPolicy, StoreFormat

MOST_ARGUMENTS = 64
Argument = Annotated[
    str, matching(r"^[^\x00-\x08\x0b-\x1f\x7f]*$", "no control characters", max_length=4096)
]


class Script(Face):
    """A program that the host's owner allows, which writes the files of the layer."""

    run: Name = Field(description="Its name in the host's `policy.scripts`.")
    args: list[Argument] = Field(
        default=[],
        max_length=MOST_ARGUMENTS,
        description="Passed on as they are, through no shell.",
    )
    inputs: Folder | None = Field(
        default=None,
        description="A folder of the repository, relative to the manifest, which the program gets to read.",
    )

    def source(self) -> ScriptSource:
        return ScriptSource(self.run, tuple(self.args), self.inputs or "")


@dataclass(frozen=True, slots=True)
class ScriptSource:
    """What a program of the host makes of its arguments and of a folder of the repository."""

    run: str
    args: tuple[str, ...] = ()
    inputs: str = ""
    """A folder; empty: none."""
    tree: str = ""
    """The id of that folder's git tree; empty while it is not resolved."""
    program: str = ""
    """The sha256 of the program when the manifest was read; empty while it is not resolved."""
    kind: Literal["script"] = "script"
    # What it writes is not known before. The guest's first process says so, if no layer has an init.
    brings_init: ClassVar[bool] = True
    needs_contract: ClassVar[int] = 2
    default_format: ClassVar[StoreFormat] = "erofs"

    @property
    def title(self) -> str:
        return f"script {self.run}"

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.inputs,) if self.inputs else ()

    def resolved(self, ids: tuple[str, ...], /) -> ScriptSource:
        return replace(self, tree=ids[0]) if ids else self

    def by_program(self, sha256: str, /) -> ScriptSource:
        return replace(self, program=sha256)

    @property
    def key_inputs(self) -> Mapping[str, str]:
        return {
            "kind": self.kind,
            "run": self.run,
            "args": json.dumps(self.args),
            "tree": self.tree,
            "program": self.program,
        }

    def refusal(self, policy: LayerPolicy, /) -> FieldConflict | None:
        """It runs on this host, with arguments and files of the repository."""
        if self.run in policy.scripts:
            return None
        known = f"policy.scripts has: {', '.join(policy.scripts) or 'none'}"
        return FieldConflict(
            ("run",),
            f"{self.run} is not allowed by the host's policy",
            did_you_mean(self.run, policy.scripts, known),
        )
