"""One daemon for a state directory, whatever becomes of the file that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import StateDirLocked
from reconciler.host import layout, state_lock


@pytest.mark.shows(fault=56)
@pytest.mark.parametrize("lost", [False, True])
def test_a_second_daemon_is_refused_also_when_the_lock_file_was_removed(
    lost: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    with state_lock.held(tmp_path):
        if lost:
            layout.daemon_lock(tmp_path).unlink()
        with pytest.raises(StateDirLocked, match="another daemon runs"), state_lock.held(tmp_path):
            pytest.fail("two daemons have one state directory")
    with state_lock.held(tmp_path):
        pass


@pytest.mark.shows(fault=56)
def test_a_moved_state_directory_is_still_the_one_daemons(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with state_lock.held(first):
        first.rename(second)
        with pytest.raises(StateDirLocked), state_lock.held(second):
            pytest.fail("two daemons have one state directory")
        with state_lock.held(first):
            """A new folder of the old name is another one."""
