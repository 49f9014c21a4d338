"""What a build notes of a layer's contents, in the `about` of its composition, and what is read of it.

A note is made of what others wrote: it is bounded when it is made, and read as if anyone had written it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from reconciler.image.oci.image_manifest import Healthcheck, ImageConfig
from reconciler.model.image_contents import ExposedPort, ImageHealthcheck, LayerContents
from reconciler.model.machine import Protocol

LINEAGE = "lineage"
"""Of entries with the same one, each was made to have newer versions of packages than the one before."""
DIGEST, PROGRAM, EXPOSED, HEALTHCHECK = "digest", "program", "exposed", "healthcheck"
PROTOCOLS: Mapping[str | None, Protocol] = {None: "tcp", "tcp": "tcp", "udp": "udp"}
PORT = re.compile(r"([1-9][0-9]{0,4})(?:/([a-z]+))?")
HIGHEST_PORT = 65_535
MOST_PORTS = 64
MOST_CHARACTERS = 4096
"""Of a program and of a health check; of a longer one there is the beginning, or nothing."""
MOST_RETRIES = 1000


def about_image(digest: str, program: str, contents: LayerContents) -> dict[str, str]:
    """What is noted of an OCI image."""
    found = {DIGEST: digest, PROGRAM: program[:MOST_CHARACTERS]}
    if contents.exposed:
        found[EXPOSED] = " ".join(map(str, contents.exposed))
    if contents.healthcheck is not None:
        found[HEALTHCHECK] = json.dumps(asdict(contents.healthcheck))
    return found


def contents_of(about: Mapping[str, str]) -> LayerContents:
    """What a note says. Raises nothing."""
    if LINEAGE in about:
        return LayerContents({name: of for name, of in about.items() if name != LINEAGE})
    return LayerContents(
        digest=about.get(DIGEST, ""),
        program=about.get(PROGRAM, ""),
        exposed=_ports(about.get(EXPOSED, "").split()),
        healthcheck=_noted_check(about.get(HEALTHCHECK, "")),
    )


def contents_of_config(config: ImageConfig) -> LayerContents:
    """What an image's config says of how it is reached and asked."""
    return LayerContents(
        exposed=_ports(config.exposed_ports), healthcheck=_check(config.healthcheck)
    )


def _ports(texts: Iterable[str]) -> tuple[ExposedPort, ...]:
    """`80/tcp` each, and `80` means the same; what is no port is left out."""
    return tuple(sorted(set(_each_port(texts)))[:MOST_PORTS])


def _each_port(texts: Iterable[str]) -> Iterator[ExposedPort]:
    for text in texts:
        found = PORT.fullmatch(text)
        if found and int(found[1]) <= HIGHEST_PORT and found[2] in PROTOCOLS:
            yield ExposedPort(int(found[1]), PROTOCOLS[found[2]])


def _check(found: Healthcheck | None) -> ImageHealthcheck | None:
    """The check, if it runs something. One that is too long has no more than how it is run."""
    if found is None or len(found.test) < 2:  # noqa: PLR2004 - how, and what
        return None
    short = sum(map(len, found.test)) <= MOST_CHARACTERS
    return ImageHealthcheck(
        test=found.test if short else found.test[:1],
        interval=found.interval,
        timeout=found.timeout,
        start_period=found.start_period,
        retries=min(found.retries, MOST_RETRIES),
    )


def _noted_check(text: str) -> ImageHealthcheck | None:
    if not text:
        return None
    try:
        said: dict[str, Any] = json.loads(text)
        return ImageHealthcheck(
            test=tuple(str(word) for word in said["test"]),
            interval=float(said["interval"]),
            timeout=float(said["timeout"]),
            start_period=float(said["start_period"]),
            retries=int(said["retries"]),
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
