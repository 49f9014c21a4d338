"""Programs of the host's policy that make layers, named by their content when a manifest is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

from reconciler.config import ScriptConfig
from reconciler.model.layer_kinds.described_source import DescribedSource
from reconciler.model.layers import ProgramSource
from reconciler.source.manifests.file_digests import FileDigests
from reconciler.source.manifests.revision_files import FileRefused

MOST_BYTES = 512 * 1024 * 1024
EXECUTE = 0o111


class HostPrograms:
    """Digests of programs, by their name in the policy."""

    def __init__(self, scripts: Mapping[str, ScriptConfig]) -> None:
        self._scripts = scripts
        self._digests = FileDigests()

    def digests(self, sources: Iterable[DescribedSource]) -> tuple[str, ...]:
        """The sha256 of the program of each source that has one, in their order. Raises FileRefused."""
        return tuple(self.digest(one.run) for one in sources if isinstance(one, ProgramSource))

    def digest(self, name: str) -> str:
        """The sha256 of the program of this name, which the policy has. Raises FileRefused."""
        path = self._scripts[name].path
        try:
            # Links are followed: the host's owner wrote the path.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise FileRefused(
                f"policy.scripts.{name}: {path}: {error.strerror}",
                "put the program there, or correct the host's policy",
            ) from error
        try:
            return self._digest_of(name, path, descriptor)
        finally:
            os.close(descriptor)

    def _digest_of(self, name: str, path: str, descriptor: int) -> str:
        found = os.fstat(descriptor)
        program = stat.S_ISREG(found.st_mode) and found.st_mode & EXECUTE
        if not program or found.st_size > MOST_BYTES:
            raise FileRefused(
                f"policy.scripts.{name}: {path} is not an executable file of at most {MOST_BYTES >> 20} MiB",
                f"chmod +x {path}, or correct the host's policy",
            )
        return self._digests.of(path, descriptor)
