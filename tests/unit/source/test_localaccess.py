"""A repository of this host that the daemon's user may not read: who may not read what, and the command."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.errors import SourceError
from reconciler.source.git import fetch as fetching, local_access
from reconciler.source.git.libgit2_limits import bound_library
from reconciler.source.git.protocol import WorkerRequest
from tests.unit.source.repositories import Repository, vm

pytestmark = pytest.mark.shows(fault=111)

STRANGER = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Unlike pytest's, one that others may enter."""
    folder = Path(tempfile.mkdtemp(prefix="reconciler-access-"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def repository(open_folder: Path) -> Repository:
    (open_folder / "srv").mkdir()
    made = Repository(open_folder / "srv" / "fleet.git")
    made.commit({"a.yaml": vm("a")})
    return made


@contextmanager
def as_somebody_else() -> Iterator[str]:
    """Without root's rights, which pass over modes. An ordinary user stays who he is."""
    if os.geteuid() != 0:
        yield local_access.user_name()
        return
    os.seteuid(STRANGER)
    try:
        yield local_access.user_name()
    finally:
        os.seteuid(0)


def test_a_folder_on_the_way_that_is_closed_is_named(repository: Repository) -> None:
    closed = repository.path.parent
    closed.chmod(0o600)
    with as_somebody_else() as user:
        error = local_access.unreachable(repository.path)
    assert error is not None
    assert (error.kind, str(error)) == ("auth", f"{user} may not enter {closed}")
    assert f"`chmod o+x {closed}`" in error.hint
    closed.chmod(0o755)
    with as_somebody_else():
        assert local_access.unreachable(repository.path) is None


@pytest.mark.parametrize("part", ["HEAD", "objects", "refs/heads", "refs/heads/main", "."])
def test_the_part_that_is_closed_is_named_with_the_command(
    part: str, repository: Repository, open_folder: Path
) -> None:
    state = open_folder / "state"
    state.mkdir()
    state.chmod(0o777)
    closed = repository.path / part
    mode = closed.stat().st_mode
    closed.chmod(0o000)
    request = WorkerRequest(
        mirror=str(state / "git" / "main"), url=str(repository.path), want="branch", name="main",
        ref="refs/x", deadline=5.0, repository_bytes=1 << 20,
    )  # fmt: skip
    bound_library().owner_validation = False  # as in the child
    with as_somebody_else() as user, pytest.raises(SourceError) as caught:
        fetching.update_mirror(request)
    closed.chmod(mode)
    assert (caught.value.kind, str(caught.value)) == ("auth", f"{user} may not read {closed}")
    assert f"`chmod -R o+rX {repository.path}`" in caught.value.hint


def test_a_service_that_is_kept_out_of_home_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOCATION_ID", "1")
    error = local_access.closed(
        Path("/home"), Path("/home/a/fleet.git"), "enter", "chmod o+x /home"
    )
    assert "ProtectHome=" in error.hint
    assert "chmod" not in error.hint


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    error = local_access.unreachable(tmp_path / "a" / "b.git")
    assert error is not None
    assert (error.kind, f"git init --bare {tmp_path}/a/b.git" in error.hint) == ("missing", True)


@pytest.mark.shows(fault=134)
def test_what_is_no_repository_or_was_just_packed_is_no_matter_of_rights(
    tmp_path: Path, repository: Repository
) -> None:
    file = tmp_path / "fleet.bundle"
    file.write_text("no repository")
    assert local_access.unreadable(file) is None
    for path, what in ((file, "file"), (tmp_path, "folder")):
        error = local_access.unreachable(path)
        assert error is not None
        assert (error.kind, str(error)) == (
            "missing",
            f"{path} is a {what} and not a git repository",
        )
    (repository.path / "refs" / "heads" / "gone").symlink_to(tmp_path / "nowhere")
    shutil.rmtree(repository.path / "objects")
    assert local_access.unreadable(repository.path) is None
