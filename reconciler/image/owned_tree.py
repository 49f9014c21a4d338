"""The child that writes a folder as a tar with owners: `python -m reconciler.image.owned_tree FOLDER RULES TAR`.

A folder on disk cannot carry owners here: the daemon has no right to give files away, and git does not
know them. So they exist for the first time in the archive. RULES is a file of JSON: lists of path, user,
group and mode or null.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from reconciler.model.layer_kinds.tree_layer import OwnerRule, Owners

BAD_INPUT = 65
"""Exit status: a rule is about nothing; the output is the reason. EX_DATAERR."""


class BadRule(Exception):
    """A rule that is about nothing; the message names its path."""


def write_tar(folder: Path, rules: Sequence[OwnerRule], tar: BinaryIO) -> None:
    """Write everything below a folder, sorted and without times. Raises BadRule and OSError."""
    owners = Owners(rules)
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, found in _entries(os.fspath(folder)):
            entry = _entry(path.removeprefix(os.fspath(folder)) or "/", path, found, owners)
            if entry.isreg():
                with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:  # noqa: PTH123
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)
    for path in owners.unused:
        raise BadRule(f"owners: {path} is not in the folder")


def _entries(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every path, folders before what is in them; nothing is followed."""
    yield folder, os.lstat(folder)
    with os.scandir(folder) as found:
        below = sorted(found, key=lambda entry: entry.name)
    for entry in below:
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path)
        else:
            yield entry.path, entry.stat(follow_symlinks=False)


def _entry(inside: str, path: str, found: os.stat_result, owners: Owners) -> tarfile.TarInfo:
    entry = tarfile.TarInfo("." if inside == "/" else inside[1:])
    is_folder, is_link = stat.S_ISDIR(found.st_mode), stat.S_ISLNK(found.st_mode)
    owned = owners.of(inside, is_folder=is_folder)
    entry.uid, entry.gid = owned.uid, owned.gid
    entry.mode = stat.S_IMODE(found.st_mode) if owned.mode is None else owned.mode
    if is_folder:
        entry.type = tarfile.DIRTYPE
    elif is_link:
        entry.type, entry.mode = tarfile.SYMTYPE, 0o777
        entry.linkname = os.readlink(path)  # noqa: PTH115 - as it is, not as a path
    else:
        entry.size = found.st_size
    return entry


def rules_to_json(rules: Sequence[OwnerRule]) -> str:
    return json.dumps([[rule.path, rule.uid, rule.gid, rule.mode] for rule in rules])


def main() -> int:
    """Arguments as of the module."""
    folder, rules, tar = map(Path, sys.argv[1:4])
    given = [OwnerRule(*rule) for rule in json.loads(rules.read_text(encoding="utf-8"))]
    try:
        with tar.open("xb") as file:
            write_tar(folder, given, file)
    except BadRule as error:
        sys.stdout.write(str(error))
        return BAD_INPUT
    except OSError as error:
        sys.stdout.write(f"{error.filename or tar}: {error.strerror}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
