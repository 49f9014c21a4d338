"""A plain folder is judged as a commit of it would be."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config import SourceConfig
from reconciler.errors import ManifestErrors, SourceError
from reconciler.model.names import VMName
from reconciler.source.manifests.folder import load_folder
from tests.unit.source.repositories import vm

ROOT = Path(__file__).resolve().parents[3]


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_the_sample_fleet_is_valid() -> None:
    state, _ = load_folder(ROOT / "manifests")
    assert list(state.vms) == ["db", "nginx", "postgres", "web-a", "web-b"]
    assert state.vms[VMName("web-a")].update.after == ("db",)
    assert state.group(state.vms[VMName("web-b")].group).max_unavailable == 1


def test_all_problems_of_a_folder_come_at_once(tmp_path: Path) -> None:
    write(
        tmp_path, {"a.yaml": vm("A"), "b/c.yml": "x: [", "d.yaml": vm("d", layers="[tree: ./no]")}
    )
    (tmp_path / "l.yaml").symlink_to("a.yaml")
    (tmp_path / "loop").symlink_to(".")
    with pytest.raises(ManifestErrors) as caught:
        load_folder(tmp_path)
    assert [f"{p.file}:{p.line}" for p in caught.value.problems] == [
        "a.yaml:3", "b/c.yml:2", "d.yaml:5", "l.yaml:1", "loop:1",
    ]  # fmt: skip


def test_layers_may_lie_anywhere_in_the_work_tree(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".git/HEAD": "",
            "shared/etc/rc.local": "",
            "fleet/a.yaml": vm("a", layers="[busybox: {}, tree: ../shared]"),
        },
    )
    assert list(load_folder(tmp_path / "fleet")[0].vms) == ["a"]
    (tmp_path / ".git" / "HEAD").unlink()
    (tmp_path / ".git").rmdir()
    with pytest.raises(ManifestErrors, match="is outside of the repository"):
        load_folder(tmp_path / "fleet")


@pytest.mark.shows(row=32)
def test_limits_hold_for_folders_too(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        load_folder(tmp_path / "none")
    write(tmp_path, {"a.yaml": vm("a"), "b.yaml": "#" * 3000})
    small = SourceConfig(max_file_kib=2)
    with pytest.raises(ManifestErrors, match="larger than 2 KiB"):
        load_folder(tmp_path, source=small)
    with pytest.raises(SourceError, match="more than 1 files"):
        load_folder(tmp_path, source=SourceConfig(max_files=1))


@pytest.mark.shows(fault=121)
def test_one_file_is_judged_by_itself_and_what_it_names_may_be_elsewhere(tmp_path: Path) -> None:
    spec = "update: {after: [db]}"
    write(tmp_path, {"web.yaml": vm("web", spec=spec, group="g"), "bad.yaml": vm("A")})
    assert list(load_folder(tmp_path / "web.yaml")[0].vms) == ["web"]
    with pytest.raises(ManifestErrors) as caught:
        load_folder(tmp_path / "bad.yaml")
    assert [problem.file for problem in caught.value.problems] == ["bad.yaml"]
