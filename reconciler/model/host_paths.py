"""Paths of the host that a manifest names, and whether the host's policy allows them."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.model.fields import FieldConflict

SHOWN = 80
"""Characters of a path in a message."""


def is_below(path: str, folders: Sequence[str]) -> bool:
    """Whether an absolute path is below one of these folders, by whole names."""
    if {"", ".", ".."} & set(path.split("/")[1:]):
        return False
    return any(path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def host_path_refusal(field: str, path: str, folders: Sequence[str]) -> FieldConflict | None:
    """Why the policy, whose `host_paths` are `folders`, does not allow a path; None: it does."""
    if is_below(path, folders):
        return None
    return FieldConflict(
        (field,),
        f"{path[:SHOWN]} is not below a host path that the policy allows",
        f"policy.host_paths allows: {', '.join(folders) or 'none'}",
    )
