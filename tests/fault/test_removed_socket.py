"""Somebody removes the control socket of a real daemon, as cleaners of /run do."""

from __future__ import annotations

import pytest

from demo.stage import Stage
from tests.wait import wait_until


@pytest.mark.timeout(120)
def test_a_daemon_whose_socket_was_removed_can_be_asked_again() -> None:
    stage = Stage.open()
    try:
        stage.daemon.start()
        socket = stage.daemon.settings.socket
        wait_until(socket.exists, 30.0, "the socket")
        socket.unlink()
        wait_until(socket.exists, 30.0, "the socket again")
        assert stage.daemon.pid is not None
    finally:
        assert stage.close() == []
