"""Who waits for whom: what can never end is refused before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import ManifestErrors
from reconciler.source.manifests.folder import load_folder
from tests.unit.source.repositories import group, vm

pytestmark = pytest.mark.shows(fault=79)


def judged(folder: Path, *manifests: str) -> list[str]:
    """The names of VMs, or the problems."""
    (folder / "all.yaml").write_text("---\n".join(manifests))
    try:
        return list(load_folder(folder)[0].vms)
    except ManifestErrors as error:
        return [str(problem) for problem in error.problems]


def after(*names: str) -> str:
    return f"update: {{after: [{', '.join(names)}]}}"


def test_a_canary_that_waits_for_a_member_that_waits_for_it_is_refused(tmp_path: Path) -> None:
    members = vm("a", group="fe", spec=after("b")), vm("b", group="fe")
    (problem,) = judged(tmp_path, group("fe", "{canary: [a]}"), *members)
    assert problem == (
        "all.yaml:11:20: a cycle: a -> b -> canary of fe -> a"
        " (remove one of them (b at all.yaml:15:28, spec.canary at all.yaml:4:16))"
    )


def test_canaries_of_two_groups_that_wait_for_each_others_members_are_refused(
    tmp_path: Path,
) -> None:
    (problem,) = judged(
        tmp_path,
        group("one", "{canary: [a]}"),
        group("two", "{canary: [c]}"),
        vm("a", group="one", spec=after("d")),
        vm("b", group="one"),
        vm("c", group="two", spec=after("b")),
        vm("d", group="two"),
    )
    assert "a cycle: a -> d -> canary of two -> c -> b -> canary of one -> a" in problem


@pytest.mark.parametrize("canaries", ["a", "a, b", "b, a", "a, b, c"])
def test_members_that_come_after_their_groups_canary_are_well(
    tmp_path: Path, canaries: str
) -> None:
    members = (
        vm("a", group="fe"),
        vm("b", group="fe", spec=after("a")),
        vm("c", group="fe", spec=after("b", "a")),
    )
    assert judged(tmp_path, group("fe", f"{{canary: [{canaries}]}}"), *members) == ["a", "b", "c"]
