"""One container for all tests, with the package of this tree installed in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.daemon import free_port
from demo.repository import Repository
from tests.systemd.container import Container, missing
from tests.systemd.fresh import unpack
from tests.systemd.host import CHECKOUT, ROOT, Host


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree as `./dev package` builds it."""
    folder = tmp_path_factory.mktemp("package")
    argv = [str(ROOT / "deploy/debian/build"), sys.executable, str(folder)]
    built = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The files of a fresh machine: nothing of this one, so that what is missing is seen."""
    if lacks := missing():
        pytest.skip(lacks)
    folder = tmp_path_factory.mktemp("debian")
    unpack(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def container(
    debian: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Container, Repository]]:
    repository = Repository.create(tmp_path_factory.mktemp("git"))
    container = Container(
        debian,
        [f"--bind-ro={ROOT}:{CHECKOUT}", f"--bind={repository.bare}:/srv/git/fleet.git"],
    )
    try:
        container.mount()
        container.boot()
        yield container, repository
    finally:
        container.close()


@pytest.fixture(scope="session")
def host(container: tuple[Container, Repository], package: Path) -> Host:
    """The package is installed, and nothing was pushed yet."""
    host = Host(*container)
    host.install(package)
    return host


@pytest.fixture
def peopled(host: Host) -> Host:
    """With the fleet of the chapters before, or one of its own."""
    if not host.good:
        host.configure(port=f"port = {free_port()}")
        host.systemctl("restart", "reconciler.service")
        host.push("version 1\n")
    return host
