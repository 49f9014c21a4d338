"""What is known of a layer's contents once it was built: versions of packages, what a container's image says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.model.machine import Protocol


@dataclass(frozen=True, slots=True, order=True)
class ExposedPort:
    """A port on which the program of an image listens, as the image says."""

    port: int
    protocol: Protocol = "tcp"

    def __str__(self) -> str:
        return f"{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class ImageHealthcheck:
    """A check that an image asks to be run inside of its container. Seconds; 0: not said."""

    test: tuple[str, ...]
    """Its first word says how: CMD, with arguments, or CMD-SHELL, with one line for a shell. Untrusted."""
    interval: float = 0.0
    timeout: float = 0.0
    start_period: float = 0.0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class LayerContents:
    """Of one layer; what is empty is not known, or the layer has none. All texts are untrusted."""

    packages: Mapping[str, str] = field(default_factory=dict)
    """The version of every package that is installed, by name."""
    digest: str = ""
    """`sha256:...` of the manifest of an OCI image."""
    program: str = ""
    """What an OCI image runs, quoted as for a shell."""
    exposed: tuple[ExposedPort, ...] = ()
    """Sorted."""
    healthcheck: ImageHealthcheck | None = None


NOTHING_KNOWN = LayerContents()


def package_changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """`nginx 1.22.1-9 -> 1.22.1-10`, `+ brotli 1.0`, `- geoip 2.1`: one for each that differs, by name."""
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if new is None:
            yield f"- {name} {old}"
        else:
            yield f"+ {name} {new}" if old is None else f"{name} {old} -> {new}"
