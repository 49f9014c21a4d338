"""Whether this process may read a repository on its host; if not, who may not read what, and the command."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from reconciler.errors import SourceError
from reconciler.source.git.error_kinds import failure

HIDDEN = ("/home", "/root", "/run/user")
"""What ProtectHome= takes from a service."""
MOST_LOOKED_AT = 10_000


def unreachable(path: Path) -> SourceError | None:
    """Why there is nothing at the path for this process; None when there is something."""
    for folder in [*reversed(path.parents), path]:
        try:
            os.stat(folder)  # noqa: PTH116 - its errors differ in newer Pythons
        except PermissionError:
            return closed(folder.parent, path, "enter", f"chmod o+x {folder.parent}")
        except OSError:
            return _missing(path, f"there is no repository at {path}")
    if _absent(path / "HEAD") and _absent(path / ".git"):
        what = "folder" if path.is_dir() else "file"
        return _missing(path, f"{path} is a {what}, and no repository of git")
    return None


def _missing(path: Path, message: str) -> SourceError:
    hint = f"make one with `git init --bare {path}`, or mend source.url"
    return failure("missing", message, hint)


def _absent(path: Path) -> bool:
    """Whether it is known that there is nothing; what may not be looked at may be there."""
    try:
        os.stat(path)  # noqa: PTH116 - its errors differ in newer Pythons
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def unreadable(path: Path) -> SourceError | None:
    """The first part of a repository that is there and that this process may not read.

    What is not there, as in a file that is no repository, or was just packed, is no matter of rights.
    """
    for part in islice(parts_of(path), MOST_LOOKED_AT):
        wanted = os.R_OK | (os.X_OK if part.is_dir() else 0)
        there = os.path.exists(part)  # noqa: PTH110 - that of a Path raises in some Pythons
        if there and not os.access(part, wanted, effective_ids=True):
            return closed(part, path, "read", f"chmod -R o+rX {path}")
    return None


def parts_of(path: Path) -> Iterator[Path]:
    """What git needs of a repository, outermost first."""
    yield path
    inner = path / ".git"
    base = inner if inner.is_dir() else path
    yield from (p for name in ("HEAD", "config", "packed-refs") if (p := base / name).exists())
    for name in ("refs", "objects"):
        yield base / name
        for folder, folders, files in os.walk(base / name):  # it goes silently past what is closed
            yield from (Path(folder) / inner for inner in (*folders, *files))


def closed(part: Path, path: Path, what: str, command: str) -> SourceError:
    """`what` this process may not do with a part of a repository."""
    user = user_name()
    hint = f"`{command}`, as root; or give {user} a group that may"
    if os.environ.get("INVOCATION_ID") and str(path).startswith(HIDDEN):
        hint = (
            f"the service is kept out of {' and '.join(HIDDEN)} (ProtectHome=): "
            "put the repository elsewhere, as below /srv"
        )
    elif os.geteuid() == 0:
        hint += f" ({user} has no right here to pass over modes)"
    return failure("auth", f"{user} may not {what} {part}", hint)


def user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"
