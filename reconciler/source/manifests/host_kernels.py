"""Kernels that manifests name by a path on the host, below the folders that the policy allows."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from reconciler.model.host_paths import host_path_refusal
from reconciler.model.image import KernelSpec, PathKernel
from reconciler.source.manifests.convert import HostFiles
from reconciler.source.manifests.file_digests import FileDigests
from reconciler.source.manifests.revision_files import FileRefused
from reconciler.untrusted_file import open_beneath

MOST_BYTES = 512 * 1024 * 1024
"""Size of the largest kernel or initrd."""


class HostKernels:
    """Specs of kernels, of the content of their files."""

    def __init__(self, folders: Sequence[str]) -> None:
        """`folders`: those below which the policy allows files."""
        self._folders = tuple(folders)
        self._digests = FileDigests()

    def spec(self, files: HostFiles) -> KernelSpec:
        """The kernel spec of two files. Raises FileRefused."""
        source = PathKernel(
            files.kernel, files.initrd, self._digest(files.kernel), self._digest(files.initrd)
        )
        return KernelSpec.of(files.kernel, source)

    def _digest(self, path: str) -> str:
        if (refused := host_path_refusal("kernel", path, self._folders)) is not None:
            raise FileRefused(refused.message, refused.hint)
        try:
            descriptor = open_beneath(path)
        except OSError as error:
            raise FileRefused(
                f"{path[:80]}: {error.strerror}", "name a regular file; links are not followed"
            ) from error
        try:
            return self._digest_of(path, descriptor)
        finally:
            os.close(descriptor)

    def _digest_of(self, path: str, descriptor: int) -> str:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            raise FileRefused(
                f"{path[:80]} is not a regular file of at most {MOST_BYTES >> 20} MiB",
                "choose another",
            )
        return self._digests.of(path, descriptor)
