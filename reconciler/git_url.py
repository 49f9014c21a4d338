"""URLs of repositories: whether they may be used, and how to show them without credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

SCP_LIKE = re.compile(r"^[^/:]+:(?!//)")
"""user@host:path, which git treats as ssh."""
PORT = re.compile(r":[0-9]+$")
MASK = "***"


PLAIN = ("http", "git")
SSH = ("ssh", "git+ssh", "ssh+git")


@dataclass(frozen=True, slots=True)
class URLFault:
    """Why a URL and its settings are refused."""

    key: str
    """The key in the table `source`."""
    message: str
    hint: str


def fault_of(url: str, user: str, token_file: str, *, plain: bool) -> URLFault | None:
    """The fault of a source's URL and credentials; None if there is none. `plain`: unencrypted is allowed."""
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower() if separator else ""
    userinfo, at, _ = rest.split("/", 1)[0].rpartition("@")
    if scheme == "file" and not rest.startswith(("/", "localhost/")):
        return URLFault(
            "url", "names a host behind file://", "write file:///FOLDER, or the path alone"
        )
    if scheme not in ("", "file", "https", *PLAIN, *SSH):
        return URLFault(
            "url", f"{scheme[:20]}:// is not supported",
            "use https://, ssh://, file:// or a path of this host",
        )  # fmt: skip
    if scheme in ("https", *PLAIN) and at:
        return URLFault(
            "url", "contains a user or password, which logs and pages would show",
            "put the token or password into a file that source.token_file names, the user into source.user",
        )  # fmt: skip
    if scheme in SSH and ":" in userinfo:
        return URLFault("url", "contains a password", "use a key: source.ssh_key names its file")
    if scheme in PLAIN and not plain:
        return URLFault(
            "url", f"{scheme}:// is not encrypted: anyone on the way can change what runs here",
            "use https:// or ssh; or allow it with source.allow_plaintext = true",
        )  # fmt: skip
    if token_file and scheme != "https":
        return URLFault(
            "token_file", "is only sent over https://", "correct source.url, or remove it"
        )
    if user and not token_file:
        return URLFault(
            "user", "goes with source.token_file",
            "set that too; the user of an ssh repository is part of source.url: user@host:path",
        )  # fmt: skip
    return None


def is_path(url: str) -> bool:
    """Whether it is a path of this host and not a URL."""
    return "://" not in url and not SCP_LIKE.match(url)


def local_path(url: str) -> Path | None:
    """The folder of a repository on this host; None for a remote one."""
    if url.startswith("file://"):
        return Path(unquote(urlsplit(url).path))
    return Path(url) if is_path(url) else None


def redacted_url(url: str) -> str:
    """The URL for display: without user, password and query; ssh URLs keep the user."""
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
    """A message with the URL's credentials masked."""
    for secret in _secrets_of(url):
        text = text.replace(secret, MASK)
    return text.replace(url, redacted_url(url))


def _secrets_of(url: str) -> list[str]:
    _, separator, rest = url.partition("://")
    userinfo, at, _ = rest.split("/", 1)[0].rpartition("@")
    if not separator or not at:
        return []
    user, _, password = userinfo.partition(":")
    secrets = [password] if url.startswith("ssh:") else [password, user]
    return sorted({s for raw in secrets for s in (raw, unquote(raw)) if s}, key=len, reverse=True)


def origin_of(url: str) -> tuple[str, str, str]:
    """Scheme, host and port: a secret for one origin must not be sent to another."""
    scheme, separator, rest = url.partition("://")
    place = rest.split("/", 1)[0].rpartition("@")[2] if separator else ""
    found = PORT.search(place)
    port = found[0][1:] if found else {"https": "443", "http": "80"}.get(scheme.lower(), "")
    return scheme.lower() if separator else "ssh", host_of(url), port


def host_of(url: str) -> str:
    """The server of a URL in lower case; empty if it has none."""
    _, separator, rest = url.partition("://")
    if not separator:
        rest = url.replace(":", "/", 1)
    place = rest.split("/", 1)[0].rpartition("@")[2]
    return place.rpartition(":")[0].lower() if PORT.search(place) else place.lower()
