"""Which version this is, as its package says."""

from __future__ import annotations

import importlib.metadata

PACKAGE = "microvm-reconciler"


def version() -> str:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
