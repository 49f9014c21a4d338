"""One real fleet for many tests; it is made anew only after a test failed, and its evidence is kept."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.integration import evidence
from tests.integration.evidence import FAILED
from tests.integration.harness import Harness


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m fleet`: those that share it, and so run in one row."""
    for item in items:
        if isinstance(item, pytest.Function) and "fleet" in item.fixturenames:
            item.add_marker("fleet")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """The last test here ends the fleet: tests of other folders want the machine for themselves."""
    yield
    if nextitem is None or Path(__file__).parent not in nextitem.path.parents:
        WORLDS.discard()


class Worlds:
    """The fleet that tests share, while it is good."""

    def __init__(self) -> None:
        self._harness: Harness | None = None

    def enter(self, node: pytest.Item) -> Harness:
        """A settled fleet; one that cannot be settled any more is replaced, once."""
        if self._harness is not None:
            try:
                self._harness.tidy()
            except Exception:  # noqa: BLE001 - whatever it is, a new fleet is the answer
                before = evidence.folder_of(node).with_suffix(".before")
                evidence.save(self._harness.stage, before)
                self.discard()
            else:
                return self._harness
        self._harness = harness = Harness()
        try:
            harness.open()
        except BaseException:
            evidence.save(harness.stage, evidence.folder_of(node))
            self.discard()
            raise
        return harness

    def discard(self) -> None:
        harness, self._harness = self._harness, None
        if harness is not None:
            harness.close()


WORLDS = Worlds()


@pytest.fixture(scope="session")
def worlds() -> Iterator[Worlds]:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed: ./dev setup installs it")
    try:
        yield WORLDS
    finally:  # also when the run was interrupted
        WORLDS.discard()


@pytest.fixture
def fleet(request: pytest.FixtureRequest, worlds: Worlds) -> Iterator[Harness]:
    """db, and after it web-a and web-b in the group frontend, all settled."""
    node: pytest.Item = request.node
    harness = worlds.enter(node)
    with evidence.kept_of(harness.stage, node):
        yield harness
    if node.stash.get(FAILED, False):
        worlds.discard()
