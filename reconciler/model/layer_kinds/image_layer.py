"""The layer kind `image`: a ready file system image, of the host or of a server, named by its content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from reconciler.git_url import redacted_url
from reconciler.model.fields import Face, FieldConflict, HostPath, matching, one_of
from reconciler.model.host_paths import host_path_refusal
from reconciler.model.layer_kinds.described_source import LayerPolicy, StoreFormat
from reconciler.url_patterns import allowed

ReadyFormat = Literal["erofs", "squashfs", "ext4"]
MOST_BYTES = 16 << 30
Sha256 = Annotated[
    str, matching(r"^[0-9a-f]{64}$", "64 lower-case hex digits, as `sha256sum` prints them")
]
ImageUrl = Annotated[
    str,
    matching(
        r"^https?://[^\s@\\#\x00-\x1f\x7f-\U0010ffff]+$",
        "an https:// URL without user, password and #",
        max_length=2048,
    ),
]


class ImagePlace(Face):
    """Where a file is, and which: what a ready layer and a disk have in common."""

    path: HostPath | None = Field(
        default=None,
        description="A file of the host; the host's policy must allow it (`host_paths`).",
    )
    url: ImageUrl | None = Field(
        default=None,
        description="Where to download it; the host's policy must allow it (`image_urls`).",
    )
    sha256: Sha256 = Field(description="Of the whole file; nothing else is accepted.")
    size: Annotated[int, Field(ge=1, le=MOST_BYTES)] | None = Field(
        default=None,
        description="Its bytes; with them a wrong or endless file is refused before it is stored.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {"path": self.path, "url": self.url}
        one_of(given, "the place of an image", "path: /srv/images/app.img, or a url")
        return self

    def file(self) -> ImageSource:
        """The file, whatever is in it."""
        return ImageSource(self.sha256, self.path or "", self.url or "", self.size or 0)


class ReadyImage(ImagePlace):
    """A ready image of a file system: a layer as it is, named by its content."""

    format: ReadyFormat | None = Field(
        default=None,
        description="What the file must be; none: as the file itself says.",
    )

    def source(self) -> ImageSource:
        return replace(self.file(), format=self.format or "")


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A ready image. Only its content is its identity: it may move to another place."""

    sha256: str
    path: str = ""
    """Of the host; else it has a `url`."""
    url: str = ""
    size: int = 0
    """Bytes; 0: not known before."""
    format: ReadyFormat | Literal[""] = ""
    """Empty: as the file says."""
    kind: Literal["image"] = "image"
    # A file that is not here yet cannot be asked. The guest's first process says so, if none has one.
    brings_init: ClassVar[bool] = True
    # It may be ext4, and may have any init.
    needs_contract: ClassVar[int] = 2
    folders: ClassVar[tuple[str, ...]] = ()
    default_format: ClassVar[StoreFormat] = "erofs"

    @property
    def title(self) -> str:
        return f"image {self.place}"

    @property
    def place(self) -> str:
        """Where it comes from, for people."""
        return self.path or redacted_url(self.url)

    def resolved(self, _ids: tuple[str, ...], /) -> ImageSource:
        return self

    @property
    def key_inputs(self) -> Mapping[str, str]:
        # One file is one image, whatever the format of a VM's other layers.
        return {"kind": self.kind, "sha256": self.sha256, "format": ""}

    def refusal(self, policy: LayerPolicy, /) -> FieldConflict | None:
        """The host's owner decides which files and servers images come from."""
        if self.url:
            if allowed(self.url, policy.image_urls):
                return None
            known = ", ".join(policy.image_urls) or "none"
            return FieldConflict(
                ("url",),
                f"{redacted_url(self.url)} is not allowed by the host's policy",
                f"policy.image_urls allows: {known}",
            )
        return host_path_refusal("path", self.path, policy.host_paths)
