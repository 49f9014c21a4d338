"""The page of the store: its images with their sizes, who shares them, and what may go."""

from __future__ import annotations

from markupsafe import Markup

from reconciler.control.page.frame import Pieces
from reconciler.control.page.rendering import BAD, BUSY, CALM, GOOD, join, macro
from reconciler.model.store_status import ImageState, ImageStatus, StoreReport, bytes_text

TEMPLATE = "images.html"
MOST_SHOWN = 300
"""Images on the page, the largest; `reconciler images ls` has all."""
LOOKS: dict[ImageState, tuple[str, str]] = {
    "used": (GOOD, "a guest runs on it, or is to"),
    "kept": (CALM, "only to roll back to"),
    "unused": (CALM, "nothing names it"),
    "missing": (BUSY, "built before its next use"),
    "broken": (BAD, "its bytes rotted: made again before its next use"),
}


def images_page(report: StoreReport) -> Pieces:
    """The store in figures, then its images."""
    store = report.store
    sums = [
        (state, *LOOKS[state], store.count(state), bytes_text(store.total(state)))
        for state in LOOKS
        if store.count(state)
    ]
    shared = (bytes_text(store.saved_bytes), store.vms) if store.saved_bytes else None
    parts = {
        "now": macro(TEMPLATE, "now", bytes_text(store.total()), sums, shared, store.warnings),
        "images": macro(TEMPLATE, "table", _rows(report), len(report.images) - MOST_SHOWN),
    }
    return Pieces("Images - microVMs", tuple(parts), parts, join(list(parts.values())))


def _rows(report: StoreReport) -> list[Markup]:
    inside: set[str] = set()
    rows = []
    for image in report.images[:MOST_SHOWN]:
        rows.append(_row(image, part=image.key in inside))
        inside.update(image.parts)
    return rows


def _row(image: ImageStatus, *, part: bool) -> Markup:
    kind = "part" if part else image.kind
    look = LOOKS[image.state][0]
    return macro(TEMPLATE, "row", image, kind, bytes_text(image.size_bytes), look)
