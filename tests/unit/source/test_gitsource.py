"""A real repository, its mirror, and what is remembered between looks."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
from pygit2.enums import ObjectType

from reconciler.errors import ManifestErrors, SourceError
from reconciler.model.desired import DesiredState, Fetched
from reconciler.model.names import Revision
from reconciler.source.git import fetch as fetching, mirror
from reconciler.source.git.libgit2_limits import MIB
from reconciler.source.git.protocol import WorkerRequest
from reconciler.source.git.source import GitSource
from tests.unit.source.conftest import MakeSource
from tests.unit.source.realgit import RealGit
from tests.unit.source.repositories import Link, Repository, Submodule, vm


async def state_of(source: GitSource) -> DesiredState:
    state = (await source.fetch()).state
    assert state is not None
    return state


@pytest.mark.shows(row=52)
async def test_a_push_is_fetched_once(repository: Repository, make_source: MakeSource) -> None:
    source = make_source()
    first = repository.commit({"a.yaml": vm("a")})
    state = await state_of(source)
    assert (state.revision, list(state.vms)) == (first, ["a"])
    again = await source.fetch()
    assert (again.state, again.changed) == (None, False)
    second = repository.commit({"a.yaml": vm("a"), "b.yaml": vm("b")})
    assert (await state_of(source)).revision == second
    assert source.status().failures == 0
    assert source.status().last_success_wall is not None


async def test_one_changed_file_costs_one_file(
    repository: Repository, make_source: MakeSource
) -> None:
    files = {
        f"{n}.yaml": vm(f"vm-{n}", layers=f"[busybox: {{}}, tree: ./t{n % 2}]") for n in range(20)
    }
    files |= {"t0/f": "0", "t1/f": "1"}
    source = make_source()
    repository.commit(files)
    before = await state_of(source)
    assert source.parsed_files == 20
    files["3.yaml"] = vm("vm-3", spec="vcpu: 2")
    repository.commit(files)
    after = await state_of(source)
    assert source.parsed_files == 21
    assert [n for n in after.vms if after.vms[n] is not before.vms[n]] == ["vm-3"]
    files["t0/f"] = "another"
    repository.commit(files)
    last = await state_of(source)
    assert source.parsed_files == 21
    changed = {n for n in last.vms if last.vms[n] is not after.vms[n]}
    assert changed == {f"vm-{n}" for n in range(0, 20, 2)}
    assert all(last.vms[n].digest != after.vms[n].digest for n in changed)


async def test_a_bad_commit_names_its_revision_and_is_read_once(
    repository: Repository, make_source: MakeSource
) -> None:
    source = make_source()
    good = repository.commit({"a.yaml": vm("a")})
    await source.fetch()
    bad = repository.commit({"a.yaml": vm("A")})
    for _ in range(2):
        with pytest.raises(ManifestErrors) as caught:
            await source.fetch()
        assert caught.value.revision == bad
    assert source.parsed_files == 2
    assert (await source.load(Revision(good))).revision == good
    fixed = repository.commit({"a.yaml": vm("b")})
    assert (await state_of(source)).revision == fixed


async def test_a_restart_loads_the_last_revision_from_the_mirror(
    repository: Repository, make_source: MakeSource, tmp_path: Path
) -> None:
    revision = repository.commit({"a.yaml": vm("a")})
    await make_source().fetch()
    repository.path.rename(tmp_path / "away")
    restarted = make_source(repository.path)
    state = await restarted.load(Revision(revision))
    assert list(state.vms) == ["a"]
    with pytest.raises(SourceError) as caught:
        await restarted.fetch()
    assert caught.value.kind == "missing"
    assert restarted.status().failures == 1
    (tmp_path / "away").rename(repository.path)
    assert (await restarted.fetch()).state is None


async def test_a_revision_that_the_mirror_lacks_is_missing(
    repository: Repository, make_source: MakeSource
) -> None:
    source = make_source()
    with pytest.raises(SourceError, match="no commit"):
        await source.load(Revision("1" * 40))
    repository.commit({"a.yaml": vm("a")})
    await source.fetch()
    for odd in ("1" * 40, "main", "../etc"):
        with pytest.raises(SourceError) as caught:
            await source.load(Revision(odd))
        assert caught.value.kind == "missing"


async def test_branch_tag_and_commit_choose_the_revision(
    repository: Repository, make_source: MakeSource
) -> None:
    old = repository.commit({"a.yaml": vm("old")})
    repository.git.create_reference("refs/tags/light", old)
    repository.git.create_tag("heavy", old, ObjectType.COMMIT, repository.git[old].author, "a tag")
    side = repository.commit({"a.yaml": vm("side")}, branch="side")
    new = repository.commit({"a.yaml": vm("new")})
    wanted = [
        ({}, new),
        ({"branch": "side"}, side),
        ({"tag": "light"}, old),
        ({"tag": "heavy"}, old),
        ({"commit": old}, old),
    ]
    for number, (config, revision) in enumerate(wanted):
        source = make_source(name=f"s{number}", **config)
        assert (await state_of(source)).revision == revision


@pytest.mark.shows(row=27)
async def test_what_is_not_there_is_said_with_what_is(
    repository: Repository, make_source: MakeSource
) -> None:
    source = make_source()
    with pytest.raises(SourceError) as caught:
        await source.fetch()
    assert caught.value.kind == "empty"
    repository.commit({"a.yaml": vm("a")}, branch="trunk")
    with pytest.raises(SourceError, match="HEAD") as caught:
        await source.fetch()
    assert (caught.value.kind, "trunk" in caught.value.hint) == ("missing", True)
    for config in ({"branch": "prod"}, {"tag": "v1"}, {"commit": "1" * 40}, {"commit": "12"}):
        with pytest.raises(SourceError) as caught:
            await make_source(name="other", **config).fetch()
        assert caught.value.kind == "missing", config


async def test_a_preview_adopts_nothing(repository: Repository, make_source: MakeSource) -> None:
    source = make_source()
    first = repository.commit({"a.yaml": vm("a")})
    await source.fetch()
    side = repository.commit({"b.yaml": vm("b")}, branch="side")
    assert (await source.preview("side")).revision == side
    assert (await source.preview(first[:10])).revision == first
    assert (await source.preview("HEAD")).revision == first
    assert (await source.fetch()).state is None
    for ref in ("", "nowhere", "a\nb", "x" * 300):
        with pytest.raises(SourceError) as caught:
            await source.preview(ref)
        assert caught.value.kind == "missing"


async def test_only_the_configured_folder_is_read(
    repository: Repository, make_source: MakeSource
) -> None:
    source = make_source(path="fleet/prod/")
    repository.commit({"a.yaml": "[", "fleet/prod/b.yml": vm("b"), "fleet/dev/c.yaml": "["})
    assert list((await state_of(source)).vms) == ["b"]
    repository.commit({"a.yaml": "["})
    assert (await state_of(source)).vms == {}


@pytest.mark.shows(row=36)
async def test_odd_entries_are_problems_with_their_path(
    repository: Repository, make_source: MakeSource
) -> None:
    source = make_source()
    repository.commit(
        {
            "link.yaml": Link("/etc/passwd"), "fine": Link("real.txt"), "real.txt": "",
            "dangling": Link("nothing"), "out": Link("../../etc"), "dir": Link("folder"),
            "folder/A.yaml": vm("a1"), "folder/a.yaml": vm("a2"), "sub": Submodule(),
            b"new\nline.yaml": vm("b"), b"bad\xff.yaml": vm("c"), ".git/config": "", "back\\slash.yaml": "",
        }
    )  # fmt: skip
    with pytest.raises(ManifestErrors) as caught:
        await source.fetch()
    assert [f"{p.file}: {p.message}" for p in caught.value.problems] == [
        ".git: has a name that git forbids",
        "back\\slash.yaml: has a name that git forbids",
        "bad\\xff.yaml: has a name that is not UTF-8",
        "dir: is a symbolic link, which is never followed",
        "folder/a.yaml: differs from A.yaml by case alone",
        "link.yaml: is a symbolic link, which is never followed",
        "new\\x0aline.yaml: has control characters in its name",
        "out: is a symbolic link, which is never followed",
        "sub: is a submodule, which is never read",
    ]


@pytest.mark.shows(fault=105)
@pytest.mark.parametrize("mode", ["0", "644", "60000", "20755", "140000", "1000000"])
async def test_an_entry_that_is_of_no_kind_is_a_problem_with_its_path(
    mode: str, tmp_path: Path, make_source: MakeSource
) -> None:
    origin = RealGit(tmp_path / "odd.git")
    folder = origin.files({"vm.yaml": vm("db")})
    vms = origin.tree(
        {"db": (mode, folder), "web.yaml": ("100644", origin.put("blob", vm("web").encode()))}
    )
    origin.point(origin.commit(origin.tree({"vms": ("040000", vms)})))
    with pytest.raises(ManifestErrors) as caught:
        await make_source(origin.path).fetch()
    assert [(p.file, p.message) for p in caught.value.problems] == [
        ("vms/db", "has a mode that git does not know")
    ]


@pytest.mark.shows(fault=105)
async def test_a_folder_that_git_could_not_read_is_a_problem_with_its_path(
    tmp_path: Path, make_source: MakeSource
) -> None:
    origin = RealGit(tmp_path / "odd.git")
    broken = origin.put("tree", b"40000 no end")
    layer = origin.put("blob", vm("web", layers="[tree: ./broken]").encode())
    origin.point(
        origin.commit(origin.tree({"broken": ("40000", broken), "w.yaml": ("100644", layer)}))
    )
    with pytest.raises(ManifestErrors, match="git itself cannot read") as caught:
        await make_source(origin.path).fetch()
    assert {p.file for p in caught.value.problems} <= {"broken", "w.yaml"}


async def test_a_push_is_noticed_before_the_next_look(
    repository: Repository, make_source: MakeSource, tmp_path: Path
) -> None:
    source, pushed = make_source(), asyncio.Event()
    repository.commit({"a.yaml": vm("a")})
    await source.fetch()
    source.watch(pushed.set)
    for replaced in (False, True):
        if replaced:  # the folder is another one now: it is watched from the next look on
            repository.path.rename(tmp_path / "old")
            repository = Repository(repository.path)
            repository.commit({"a.yaml": vm("b")})
            await source.fetch()
        await asyncio.sleep(0.05)
        pushed.clear()
        repository.commit({"a.yaml": vm("c"), "r": str(replaced)})
        async with asyncio.timeout(10):
            await pushed.wait()


async def test_a_file_url_is_a_local_repository(
    repository: Repository, make_source: MakeSource
) -> None:
    repository.commit({"a.yaml": vm("a")})
    source = make_source(f"file://{repository.path}")
    assert list((await state_of(source)).vms) == ["a"]
    assert source.next_delay(0) == 1.0
    assert source.mirror.is_dir()


async def test_a_remote_repository_is_fetched_over_the_network(
    repository: Repository, make_source: MakeSource
) -> None:
    old = repository.commit({"a.yaml": vm("old")})
    repository.commit({"a.yaml": vm("new")})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    daemon = await asyncio.create_subprocess_exec(
        "git", "daemon", "--reuseaddr", f"--port={port}", "--listen=127.0.0.1", "--export-all",
        f"--base-path={repository.path.parent}", start_new_session=True,
    )  # fmt: skip
    try:
        source = make_source(source_url(port))
        fetched = await first_of(source)
        assert fetched.state is not None
        assert list(fetched.state.vms) == ["new"]
        assert (await source.fetch()).state is None
        repository.commit({"a.yaml": vm("newer")})
        assert list((await state_of(source)).vms) == ["newer"]
        pinned = make_source(source_url(port), name="pinned", commit=old)
        assert list((await state_of(pinned)).vms) == ["old"]
        assert (await pinned.fetch()).state is None
    finally:
        os.killpg(daemon.pid, signal.SIGKILL)
        await daemon.wait()


def source_url(port: int) -> str:
    return f"git://127.0.0.1:{port}/repository.git"


async def first_of(source: GitSource) -> Fetched:
    """What is found once the server is up."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await source.fetch()
            except SourceError as error:
                if error.kind != "network":
                    raise
            await asyncio.sleep(0.05)


async def test_a_local_repository_that_is_not_there_yet_is_said_with_how_to_make_it(
    tmp_path: Path, make_source: MakeSource
) -> None:
    nowhere = tmp_path / "nowhere.git"
    source = make_source(url=str(nowhere))
    with pytest.raises(SourceError, match="there is no repository at") as caught:
        await source.fetch()
    assert caught.value.kind == "missing"
    assert f"git init --bare {nowhere}" in caught.value.hint


def test_what_is_remembered_of_folders_does_not_grow_with_the_pushes(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SPARE_ENTRIES", 20)
    read = mirror.Mirror(repository.path, "", mirror.ReadLimits(100, MIB))
    files = {f"{n}.yaml": vm(f"vm-{n}") for n in range(10)}
    for commit in range(12):
        one = repository.commit(files | {"0.yaml": vm("vm-0", spec=f"vcpu: {commit + 1}")})
        with read.open(Revision(one)):
            assert read.entries <= 3 * 10 + 20


async def test_many_fetches_end_in_one_pack_and_leave_nothing_aside(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MOST_PACKS", 4)
    mirrored = tmp_path / "git" / "main"
    request = WorkerRequest(
        mirror=str(mirrored), url=str(repository.path), want="branch", name="main",
        ref="refs/reconciler/target", deadline=30.0, repository_bytes=1 << 30, ssh_key="",
    )  # fmt: skip
    packs = []
    for commit in range(12):
        revision = repository.commit({"a.yaml": vm("a", spec=f"vcpu: {commit + 1}")})
        assert fetching.update_mirror(request).revision == revision
        packs.append(len(list(mirrored.glob("objects/pack/*.pack"))))
    assert max(packs) <= 4
    assert [path.name for path in mirrored.parent.iterdir()] == ["main"]
