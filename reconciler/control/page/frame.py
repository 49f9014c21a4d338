"""What every page has around its pieces, and what a page is made of."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import urlencode

from markupsafe import Markup

from reconciler.control.page.rendering import macro, render

PLACES = {
    "/": "Fleet", "/commits": "Commits", "/images": "Images", "/metrics": "metrics",
    "/api/status": "JSON",
}  # fmt: skip
ASSETS = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def asset(name: str) -> bytes:
    """The bytes of a file that pages refer to, by its name in ASSETS."""
    return (files(__package__) / "assets" / name).read_bytes()


STAMPS = {name: hashlib.sha256(asset(name)).hexdigest()[:12] for name in ASSETS}
"""In the address of an asset: it may be kept for ever, and a new version has another address."""


ADDRESSES = {name: f"/page/{stamp}/{name}" for name, stamp in STAMPS.items()}


@dataclass(frozen=True, slots=True)
class Pieces:
    """A page in parts that change one by one, each an element with its id."""

    title: str
    shape: tuple[str, ...]
    """The ids within `body` in their order; while it stays, parts may be replaced alone."""
    parts: dict[str, Markup]
    body: Markup
    """All of it; the parts are within."""

    @property
    def stamp(self) -> str:
        """A short hash: pages with the same stamp look the same."""
        return hashlib.sha256((self.title + self.body).encode()).hexdigest()[:16]


def changes(old: Pieces | None, new: Pieces) -> dict[str, str]:
    """Elements by id that make the old page the new one."""
    if old is None or old.shape != new.shape:
        return {"main": main(new), "title": title(new)}
    changed = {name: str(part) for name, part in new.parts.items() if old.parts[name] != part}
    if old.title != new.title:
        changed["title"] = title(new)
    return changed


def main(pieces: Pieces) -> Markup:
    """The element that holds all of the page."""
    return macro("frame.html", "main", pieces.body)


def title(pieces: Pieces) -> Markup:
    """The element that holds the page's title."""
    return macro("frame.html", "title", pieces.title)


def document(
    pieces: Pieces, *, events: Mapping[str, str] | None, here: str = "", more: Markup | None = None
) -> str:
    """The whole page; with `events` it stays alive by that query. `more` is never replaced."""
    address = (
        f"/events?{urlencode({**events, 'seen': pieces.stamp})}" if events is not None else None
    )
    return render(
        "page.html", pieces=pieces, addresses=ADDRESSES, host=socket.gethostname(), places=PLACES,
        here=here, events=address, beside=more,
    )  # fmt: skip


def sign_in_document() -> str:
    """The page of people who have shown no token yet."""
    return render("sign_in.html", addresses=ADDRESSES)
