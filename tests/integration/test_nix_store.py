"""Nix's own store, new or in trouble, as the builds of several runners at once meet it. Nix is real."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import BuildUnavailable
from reconciler.image.store import ImageStore
from reconciler.model.image import KernelSpec, NixRunner
from tests import private_nix
from tests.integration.test_nix_runners import IDLE
from tests.unit.image.trees import Repository

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

AT_ONCE = 4


@pytest.fixture
def nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder under which a store will be; there is none yet."""
    for name, value in private_nix.settings(tmp_path / "nix").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "nix"


def runner(repository: Repository, name: str) -> KernelSpec:
    tree = repository.tree({"flake.nix": IDLE, "name": name})
    return KernelSpec.of(name, NixRunner("./idle", "idle", tree))


@pytest.mark.usefixtures("nix")
@pytest.mark.parametrize("attempt", range(3))
async def test_the_first_builds_of_a_host_do_not_fall_over_each_other(
    tmp_path: Path, attempt: int
) -> None:
    repository = Repository(tmp_path / "repository")
    wanted = [runner(repository, f"{attempt}-{n}") for n in range(AT_ONCE)]
    store = ImageStore(tmp_path / "state", SystemClock())
    await store.open()
    try:
        await asyncio.gather(*(store.build_kernel(each, repository.content) for each in wanted))
        assert store.kernels() == {each.key for each in wanted}
    finally:
        await store.close()


async def test_a_store_in_trouble_is_no_fault_of_the_flake_and_is_tried_again(
    nix: Path, tmp_path: Path
) -> None:
    repository = Repository(tmp_path / "repository")
    wanted = runner(repository, "idle")
    (nix / "var/db").mkdir(parents=True)
    schema = nix / "var/db/schema"
    schema.write_text("")
    store = ImageStore(tmp_path / "state", SystemClock())
    await store.open()
    try:
        with pytest.raises(BuildUnavailable, match="schema' is corrupt"):
            await store.build_kernel(wanted, repository.content)
        schema.unlink()
        await store.build_kernel(wanted, repository.content)
        assert store.kernels() == {wanted.key}
    finally:
        await store.close()
