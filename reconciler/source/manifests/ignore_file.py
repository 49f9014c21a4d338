"""Which files of a repository are meant for others: dot files, and what `.reconcilerignore` names."""

from __future__ import annotations

import pathspec

from reconciler.source.manifests.revision_files import Oddity

IGNORE_FILE = ".reconcilerignore"
"""At the top of the folder of manifests, in the syntax of `.gitignore`."""
MOST_BYTES = 16 * 1024
MOST_PATTERNS = 100
"""Each is held against each path."""


class Ignored:
    """Paths are relative to the folder of manifests, with `/` between their parts."""

    def __init__(self, content: bytes = b"") -> None:
        self.faults: list[tuple[int, str, str]] = []
        """Lines with what is wrong with them and what to do; a file with any is not used."""
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
                words = "is no pattern as .gitignore has them", "correct it, or begin it with #"
                self.faults.append((number, *words))
        return lines

    def file(self, path: str) -> bool:
        return len(self._spec) > 0 and self._spec.match_file(path)

    def folder(self, path: str) -> bool:
        return self.file(path + "/")

    def oddities(self, path: str) -> list[Oddity]:
        """What is wrong with the file at this path."""
        return [Oddity(path, message, hint, line) for line, message, hint in self.faults]


def is_hidden(name: str) -> bool:
    """Files and folders that begin with a dot are of other programs: .github, .gitlab-ci.yml."""
    return name.startswith(".")
