"""A bare git repository with a working copy beside it, for pushes made by a program."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Self

GIT_TIMEOUT = 60.0
BRANCH = "main"


def git_environment() -> dict[str, str]:
    """The caller's settings, hooks and repository must not change what a push does."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {
        **clean,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
    }


class Repository:
    """A team's repository, and the working copy of one member."""

    def __init__(self, bare: Path, work: Path) -> None:
        self.bare = bare
        self.work = work

    @classmethod
    def create(cls, folder: Path) -> Self:
        """An empty bare repository and an empty working copy, both under `folder`."""
        repository = cls(folder / "fleet.git", folder / "work")
        repository.bare.mkdir(parents=True)
        repository.work.mkdir()
        repository.git("init", "-q", "--bare", "-b", BRANCH, ".", cwd=repository.bare)
        repository.git("init", "-q", "-b", BRANCH, ".")
        repository.git("remote", "add", "origin", str(repository.bare))
        # Also for commits made there by hand.
        repository.git("config", "user.name", "Demo")
        repository.git("config", "user.email", "demo@localhost")
        return repository

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run git in the working copy; returns its output. Raises RuntimeError with its error."""
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - the one in PATH is meant
            cwd=cwd or self.work,
            env=git_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def copy_from(self, folder: Path, without: Iterable[str] = ()) -> None:
        """Copy a folder's content, but for what has one of these names."""
        shutil.copytree(
            folder, self.work, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*without)
        )

    def read(self, path: str) -> str:
        return (self.work / path).read_text(encoding="utf-8")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    def replace(self, path: str, old: str, new: str) -> None:
        """Raises ValueError if `old` is not there: a change that changes nothing shows nothing."""
        text = self.read(path)
        if old not in text:
            raise ValueError(f"{path}: does not hold {old!r}")
        (self.work / path).write_text(text.replace(old, new), encoding="utf-8")

    def remove(self, path: str) -> None:
        target = self.work / path
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()

    def clear(self) -> None:
        """Remove everything from the working copy but git's own."""
        for entry in self.work.iterdir():
            if entry.name != ".git":
                self.remove(entry.name)

    def restore(self, revision: str) -> None:
        """Make the working copy as it was at an earlier commit; history goes on."""
        self.git("add", "-A")
        self.git("read-tree", "--reset", "-u", revision)

    def push(self, message: str) -> str:
        """Commit the working copy as it is and push it; the commit's id."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.git("push", "-q", "origin", BRANCH)
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")
