"""Whether this process may read a repository on its host; if not, the error names the path and a command."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from reconciler.errors import SourceError
from reconciler.source.git.error_kinds import failure

HIDDEN = ("/home", "/root", "/run/user")
"""Folders that ProtectHome= hides from a service."""
MOST_LOOKED_AT = 10_000
"""Files whose permissions are checked; this runs only after a fetch failed."""


def unreachable(path: Path) -> SourceError | None:
    """The error if this process finds no repository at the path; None if it finds one."""
    for folder in [*reversed(path.parents), path]:
        try:
            os.stat(folder)  # noqa: PTH116 - its errors differ in newer Pythons
        except PermissionError:
            return closed(folder.parent, path, "enter", f"chmod o+x {folder.parent}")
        except OSError:
            return _missing(path, f"there is no repository at {path}")
    if _absent(path / "HEAD") and _absent(path / ".git"):
        what = "folder" if path.is_dir() else "file"
        return _missing(path, f"{path} is a {what} and not a git repository")
    return None


def _missing(path: Path, message: str) -> SourceError:
    hint = f"make one with `git init --bare {path}`, or correct source.url"
    return failure("missing", message, hint)


def _absent(path: Path) -> bool:
    """Whether the path certainly does not exist; one that cannot be examined may exist."""
    try:
        os.stat(path)  # noqa: PTH116 - its errors differ in newer Pythons
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def unreadable(path: Path) -> SourceError | None:
    """The error for the first part of a repository that this process may not read; None if there is none.

    Missing parts are skipped: git may just have packed them.
    """
    for part in islice(parts_of(path), MOST_LOOKED_AT):
        wanted = os.R_OK | (os.X_OK if part.is_dir() else 0)
        there = os.path.exists(part)  # noqa: PTH110 - that of a Path raises in some Pythons
        if there and not os.access(part, wanted, effective_ids=True):
            return closed(part, path, "read", f"chmod -R o+rX {path}")
    return None


def parts_of(path: Path) -> Iterator[Path]:
    """The files and folders that git reads, outermost first."""
    yield path
    inner = path / ".git"
    base = inner if inner.is_dir() else path
    yield from (p for name in ("HEAD", "config", "packed-refs") if (p := base / name).exists())
    for name in ("refs", "objects"):
        yield base / name
        for folder, folders, files in os.walk(
            base / name
        ):  # skips unreadable folders without an error
            yield from (Path(folder) / inner for inner in (*folders, *files))


def closed(part: Path, path: Path, what: str, command: str) -> SourceError:
    """The error that this process may not `what` (enter, read) a part of a repository, with a remedy."""
    user = user_name()
    hint = f"run `{command}` as root, or add {user} to a group that may"
    if os.environ.get("INVOCATION_ID") and str(path).startswith(HIDDEN):
        hint = (
            f"ProtectHome= hides {' and '.join(HIDDEN)} from the service: "
            "move the repository, for example below /srv"
        )
    elif os.geteuid() == 0:
        hint += f" ({user} lacks the capability to override permissions here)"
    return failure("auth", f"{user} may not {what} {part}", hint)


def user_name() -> str:
    """The name of the effective user, or `uid N`."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"
