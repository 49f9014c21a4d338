"""Files that are for others than us: dot files, and what `.reconcilerignore` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import ManifestErrors
from reconciler.source.manifests.folder import load_folder
from tests.unit.source.repositories import InProcess, Link, Repository, vm

pytestmark = pytest.mark.shows(fault=103)

Judge = Callable[[Mapping[str, Any]], list[str]]
CI = "on: [push]\njobs: {}\n"


@pytest.fixture(params=["a commit", "a folder"])
def judged(request: pytest.FixtureRequest, tmp_path: Path) -> Judge:
    """The names of VMs, or the problems."""

    def in_a_folder(files: Mapping[str, Any]) -> list[str]:
        for name, content in files.items():
            path = tmp_path / "folder" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Link):
                path.symlink_to(content.target)
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(load_folder(tmp_path / "folder")[0].vms)

    def in_a_commit(files: Mapping[str, Any]) -> list[str]:
        return list(InProcess(Repository(tmp_path / "repository.git")).read(files).vms)

    def of(files: Mapping[str, Any]) -> list[str]:
        read = in_a_commit if request.param == "a commit" else in_a_folder
        try:
            return read(files)
        except ManifestErrors as error:
            return [str(problem) for problem in error.problems]

    return of


def test_what_belongs_to_other_programs_is_no_manifest(judged: Judge) -> None:
    others = {
        ".github/workflows/ci.yml": CI,
        ".gitlab-ci.yml": CI,
        ".pre-commit-config.yaml": "repos: [",
        "vms/.draft.yaml": "not: ours\n",
        ".github/link.yaml": Link("../vms/web.yaml"),
    }
    assert judged({"vms/web.yaml": vm("web"), **others}) == ["web"]


def test_a_manifest_in_a_file_that_is_not_read_is_reported(judged: Judge) -> None:
    (problem,) = judged({"web.yaml": vm("web"), ".old/db.yaml": vm("db")})
    assert problem == (
        ".old/db.yaml:1:1: a manifest in a file or folder whose name begins with a dot; such files"
        " are not read (rename it)"
    )


def test_a_layer_may_be_a_dot_folder_with_anything_in_it(judged: Judge) -> None:
    files = {
        "web.yaml": vm("web", layers="[busybox: {}, tree: ./.root]"),
        ".root/etc/rc.local": "",
        ".root/etc/app.yaml": CI,
        ".root/example.yaml": vm("example"),
    }
    assert judged(files) == ["web"]


def test_what_the_ignore_file_names_is_not_read(judged: Judge) -> None:
    files = {
        ".reconcilerignore": "# charts of others\ncharts/\n*.tmpl.yaml\n!keep.tmpl.yaml\n/mkdocs.yml\n",
        "charts/values.yaml": CI,
        "charts/templates/x.yaml": "{{ not yaml }}: [",
        "vms/charts/deep.yaml": CI,
        "a.tmpl.yaml": "{{",
        "keep.tmpl.yaml": vm("kept"),
        "mkdocs.yml": "site_name: x\n",
        "vms/web.yaml": vm("web"),
        "latest.tmpl.yaml": Link("a.tmpl.yaml"),
    }
    assert judged(files) == ["kept", "web"]


def test_the_ignore_file_is_relative_to_where_it_lies(judged: Judge) -> None:
    problems = judged({".reconcilerignore": "/ci.yaml\n", "vms/ci.yaml": CI, "ci.yaml": CI})
    assert {problem.split(":")[0] for problem in problems} == {"vms/ci.yaml"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("ok/\n!\n", ".reconcilerignore:2:1: is not a pattern of .gitignore's syntax"),
        (b"\xff\n", ".reconcilerignore:1:1: is not UTF-8"),
        ("x\n" * 200, ".reconcilerignore:1:1: has more than 100 lines"),
        ("# " + "x" * 20_000, ".reconcilerignore:1:1: is larger than 16 KiB"),
        (Link("web.yaml"), ".reconcilerignore:1:1: is not a regular file"),
    ],
)
def test_an_ignore_file_that_cannot_be_used_is_said(
    judged: Judge, content: object, told: str
) -> None:
    (problem,) = judged({".reconcilerignore": content, "web.yaml": vm("web")})
    assert problem.startswith(told)
