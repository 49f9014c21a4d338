"""Patterns of URLs that a host allows, as `https://images.example.org/builds/*`.

A pattern names one server and its port, so that no part of a path can pass for a server. In the path
`*` stands for any characters, `/` included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, Field

PATTERN = re.compile(
    r"(https://(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?"
    r"|http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?)/[!-~]*"
)
"""Without TLS only servers on this host: elsewhere anyone on the way could see what is fetched."""
PORTS = {"https": 443, "http": 80}
ANY_BELOW = "*."
"""Begins a pattern's host: every host below that domain, and not the domain itself."""


def checked(pattern: str) -> str:
    """The pattern, if it is one. Raises ValueError."""
    if not PATTERN.fullmatch(pattern):
        raise ValueError(
            "is no pattern of URLs: write https://SERVER/*; http:// is for 127.0.0.1 and localhost only"
        )
    return pattern


UrlPattern = Annotated[str, Field(max_length=2048), AfterValidator(checked)]


def allowed(url: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns has the URL's server, and matches its path and query."""
    asked = _split(url)
    return asked is not None and any(_matches(asked, pattern) for pattern in patterns)


def _matches(asked: SplitResult, pattern: str) -> bool:
    form = _split(pattern)
    if form is None or asked.scheme != form.scheme or _port(asked) != _port(form):
        return False
    return _host_matches(asked.hostname or "", form.hostname or "") and fnmatchcase(
        _target(asked), _target(form)
    )


def _host_matches(host: str, form: str) -> bool:
    if form.startswith(ANY_BELOW):
        return host.endswith(form[1:]) and len(host) >= len(form)
    return host == form


def _split(url: str) -> SplitResult | None:
    """The parts of a URL that can only be read in one way; None for any other."""
    if not url.isascii() or not url.isprintable() or {"\\", " ", "@"} & set(url):
        return None
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError:
        return None
    # Servers resolve these, encoded ones too, and the pattern would be of another path.
    dots = {".", ".."} & set(unquote(found.path).split("/"))
    if dots or found.scheme not in PORTS or not found.hostname or port == 0:
        return None
    return found


def _port(parts: SplitResult) -> int:
    return parts.port or PORTS[parts.scheme]


def _target(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path
