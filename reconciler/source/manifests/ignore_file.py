"""Files of a repository that are not for us: dot files, and those that `.reconcilerignore` names."""

from __future__ import annotations

import pathspec

from reconciler.source.manifests.revision_files import Oddity

IGNORE_FILE = ".reconcilerignore"
"""In the top folder of the manifests; has the syntax of `.gitignore`."""
MOST_BYTES = 16 * 1024
MOST_PATTERNS = 100
"""Patterns of the file; each is matched against every path."""


class Ignored:
    """The patterns of an ignore file.

    Paths are relative to the folder of manifests, with `/` between their parts.
    """

    def __init__(self, content: bytes = b"") -> None:
        self.faults: list[tuple[int, str, str]] = []
        """Line, message and hint of each fault; a file with faults ignores nothing."""
        lines = self._lines(content)
        self._spec = pathspec.GitIgnoreSpec.from_lines([] if self.faults else lines)

    def _lines(self, content: bytes) -> list[str]:
        if len(content) > MOST_BYTES:
            self.faults.append((1, f"is larger than {MOST_BYTES >> 10} KiB", "name folders"))
            return []
        try:
            lines = content.decode("utf-8").splitlines()
        except UnicodeDecodeError:
            self.faults.append((1, "is not UTF-8", "save the file as UTF-8"))
            return []
        if sum(bool(line.strip()) for line in lines) > MOST_PATTERNS:
            self.faults.append((1, f"has more than {MOST_PATTERNS} lines", "name folders"))
        for number, line in enumerate(lines, 1):
            try:
                pathspec.GitIgnoreSpec.from_lines([line])
            except ValueError:
                words = "is not a pattern of .gitignore's syntax", "correct it, or begin it with #"
                self.faults.append((number, *words))
        return lines

    def file(self, path: str) -> bool:
        """Whether a file is ignored."""
        return len(self._spec) > 0 and self._spec.match_file(path)

    def folder(self, path: str) -> bool:
        """Whether a folder is ignored, with everything below it."""
        return self.file(path + "/")

    def oddities(self, path: str) -> list[Oddity]:
        """The faults of the file, which is at this path, as refused entries."""
        return [Oddity(path, message, hint, line) for line, message, hint in self.faults]


def is_hidden(name: str) -> bool:
    """Whether a name begins with a dot: such files belong to other programs (.github, .gitlab-ci.yml)."""
    return name.startswith(".")
