"""Histories that git takes and libgit2 does not, from real git, on this host and over a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pygit2
import pytest

from reconciler.errors import RevisionRefused, SourceError
from reconciler.model.desired import Lineage
from reconciler.model.names import Revision
from reconciler.source.git import commit_graph as history, fetch as fetching
from reconciler.source.git.error_kinds import sorted_failure
from reconciler.source.git.protocol import WorkerRequest
from tests.unit.source.conftest import MakeSource
from tests.unit.source.realgit import PERSON, RealGit, run, served
from tests.unit.source.repositories import vm

pytestmark = pytest.mark.shows(fault=106)

WITHOUT_BRACKET = "Jane Doe jane@example.org> 1795970300 +0000"
PEOPLE = [
    (WITHOUT_BRACKET, PERSON), (PERSON, WITHOUT_BRACKET), ("Jane 1795970300 +0000", PERSON), ("", ""),
    ("J <j@x> 99999999999999999999999 +0000", PERSON), ("Jane <j@x>", "Jane <j@x>"),
]  # fmt: skip
IDS = ["author", "committer", "no address", "nothing", "a time out of range", "no time"]


@pytest.fixture
def origin(tmp_path: Path) -> RealGit:
    return RealGit(tmp_path / "served" / "origin.git")


@pytest.fixture(params=["on this host", "over the network"])
def url(request: pytest.FixtureRequest, origin: RealGit) -> Iterator[str]:
    if request.param == "on this host":
        yield str(origin.path)
        return
    with served(origin.path.parent) as address:
        yield f"{address}origin.git"


@pytest.mark.shows(fault=106)
@pytest.mark.parametrize(("author", "committer"), PEOPLE, ids=IDS)
async def test_a_commit_by_whomever_is_followed_and_so_is_the_next(
    author: str, committer: str, origin: RealGit, url: str, make_source: MakeSource
) -> None:
    source = make_source(url)
    first = origin.point(origin.commit(origin.files({"a.yaml": vm("a")})))
    assert (await source.fetch()).revision == first
    odd = origin.commit(
        origin.files({"b.yaml": vm("b")}), first, author=author, committer=committer
    )
    origin.point(odd)
    fetched = await source.fetch(Lineage((Revision(first),)))
    assert fetched.state is not None
    assert (fetched.revision, list(fetched.state.vms)) == (odd, ["b"])
    cloned = source.mirror.stat().st_ino
    assert (await source.fetch()).state is None, "it is known now"
    assert source.mirror.stat().st_ino == cloned, "and not cloned at each look"
    after = origin.point(origin.commit(origin.files({"c.yaml": vm("c")}), odd))
    fetched = await source.fetch(Lineage((Revision(first), Revision(odd))))
    assert fetched.state is not None
    assert (fetched.revision, list(fetched.state.vms)) == (after, ["c"])
    shown = await source.commits([after], 10)
    assert [commit.revision for commit in shown] == [after, odd, first]


@pytest.mark.shows(fault=106)
async def test_a_rewrite_is_refused_also_beside_such_a_commit(
    origin: RealGit, url: str, make_source: MakeSource
) -> None:
    source = make_source(url)
    tree = origin.files({"a.yaml": vm("a")})
    odd = origin.commit(tree, author=WITHOUT_BRACKET)
    followed = origin.point(origin.commit(tree, odd))
    await source.fetch()
    origin.point(origin.commit(origin.files({"b.yaml": vm("b")}), odd))
    with pytest.raises(RevisionRefused, match="does not continue"):
        await source.fetch(Lineage((Revision(followed),)))
    origin.point(odd)
    with pytest.raises(RevisionRefused, match="was set back"):
        await source.fetch(Lineage((Revision(followed),)))


@pytest.mark.shows(fault=106)
async def test_a_tag_and_an_id_lead_to_such_a_commit(
    origin: RealGit, url: str, make_source: MakeSource
) -> None:
    odd = origin.point(origin.commit(origin.files({"a.yaml": vm("a")}), author=WITHOUT_BRACKET))
    tag = f"object {odd}\ntype commit\ntag v1\ntagger {WITHOUT_BRACKET}\n\nwords\n"
    origin.point(origin.put("tag", tag.encode()), "refs/tags/v1")
    for number, config in enumerate(({"tag": "v1"}, {"commit": odd})):
        source = make_source(url, name=f"s{number}", **config)
        assert (await source.fetch()).revision == odd
        assert (await source.preview(odd[:12])).revision == odd


def test_commits_since_the_last_are_the_same_with_and_without_libgit2(
    origin: RealGit,
) -> None:
    tree = origin.files({"a.yaml": vm("a")})
    root = origin.commit(tree, author=WITHOUT_BRACKET)
    left, right = origin.commit(tree, root, author=PERSON), origin.commit(tree, root, author="x")
    merge = origin.commit(tree, left, right)
    top = origin.commit(tree, merge)
    repository = pygit2.Repository(str(origin.path))
    assert set(history.since(repository, top, [left], 99)) == {top, merge, right}
    assert history.since(repository, top, [top], 99) == []
    assert len(history.since(repository, top, [root], 2)) == 2
    assert history.descends(repository, top, root)
    assert not history.descends(repository, left, right)
    assert not history.descends(repository, top, "1" * 40)
    repository.free()


@pytest.mark.shows(fault=107)
async def test_a_repository_that_cannot_be_read_says_which_kind_it_is(
    tmp_path: Path, make_source: MakeSource
) -> None:
    plain = RealGit(tmp_path / "plain.git")
    first = plain.commit(plain.files({"a.yaml": vm("a")}))
    plain.point(plain.commit(plain.files({"b.yaml": vm("b")}), first))
    run("clone", "-q", "--bare", "--depth=1", f"file://{plain.path}", str(tmp_path / "shallow.git"))
    sha256 = RealGit(tmp_path / "sha256.git", "--object-format=sha256")
    tree = sha256.put("tree", b"")
    sha256.point(sha256.commit(tree))
    reftable = RealGit(tmp_path / "reftable.git")
    reftable.git("config", "core.repositoryformatversion", "1")
    reftable.git("config", "extensions.refStorage", "reftable")
    other = RealGit(tmp_path / "other.git")
    other.git("config", "core.repositoryformatversion", "1")
    other.git("config", "extensions.someday", "true")
    wanted = {
        "shallow": ("shallow", "--unshallow"), "sha256": ("SHA-256", "--object-format=sha1"),
        "reftable": ("reftable", "git refs migrate"), "other": ("extensions.someday", "git clone --bare"),
    }  # fmt: skip
    with served(tmp_path) as address:
        for name, (word, command) in wanted.items():
            urls = [str(tmp_path / f"{name}.git")]
            if name in ("shallow", "sha256"):  # the others are a matter of the server's own
                urls.append(f"{address}{name}.git")
            for number, url in enumerate(urls):
                source = make_source(url, name=f"{name}-{number}")
                with pytest.raises(SourceError) as caught:
                    await source.fetch()
                assert caught.value.kind == "unsupported", str(caught.value)
                assert word in str(caught.value)
                assert command in caught.value.hint


@pytest.mark.shows(fault=107)
def test_what_is_not_known_is_not_called_damage() -> None:
    found = sorted_failure(pygit2.GitError("the moon is in the wrong quarter"))
    assert found.kind == "unknown"
    assert "disk" not in found.hint


@pytest.mark.shows(fault=107)
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("failed to connect to 127.0.0.1:40401: Connection refused", "network"),
        ("could not find '/srv/ssl-certificate/limit/x'", "unknown"),
        ("failed to resolve path '/srv/tls/403': No such file or directory", "missing"),
    ],
)
def test_a_name_in_a_message_does_not_sort_it(text: str, kind: str) -> None:
    assert sorted_failure(pygit2.GitError(text)).kind == kind


@pytest.mark.shows(fault=107)
def test_a_damaged_repository_is_not_cloned_at_each_look(origin: RealGit, tmp_path: Path) -> None:
    first = origin.point(origin.commit(origin.files({"a.yaml": vm("a")})))
    request = WorkerRequest(
        mirror=str(tmp_path / "git" / "main"), url=str(origin.path), want="branch", name="main",
        ref="refs/reconciler/target", deadline=30.0, repository_bytes=1 << 30,
    )  # fmt: skip
    fetching.update_mirror(request)
    blob = origin.put("blob", b"lost")
    origin.point(origin.commit(origin.tree({"b.yaml": ("100644", blob)}), first))
    lost = origin.path / "objects" / blob[:2] / blob[2:]
    lost.chmod(0o600)
    lost.write_bytes(b"rubbish")
    touched = []
    for _ in range(4):
        with pytest.raises(SourceError) as caught:
            fetching.update_mirror(request)
        assert caught.value.kind == "corrupt"
        touched.append((tmp_path / "git").stat().st_mtime_ns)  # a clone comes and goes there
    assert len(set(touched)) == 1
    lost.unlink()
    assert origin.put("blob", b"lost") == blob
    assert fetching.update_mirror(request).revision != first
