"""Addresses of repositories: which are local, and how they are shown without credentials."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

SCP_LIKE = re.compile(r"^[^/:]+:(?!//)")
"""user@host:path, which git takes for ssh."""
PORT = re.compile(r":[0-9]+$")
MASK = "***"


def local_path(url: str) -> Path | None:
    """The folder of a repository on this host; None for one that is elsewhere."""
    if url.startswith("file://"):
        return Path(unquote(urlsplit(url).path))
    if "://" in url or SCP_LIKE.match(url):
        return None
    return Path(url)


def redacted_url(url: str) -> str:
    """The address as it may be printed: no user, password or query; ssh keeps its user."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    rest = rest.split("?", 1)[0].split("#", 1)[0]
    userinfo, at, place = rest.rpartition("@")
    if not at:
        return f"{scheme}://{rest}"
    user = userinfo.split(":", 1)[0] if scheme == "ssh" else MASK
    return f"{scheme}://{user}@{place}"


def redacted_text(text: str, url: str) -> str:
    """A foreign message without the credentials of the address."""
    for secret in secrets_of(url):
        text = text.replace(secret, MASK)
    return text.replace(url, redacted_url(url))


def secrets_of(url: str) -> list[str]:
    _, separator, rest = url.partition("://")
    userinfo, at, _ = rest.split("/", 1)[0].rpartition("@")
    if not separator or not at:
        return []
    user, _, password = userinfo.partition(":")
    secrets = [password] if url.startswith("ssh:") else [password, user]
    return sorted({s for raw in secrets for s in (raw, unquote(raw)) if s}, key=len, reverse=True)


def host_of(url: str) -> str:
    """The server of an address, in lower case; empty when it has none."""
    _, separator, rest = url.partition("://")
    if not separator:
        rest = url.replace(":", "/", 1)
    place = rest.split("/", 1)[0].rpartition("@")[2]
    return place.rpartition(":")[0].lower() if PORT.search(place) else place.lower()
