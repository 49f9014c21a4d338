"""The manifest of a VM whose runner Nix builds, and the other fields that may stand beside it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from reconciler.model.fields import Face, FieldConflict, Port, a_folder, matching
from reconciler.model.quantity import refusal

LOCKED = re.compile(
    r"[?&](rev=[0-9a-f]{40}|narHash=sha256-[A-Za-z0-9+/%=]{43,})(&|$)"
    r"|^(github|gitlab|sourcehut):[^/]+/[^/]+/[0-9a-f]{40}(\?|$)"
)
"""Matches references whose content cannot change: with a commit, or a hash of the files."""
FIXED = ("hypervisor", "kernel", "store", "disk", "volumes", "interfaces")
"""Fields that a runner replaces."""


def _a_flake(value: str) -> str:
    if is_folder(value):
        return a_folder(value)
    if value.startswith("/"):
        raise refusal("is absolute", "write it relative to the manifest: ./vms/web")
    if LOCKED.search(value) is None:
        raise refusal(
            "is neither a folder nor locked", "write ./vms/web, or add ?rev= or &narHash= to it"
        )
    return value


def is_folder(flake: str) -> bool:
    """Whether a flake is a folder of this repository."""
    return flake.startswith(("./", "../"))


FlakeRef = Annotated[
    str,
    matching(
        r"""^[^\s#"'\\\x00-\x1f\x7f]+$""",
        "./FOLDER or a flake's address, without spaces, quotes and #",
        max_length=1024,
    ),
    AfterValidator(_a_flake),
]
AttributePath = Annotated[
    str,
    matching(
        r"^[A-Za-z_][A-Za-z0-9_'+-]*(\.[A-Za-z0-9_'+-]+)*$",
        "names joined by dots: packages.x86_64-linux.web",
        max_length=512,
    ),
]


class Runner(Face):
    """A runner of microvm.nix, or any package with a `bin/microvm-run`, made by this host's Nix."""

    flake: FlakeRef = Field(
        description="A folder of the repository that holds a flake, relative to the manifest; or"
        " another flake, locked by `rev` or `narHash`, that the host's `policy.flakes` allows."
    )
    attribute: AttributePath = Field(
        description="Which output: `nixosConfigurations.web.config.microvm.declaredRunner`."
    )
    ports: list[Port] = Field(
        default=[], max_length=64,
        description="TCP ports of the host that the runner forwards (`microvm.forwardPorts`), for"
        " checks, and to prevent that two VMs use the same.",
    )  # fmt: skip


def beside_faults(written: Collection[str]) -> Iterator[FieldConflict]:
    """Conflicts of a spec with a runner, by the names of the fields that it has."""
    for name in FIXED:
        if name in written:
            yield FieldConflict(
                (name,), "has no effect beside a runner, which brings its own",
                "remove it, and set it in the flake",
            )  # fmt: skip
    if "memory" not in written:
        yield FieldConflict(
            ("runner",), "memory is missing",
            "write what the runner gives its guest (`microvm.mem`): limits and reserves go by it",
        )  # fmt: skip
