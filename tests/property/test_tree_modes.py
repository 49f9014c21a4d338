"""Trees with any modes: what git lists is read, and what is not read is named. Real git is the judge."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from reconciler.config import KernelsConfig, PolicyConfig
from reconciler.errors import ManifestErrors
from reconciler.git_objects import SUBMODULE, UNKNOWN, MalformedObject, entries_of
from reconciler.model.names import Revision
from reconciler.source.git import mirror
from reconciler.source.git.export_worker import BadTreeError, TreeLimits, stage_tree
from reconciler.source.manifests.resolve import Resolver
from tests.unit.source.realgit import RealGit, raw_tree
from tests.unit.source.repositories import vm

pytestmark = pytest.mark.shows(fault=105)

FOLDERS = ("40000", "040000", "40755", "40775", "40777", "0040000", "40644")
FILES = ("100644", "100664", "100600", "100755", "0100644", "100700", "100655", "100000")
ODD = ("0", "644", "60000", "20755", "140000", "170000", "200000", "1000000", "160000", "160755")
LINKS = ("120000", "120777", "0120000")
NAMES = ("a", "b", "c", "d")
modes = st.sampled_from((*FOLDERS, *FILES, *ODD, *LINKS)) | st.integers(0, 0o7777777).map(
    "{:o}".format
)
some = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> RealGit:
    return RealGit(tmp_path_factory.mktemp("trees") / "repository.git")


@some
@given(st.lists(modes, min_size=1, max_size=8))
def test_a_tree_is_listed_as_git_lists_it(git: RealGit, written: list[str]) -> None:
    entries = {f"n{number}": (mode, "ab" * 20) for number, mode in enumerate(written)}
    try:
        ours = {name: mode for mode, name, _ in entries_of(raw_tree(entries))}
    except MalformedObject:
        return  # refused whole, which is never silent
    listed = git.git("ls-tree", git.tree(entries)).splitlines()
    gits = {line.partition("\t")[2].encode(): line.split(" ")[0] for line in listed}
    assert ours.keys() == gits.keys()
    for name, mode in gits.items():
        if ours[name] == UNKNOWN:  # git calls it a submodule; we refuse both
            assert mode == "160000" or int(entries[name.decode()][0], 8) > 0o177777
        else:
            assert ours[name].zfill(6).decode() == mode


@some
@given(st.dictionaries(st.sampled_from(NAMES), modes, min_size=1), modes)
def test_no_folder_of_manifests_is_passed_over(
    git: RealGit, written: dict[str, str], outer: str
) -> None:
    folders = {}
    for name, mode in written.items():
        inner = git.files({"vm.yaml": vm(name)})
        folders[name] = (
            mode,
            inner if mode in FOLDERS or mode not in FILES else git.put("blob", b""),
        )
    root = git.tree(
        {"vms": (outer, git.tree(folders)), "z.yaml": ("100644", git.put("blob", vm("z").encode()))}
    )
    revision = git.point(git.commit(root))
    here = mirror.Mirror(git.path, "", mirror.ReadLimits(100, 1 << 20))
    whole = git.git("ls-tree", "-r", root) if readable(git, root) else ""
    listed = [line.partition("\t")[2] for line in whole.splitlines()]
    seen = {Path(path).parent.name for path in listed if path.endswith("vm.yaml")}
    try:
        with here.open(Revision(revision)) as commit:
            state = Resolver(PolicyConfig(), KernelsConfig()).resolve(commit)
    except ManifestErrors as error:
        named = {problem.file for problem in error.problems}
        assert named, "what is refused is named"
        assert all(path.startswith("vms") for path in named)
        return
    assert set(state.vms) == seen | {"z"}
    assert not [line for line in whole.splitlines() if line.startswith("160000")]


def readable(git: RealGit, tree: str) -> bool:
    try:
        git.git("ls-tree", "-r", tree)
    except AssertionError:
        return False
    return True


@some
@given(st.dictionaries(st.sampled_from(NAMES), modes, min_size=1))
def test_a_layer_holds_every_entry_or_is_refused(git: RealGit, written: dict[str, str]) -> None:
    blob, folder = git.put("blob", b"content"), git.files({"inner": "x"})
    entries = {n: (m, folder if m in FOLDERS else blob) for n, m in written.items()}
    tree = git.tree(entries)
    with tempfile.TemporaryDirectory() as space:
        into = Path(space) / "layer"
        try:
            stage_tree(str(git.path), tree, into, TreeLimits())
        except BadTreeError:
            kinds = {mode for mode, _, _ in safely(entries)}
            assert not kinds or kinds & {SUBMODULE, UNKNOWN, b"40000"}
            return
        assert {path.name for path in into.iterdir()} == set(written)
        assert not {mode for mode, _, _ in safely(entries)} & {SUBMODULE, UNKNOWN}
        for name, mode in written.items():
            path = into / name
            assert path.is_dir() == (mode in FOLDERS)
            if mode in FILES:
                assert bool(path.stat().st_mode & 0o100) == bool(int(mode, 8) & 0o100)


def safely(entries: dict[str, tuple[str, str]]) -> list[tuple[bytes, bytes, bytes]]:
    try:
        return entries_of(raw_tree(entries))
    except MalformedObject:
        return []
