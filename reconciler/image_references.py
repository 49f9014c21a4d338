"""References of OCI images, as manifests and the config write them: `registry.example.org/acme/app@sha256:...`.

Pure, and below everything. The grammar is that of container tools, without what is only guessed there:
a registry is always named, and neither schemes nor credentials are part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_PORT = r":[0-9]{1,5}"
REGISTRY = rf"(?:{_LABEL}(?:\.{_LABEL})+(?:{_PORT})?|localhost(?:{_PORT})?|{_LABEL}{_PORT})"
"""A registry has a dot or a port, or is `localhost`: else it would be a part of a path."""
PATH_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
DIGEST = r"sha256:[0-9a-f]{64}"
MOST_CHARACTERS = 512
_REFERENCE = re.compile(
    rf"(?P<repository>{REGISTRY}(?:/{PATH_PART})+)"
    rf"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@(?P<digest>{DIGEST}))?"
)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image of a registry. Its digest says what it is, and its repository where it can be had."""

    repository: str
    """With its registry: `registry.example.org/acme/app`."""
    digest: str
    """`sha256:` and 64 hex digits; empty: at most a tag was named."""
    tag: str = ""
    """As people name a version; empty beside a digest, which says more."""

    def __str__(self) -> str:
        return (
            f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"
        )


def parse_reference(text: str) -> ImageReference | None:
    """A reference, of which a tag beside a digest is dropped; None: it is none."""
    found = _REFERENCE.fullmatch(text) if len(text) <= MOST_CHARACTERS else None
    if found is None:
        return None
    digest = found["digest"] or ""
    return ImageReference(found["repository"], digest, "" if digest else found["tag"] or "")


def registry_of(repository: str) -> str:
    """The registry's host, and its port if it has one."""
    return repository.split("/", 1)[0]


def allowed(repository: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns names this repository; `*` is any text, with slashes."""
    return any(fnmatchcase(repository, pattern) for pattern in patterns)
