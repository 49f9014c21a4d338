"""The layer kind `debian`: packages of the distribution on a base with systemd, which all VMs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from reconciler.model.fields import Face, FieldConflict, HostPath, matching, refuse, repeated
from reconciler.model.host_paths import host_path_refusal
from reconciler.model.layer_kinds.described_source import LayerPolicy, StoreFormat
from reconciler.model.names import digest_of

SNAPSHOTS = "https://snapshot.debian.org/archive/debian"
"""Where a snapshot is looked for unless a mirror is named."""

# Whatever these allow, apt and mmdebstrap take as a name: never as an option, a path, a pattern or a
# removal, which for apt is a name with a last dash.
SUITE = r"^[a-z][a-z0-9-]{0,38}[a-z0-9]$"
PACKAGE = r"^[a-z0-9][a-z0-9.+-]{0,98}[a-z0-9.+]$"
MIRROR = r"^https?://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$"
SNAPSHOT = r"^20[0-9]{6}T[0-9]{6}Z$"
DATE = r"^20[0-9]{2}-[01][0-9]-[0-3][0-9]$"
MOST_PACKAGES = 256
NAMED = 3
"""Packages that a title has."""

Suite = Annotated[str, matching(SUITE, "a codename, as in bookworm", most=40)]
Component = Annotated[str, matching(SUITE, "main, contrib, non-free-firmware", most=40)]
PackageName = Annotated[
    str, matching(PACKAGE, "the name of a package, without a version", most=100)
]


class DebianPackages(Face):
    """Packages of Debian, or of a distribution made like it, on a base with systemd."""

    suite: Suite = Field(description="The release, by its codename.", examples=["bookworm"])
    packages: list[PackageName] = Field(
        default=[],
        max_length=MOST_PACKAGES,
        description="Packages beside the base, with what they depend on and nothing recommended.",
    )
    components: list[Component] = Field(
        default=["main"], min_length=1, max_length=8, description="Parts of the archive."
    )
    snapshot: Annotated[str, matching(SNAPSHOT, "a time in UTC, as in 20260101T000000Z")] | None = (
        Field(
            default=None,
            description="The archive as it was at that time, of `mirror` or of Debian's snapshots; the host's `policy.mirrors` must allow it.",
        )
    )
    mirror: (
        Annotated[str, matching(MIRROR, "http:// or https://, without a last /", max_length=256)]
        | None
    ) = Field(
        default=None,
        description="An archive that the host's `policy.mirrors` allows; none: that of the host's apt.",
    )
    keyring: HostPath | None = Field(
        default=None,
        description="A keyring of the host below `policy.host_paths`, whose keys sign the archive; none: the distribution's own.",
    )
    refresh: Annotated[str, matching(DATE, "a date, as in 2026-11-30")] | None = Field(
        default=None,
        description="Any date: versions stay as they were first resolved, and another date resolves the newest ones.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse(
            [*repeated(("packages",), self.packages), *repeated(("components",), self.components)]
        )
        return self

    def source(self) -> DebianSource:
        return DebianSource(
            suite=self.suite,
            packages=tuple(sorted(self.packages)),
            components=tuple(self.components),
            snapshot=self.snapshot or "",
            mirror=self.mirror or "",
            keyring=self.keyring or "",
            refresh=self.refresh or "",
        )


@dataclass(frozen=True, slots=True)
class DebianSource:
    """Packages on a base of the same archive; what is empty is the host's to choose."""

    suite: str
    packages: tuple[str, ...] = ()
    """Sorted: their order has no meaning."""
    components: tuple[str, ...] = ("main",)
    snapshot: str = ""
    mirror: str = ""
    keyring: str = ""
    refresh: str = ""
    kind: Literal["debian"] = "debian"
    brings_init: ClassVar[bool] = True
    folders: ClassVar[tuple[str, ...]] = ()
    default_format: ClassVar[StoreFormat] = "squashfs"
    needs_contract: ClassVar[int] = 2

    @property
    def title(self) -> str:
        named = " ".join(self.packages[:NAMED])
        hidden = len(self.packages) - NAMED
        more = f" and {hidden} more" if hidden > 0 else ""
        return f"debian {self.suite}{': ' if named else ''}{named}{more}"

    def resolved(self, _ids: tuple[str, ...], /) -> DebianSource:
        return self

    @property
    def key_inputs(self) -> Mapping[str, str]:
        packages = {"packages": " ".join(self.packages)} if self.packages else {}
        return {"kind": self.kind, **self._archive, **packages}

    @property
    def archive_id(self) -> str:
        """Names the archive that it is of: what comes of the same one may share a cache."""
        return digest_of(self._archive)

    @property
    def lineage(self) -> str:
        """Names what it is a version of: the same packages, of whatever time and archive."""
        return digest_of({"suite": self.suite, "packages": " ".join(self.packages)})

    @property
    def _archive(self) -> Mapping[str, str]:
        """What the base is made of, too."""
        chosen = {
            "snapshot": self.snapshot,
            "mirror": self.mirror,
            "keyring": self.keyring,
            "refresh": self.refresh,
        }
        return {
            "suite": self.suite,
            "components": " ".join(self.components),
            **{name: value for name, value in chosen.items() if value},
        }

    @property
    def base(self) -> DebianSource:
        """The same without packages: what it has in common with others."""
        return replace(self, packages=())

    def refusal(self, policy: LayerPolicy, /) -> FieldConflict | None:
        """Archives and keys that are not the host's own must be allowed by its policy."""
        named = self.mirror or (SNAPSHOTS if self.snapshot else "")
        if named and not any(_below(named, allowed) for allowed in policy.mirrors):
            return FieldConflict(
                ("mirror",) if self.mirror else ("snapshot",),
                f"{named} is not among this host's policy.mirrors",
                "leave it out to use the archive of the host's apt, or allow it there",
            )
        if self.keyring:
            return host_path_refusal("keyring", self.keyring, policy.host_paths)
        return None


def _below(named: str, allowed: str) -> bool:
    """Whether an address is the allowed one, or below it; whole names only."""
    allowed = allowed.rstrip("/")
    return ".." not in named.split("/") and (named == allowed or named.startswith(f"{allowed}/"))
