"""What is asked of whoever makes an erofs image of content that it keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErofsRecipe:
    """The same recipe and content give the same bytes, with one version of liblz4."""

    uuid: str
    """32 hex digits, perhaps with dashes."""
    compress_from_bytes: int
    """Content of at least so many bytes is compressed by LZ4."""
    without: str = ""
    """Empty files of this name are left out."""
