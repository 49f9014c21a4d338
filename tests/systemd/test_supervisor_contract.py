"""The supervisors' contract on units of a real systemd."""

import pytest

from demo.repository import Repository
from tests.systemd.container import Container
from tests.systemd.host import CHECKOUT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def test_guests_as_units_keep_the_contract_of_all_supervisors(
    container: tuple[Container, Repository],
) -> None:
    machine, _ = container
    machine.run("apt-get", "-q", "-y", "install", "--no-install-recommends", "python3")
    machine.run("groupadd", "--force", "--system", "microvm")
    python = f"{CHECKOUT}/.venv/bin/python"
    passed = machine.run(
        *("env", f"--chdir={CHECKOUT}", f"PYTHONPATH={CHECKOUT}", python, "-m", "pytest", "-q"),
        *(
            "-p",
            "no:cacheprovider",
            "-k",
            "systemd",
            "tests/contract/test_supervisor.py",
            "tests/contract/test_runners.py",
            "tests/contract/test_systemd_supervisor_faults.py",
        ),
    ).stdout
    assert " passed" in passed, passed
    assert "skipped" not in passed, passed
