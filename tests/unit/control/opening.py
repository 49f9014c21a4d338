"""The TCP face for tests: who may read and act on it, with tokens that are known."""

from __future__ import annotations

from reconciler.config import HttpConfig
from reconciler.control.access import Access

KNOWN = "a token of some length"
ANY_PORT = HttpConfig(port=0)
NOW = 1_790_000_000.0


def access(acting: str = "", *, delay: float = 0.0) -> Access:
    """Always with the same tokens; wrong ones are answered at once."""
    return Access(b"k" * 32, lambda: NOW, acting, delay=delay)


def shown(token: str = access().token("read")) -> dict[str, str]:
    """Headers of those who may read; or who show another token."""
    return {"Authorization": f"Bearer {token}"}
