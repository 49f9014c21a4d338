"""What one commit can cost: problems are counted once they are many, and nothing grows by the square."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from reconciler.config import KernelsConfig, PolicyConfig
from reconciler.errors import ManifestErrors
from reconciler.model.record import MOST_PROBLEMS
from reconciler.source.manifests import crosscheck
from reconciler.source.manifests.folder import Folder
from reconciler.source.manifests.resolve import Resolver
from tests.unit.source.repositories import forwarded, group, vm

pytestmark = pytest.mark.shows(fault=46)

FORM = "apiVersion: reconciler/v1\nkind: MicroVM\n"


def refusal(folder: Path) -> ManifestErrors:
    """As the daemon would refuse the folder's content."""
    with pytest.raises(ManifestErrors) as caught:
        Resolver(PolicyConfig(), KernelsConfig()).resolve(Folder(folder, 10_000, 1 << 20))
    return caught.value


def calls(work: Callable[[], object]) -> int:
    """How many functions are called: a cost that no other load of the machine changes."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_of_very_many_problems_a_hundred_are_named_and_the_others_counted(tmp_path: Path) -> None:
    fields = "\n".join(f"k{number}: 1" for number in range(120))
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"{FORM}{fields}\n# {number}\n")
    refused = refusal(tmp_path)
    assert len(refused.problems) == MOST_PROBLEMS
    assert refused.more >= 39, "each other file counts at least once"
    assert f"(and {MOST_PROBLEMS - 1 + refused.more} more)" in str(refused)


def test_a_bad_file_beside_many_bad_ones_of_a_guest_is_still_put_into_words(tmp_path: Path) -> None:
    guests = tmp_path / "tree"
    guests.mkdir()
    for number in range(MOST_PROBLEMS + 20):
        (guests / f"{number}.yaml").write_text("- hosts: all\n")
    (tmp_path / "web.yaml").write_text(vm(spec="vcpu: none", layers="[{tree: ./tree}]"))
    assert [p.file for p in refusal(tmp_path).problems] == ["web.yaml"]


def test_words_of_a_problem_are_short_however_long_what_they_speak_of(tmp_path: Path) -> None:
    names = [f"a-vm-with-a-rather-long-name-{number:04}" for number in range(900)]
    manifests = [vm(name, spec="update: {after: [nobody-at-all]}") for name in names]
    (tmp_path / "all.yaml").write_text("---\n".join(manifests))
    refused = refusal(tmp_path)
    assert refused.more == 800
    assert max(len(str(problem)) for problem in refused.problems) < 1_500


def shared_port(folder: Path, forwards: int) -> int:
    folder.mkdir()
    each = [forwarded(8080, f"10.0.{n // 250}.{n % 250}") for n in range(forwards)]
    manifests = [vm(f"v{number}", spec=spec) for number, spec in enumerate(each)]
    (folder / "all.yaml").write_text("---\n".join(manifests))
    return calls(lambda: refusal(folder))


def lost_order(folder: Path, vms: int) -> int:
    """Each VM comes after others in a ring, and after one that is not there."""
    folder.mkdir()
    after = [f"[v{(n + 1) % vms}, v{(n + 2) % vms}, w{n}]" for n in range(vms)]
    manifests = [vm(f"v{n}", spec=f"update: {{after: {names}}}") for n, names in enumerate(after)]
    (folder / "all.yaml").write_text("---\n".join(manifests))
    return calls(lambda: refusal(folder))


def lost_canaries(folder: Path, groups: int) -> int:
    folder.mkdir()
    manifests = [group(f"g{n}", f"{{canary: [v{n}, w{n}]}}") for n in range(groups)]
    manifests += [vm(f"v{n}", group=f"h{n}") for n in range(groups)]
    (folder / "all.yaml").write_text("---\n".join(manifests))
    return calls(lambda: refusal(folder))


@pytest.mark.shows(fault=47)
@pytest.mark.parametrize("make", [shared_port, lost_order, lost_canaries])
def test_twice_as_much_costs_about_twice_as_much(
    make: Callable[[Path, int], int], tmp_path: Path
) -> None:
    once, twice = make(tmp_path / "once", 150), make(tmp_path / "twice", 300)
    assert twice < 2.6 * once


def test_a_manifest_that_did_not_change_costs_few_calls(tmp_path: Path) -> None:
    for number in range(100):
        tree = tmp_path / f"t{number}"
        tree.mkdir()
        (tree / "motd").write_text(str(number))
        (tmp_path / f"{number}.yaml").write_text(
            vm(f"v{number}", layers=f"[{{busybox: {{}}}}, {{tree: ./t{number}}}]")
        )
    folder = Folder(tmp_path, 10_000, 1 << 20)
    resolver = Resolver(PolicyConfig(), KernelsConfig())
    resolver.resolve(folder)
    assert calls(lambda: resolver.resolve(folder)) < 100 * 100


@pytest.mark.shows(fault=47)
def test_a_revision_with_too_many_vms_or_ports_is_refused_with_the_number_of_those_beyond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crosscheck, "MOST_VMS", 3)
    monkeypatch.setattr(crosscheck, "MOST_FORWARDS", 2)
    manifests = [vm(f"v{number}", spec=forwarded(8000 + number)) for number in range(6)]
    (tmp_path / "all.yaml").write_text("---\n".join(manifests))
    (many,) = refusal(tmp_path).problems
    assert str(many).startswith(
        "all.yaml:22:1: the revision has more than 3 VMs: this document and 2"
    )
    (tmp_path / "all.yaml").write_text("---\n".join(manifests[:3]))
    (ports,) = refusal(tmp_path).problems
    assert "more than 2 forwarded ports: this document and 0 more" in ports.message


@pytest.mark.shows(fault=104)
def test_what_a_yaml_error_hides_is_not_blamed_on_others(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "motd").symlink_to("/etc")
    (tmp_path / "tree" / "play.yaml").write_text("- hosts: all\n")
    (tmp_path / "web.yaml").write_text(vm(layers="[{tree: ./tree}]") + "spec: {}\n")
    (problem,) = refusal(tmp_path).problems
    assert (problem.file, problem.message) == ("web.yaml", "duplicate key spec")
