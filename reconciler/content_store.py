"""Content that images are made of, by its id: a source keeps it, and the store of images builds from it.

And what every build from it has: errors that name it, and a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

from reconciler.erofs.recipe import ErofsRecipe
from reconciler.errors import BuildFailed, BuildUnavailable


class ContentStore(Protocol):
    """The content of a source beside its manifests: immutable folders of files, each with an id.

    For git an id is that of a tree. Ids come from resolved manifests, so the source that resolved them can also
    export them.
    """

    async def export(self, content: str, folder: Path) -> int:
        """Write the content as files into `folder`, which does not exist yet; returns the files' bytes.

        The same id gives the same names, bytes and modes (0755 for folders and programs, 0644 for other
        files), anywhere. Symlinks are data: none is followed. Times and owners are the writer's.

        Raises BuildFailed when this content can never become files, with the path at fault, and
        BuildUnavailable when it cannot be had now. Cancelling it ends the work; what was written by then
        stays, and is the caller's to remove.
        """
        ...

    async def export_image(self, content: str, image: Path, recipe: ErofsRecipe) -> int:
        """Write the content as an image of erofs, a file that does not exist yet; returns the files' bytes.

        The image holds what `export` writes but for `recipe.without`; all belongs to root and has no time.
        Raises as `export`, and BuildUnavailable of kind `missing-program` on a host without liblz4.
        """
        ...


@contextlib.contextmanager
def named(title: str) -> Iterator[None]:
    """Errors of a build say what was built."""
    try:
        yield
    except (BuildFailed, BuildUnavailable) as error:
        same = type(error)(f"{title}: {error}", hint=error.hint)
        same.kind = error.kind
        raise same from error


@contextlib.asynccontextmanager
async def within(seconds: float, title: str) -> AsyncIterator[None]:
    """Bounds a build by the wall clock. Raises BuildUnavailable of kind `deadline` past it."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise BuildUnavailable(
            f"{title}: was not done after {seconds:g} s",
            kind="deadline",
            hint="is the host overloaded? it is tried again",
        ) from error
