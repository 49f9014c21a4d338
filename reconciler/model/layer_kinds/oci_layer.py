"""The layer kind `oci`: an image of a registry, a layout, or an archive."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from reconciler.image_references import DIGEST, ImageReference, allowed, parse_reference
from reconciler.model.fields import Face, FieldConflict, matching, one_of, refuse
from reconciler.model.host_paths import host_path_refusal
from reconciler.model.layer_kinds.described_source import LayerPolicy, StoreFormat
from reconciler.model.quantity import refusal

Resolve = Literal["commit", "daily", "manual"]
"""When a tag is looked up: at each new commit; also once a day; only when a person asks."""
EXAMPLE = "registry.example.org/acme/app@sha256:..."
WHO = "the host's policy"


def _a_reference(value: str) -> str:
    found = parse_reference(value)
    if found is None:
        raise refusal("is not a reference of an image", f"write {EXAMPLE}")
    return value


def _a_path(value: str) -> str:
    if value.startswith("/") and {"", ".", ".."} & set(value.split("/")[1:]):
        raise refusal("is not a plain absolute path", "write it without `..`, `//` and a last `/`")
    return value


Reference = Annotated[str, Field(max_length=1024), AfterValidator(_a_reference)]
ImagePath = Annotated[
    str,
    matching(r"^[A-Za-z0-9._/+-]+$", "letters, digits and ._/+-", max_length=1024),
    AfterValidator(_a_path),
]
Platform = Annotated[
    str,
    matching(r"^linux/[a-z0-9]{1,32}(/[a-z0-9.]{1,32})?$", "write linux/amd64, or linux/arm64/v8"),
]


class Oci(Face):
    """An image as container tools make it: its layers, which other images share, and one of ours."""

    image: Reference | None = Field(
        default=None,
        description=f"An image of a registry, by digest: `{EXAMPLE}`; or by a tag, with `resolve`. The"
        " host's `policy.registries` must allow it.",
    )
    resolve: Resolve | None = Field(
        default=None,
        description="When the registry is asked what the tag means: at each new commit; also once a"
        " day; or only by `reconciler images resolve`. The digest that it meant is recorded.",
    )
    layout: ImagePath | None = Field(
        default=None,
        description="A folder that is an OCI image layout: of the repository, relative to the manifest;"
        " or, with `digest`, of the host, where its `policy.host_paths` allows.",
    )
    archive: ImagePath | None = Field(
        default=None,
        description="A file as `docker save`, or `skopeo copy` to oci-archive, writes it: of the"
        " repository, in a folder of its own; or, with `sha256`, of the host, where its"
        " `policy.host_paths` allows.",
    )
    digest: Annotated[
        str | None, matching(rf"^{DIGEST}$", "sha256: and 64 lower-case hex digits")
    ] = Field(default=None, description="Of a layout: the digest of the image in it.")
    sha256: Annotated[str | None, matching(r"^[0-9a-f]{64}$", "64 lower-case hex digits")] = Field(
        default=None, description="Of an archive on the host: what `sha256sum` prints for it."
    )
    platform: Platform = Field(
        default="linux/amd64", description="Which image, where there is one for each of several."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {"image": self.image, "layout": self.layout, "archive": self.archive}
        one_of(
            given,
            "an image",
            f"{{image: {EXAMPLE}}}, {{layout: ./app}} or {{archive: ./app/app.tar}}",
        )
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[FieldConflict]:
        yield from self._tag_faults()
        if self.digest is not None and self.layout is None:
            yield FieldConflict(("digest",), "belongs to a layout", "remove it")
        if self.sha256 is not None and (self.archive is None or not _of_host(self.archive)):
            yield FieldConflict(("sha256",), "belongs to an archive on the host", "remove it")
        if self.layout is not None and _of_host(self.layout) and self.digest is None:
            yield FieldConflict(
                ("layout",), "has no digest, and a folder of the host may change",
                "write `digest`: that of the image, which the layout's index.json has",
            )  # fmt: skip
        if self.archive is not None and _of_host(self.archive) and self.sha256 is None:
            yield FieldConflict(
                ("archive",), "has no sha256, and a file of the host may change",
                "write `sha256`: what `sha256sum` prints for it",
            )  # fmt: skip
        if self.archive is not None and not posixpath.dirname(posixpath.normpath(self.archive)):
            yield FieldConflict(
                ("archive",), "has no folder of its own, which is part of the layer",
                "move it into one: ./app/app.tar",
            )  # fmt: skip

    def _tag_faults(self) -> Iterator[FieldConflict]:
        reference = parse_reference(self.image or "")
        if reference is None or reference.digest:
            if self.resolve is not None:
                yield FieldConflict(
                    ("resolve",), "belongs to an image that is named by a tag", "remove it"
                )
        elif not reference.tag:
            yield FieldConflict(
                ("image",),
                "has neither a digest nor a tag",
                "add @sha256:..., or :TAG and `resolve`",
            )
        elif self.resolve is None:
            yield FieldConflict(
                ("image",), "has no digest, and a tag may mean another image tomorrow",
                "add the digest: @sha256:..., which `skopeo inspect docker://IMAGE` shows; or say when"
                " the tag is looked up: `resolve: commit`, `daily` or `manual`",
            )  # fmt: skip

    def source(self) -> OciSource:
        """What it is made of, before its folder is resolved."""
        reference = parse_reference(self.image or "") or ImageReference("", self.digest or "")
        return OciSource(
            platform=self.platform,
            repository=reference.repository,
            digest=reference.digest,
            layout=self.layout or "",
            archive=self.archive or "",
            sha256=self.sha256 or "",
            tag=reference.tag,
            resolve=self.resolve,
        )


@dataclass(frozen=True, slots=True)
class OciSource:
    """An image; which of `repository`, `layout` and `archive` is set says where it is had from."""

    platform: str
    """Operating system, architecture and perhaps variant: `linux/amd64`."""
    repository: str = ""
    """`registry.example.org/acme/app`."""
    digest: str = ""
    """`sha256:...` of its manifest, or of the index of several platforms; of a registry's image empty only
    while it is unknown what its tag means."""
    layout: str = ""
    archive: str = ""
    """Paths of the host if they are absolute, else of the repository, relative to the manifest."""
    sha256: str = ""
    """Of an archive on the host, in hex."""
    tree: str = ""
    """The id of the content of the folder that has the layout or the archive, if that is of the repository."""
    tag: str = ""
    """By which the manifest names it in place of a digest."""
    resolve: Resolve | None = None
    """When the tag is looked up."""
    kind: Literal["oci"] = "oci"
    brings_init: ClassVar[bool] = True
    default_format: ClassVar[StoreFormat] = "squashfs"
    needs_contract: ClassVar[int] = 2

    @property
    def title(self) -> str:
        if self.repository:
            tag, digest = (
                f":{self.tag}" if self.tag else "",
                f"@{self.digest[:19]}" if self.digest else "",
            )
            return f"oci {self.repository}{tag}{digest}"
        return f"oci {self.layout or self.archive}"

    @property
    def folders(self) -> tuple[str, ...]:
        place = self.layout or posixpath.dirname(self.archive)
        return () if not place or _of_host(place) else (place,)

    def resolved(self, ids: tuple[str, ...], /) -> OciSource:
        return replace(self, tree=ids[0]) if ids else self

    @property
    def key_inputs(self) -> Mapping[str, str]:
        """What says what the image is: a digest means the same image wherever it is had from."""
        asked = {"kind": self.kind, "platform": self.platform}
        if self.digest:
            return {**asked, "digest": self.digest}
        if self.tag:  # nothing has this key until it is known what the tag means
            return {**asked, "tag": f"{self.repository}:{self.tag}"}
        if self.sha256:
            return {**asked, "archive": self.sha256}
        if self.archive:
            return {**asked, "tree": self.tree, "file": posixpath.basename(self.archive)}
        return {**asked, "tree": self.tree}

    def refusal(self, policy: LayerPolicy, /) -> FieldConflict | None:
        if self.repository and not allowed(self.repository, policy.registries):
            return FieldConflict(
                ("image",), f"{self.repository} is not allowed by {WHO}",
                f"policy.registries allows: {', '.join(policy.registries) or 'none'}",
            )  # fmt: skip
        field, path = ("layout", self.layout) if self.layout else ("archive", self.archive)
        if _of_host(path):
            return host_path_refusal(field, path, policy.host_paths)
        return None


def _of_host(path: str) -> bool:
    return path.startswith("/")
