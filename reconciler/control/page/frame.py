"""What every page has around its pieces, and what a page is made of."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import urlencode

from reconciler.control.page.html import Html, h

PLACES = {"/": "Fleet", "/commits": "Commits", "/metrics": "metrics", "/api/status": "JSON"}
ASSETS = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def asset(name: str) -> bytes:
    return (files(__package__) / "assets" / name).read_bytes()


STAMPS = {name: hashlib.sha256(asset(name)).hexdigest()[:12] for name in ASSETS}
"""In the address of an asset: it may be kept for ever, and a new version has another address."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """A page in parts that change one by one, each an element with its id."""

    title: str
    shape: tuple[str, ...]
    """The ids within `body` in their order; while it stays, parts may be replaced alone."""
    parts: dict[str, Html]
    body: Html
    """All of it; the parts are within."""

    @property
    def stamp(self) -> str:
        return hashlib.sha256((self.title + self.body).encode()).hexdigest()[:16]


def changes(old: Pieces | None, new: Pieces) -> dict[str, str]:
    """Elements by id that make the old page the new one."""
    if old is None or old.shape != new.shape:
        return {"main": main(new), "title": title(new)}
    changed = {name: str(part) for name, part in new.parts.items() if old.parts[name] != part}
    if old.title != new.title:
        changed["title"] = title(new)
    return changed


def main(pieces: Pieces) -> Html:
    return h("main", pieces.body, id="main", tabindex="-1")


def title(pieces: Pieces) -> Html:
    return h("title", pieces.title, id="title")


def document(
    pieces: Pieces, *, events: Mapping[str, str] | None, here: str = "", more: Html | None = None
) -> Html:
    """The whole page; with `events` it stays alive by that query. `more` is never replaced."""
    address = (
        f"/events?{urlencode({**events, 'seen': pieces.stamp})}" if events is not None else None
    )
    body = h(
        "body",
        h("a", "Skip to the content", href="#main", class_="skip"),
        _top(here, live=address is not None),
        main(pieces),
        more,
        data_events=address,
    )
    return _document(title(pieces), body)


def sign_in_document() -> Html:
    """The page of those who have shown no token yet: it holds nothing, not even the host's name."""
    field = h(
        "input", type="password", name="token", required=True, autocomplete="current-password"
    )
    form = h(
        "form", h("label", "Token ", field), h("button", "Sign in"), method="post", action="/login"
    )
    why = h("p", "On the host, ", h("code", "reconciler token"), " says one that reads; the file that "
            "http.token_file names has the one that acts.", class_="none")  # fmt: skip
    without = h("noscript", h("p", "This page needs its script, which keeps the session. ",
                              "Without it, use the commands on the host."))  # fmt: skip
    inside = h("main", h("h1", "Sign in"), form, why, without, id="main", tabindex="-1")
    return _document(
        h("title", "Sign in - microVMs", id="title"), h("body", inside, data_sign_in=True)
    )


def _document(titled: Html, body: Html) -> Html:
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        titled,
        h("link", rel="icon", href=_address("icon.svg")),
        h("link", rel="stylesheet", href=_address("page.css")),
        h("script", src=_address("page.js"), defer=True),
    )
    return Html("<!doctype html>\n" + h("html", head, body, lang="en"))


def _top(here: str, *, live: bool) -> Html:
    name = f"microVMs of {socket.gethostname()}"
    state = h("span", "as it was when loaded", id="live", role="status") if live else None
    links = [
        h("a", text, href=address, aria_current="page" if address == here else None)
        for address, text in PLACES.items()
    ]
    return h("header", h("span", name, class_="name"), state, h("nav", *links, aria_label="Places"))


def _address(name: str) -> str:
    return f"/page/{STAMPS[name]}/{name}"
