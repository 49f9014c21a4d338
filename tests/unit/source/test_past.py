"""The history as people see it: real commits, merges, clocks that lie, and what is not there."""

from __future__ import annotations

import time
from pathlib import Path

import pygit2
import pytest

from reconciler.errors import SourceError
from reconciler.source.git import commit_log
from tests.unit.source.conftest import MakeSource
from tests.unit.source.repositories import Repository, vm


class History:
    """A bare repository in which every commit is made by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.git = pygit2.init_repository(str(path), bare=True)
        self.tree = self.git.TreeBuilder().write()

    def commit(self, message: str | bytes, made: int, *parents: str) -> str:
        author = pygit2.Signature("a person", "person@example.org", made, 0)
        if isinstance(message, str):
            oids = [pygit2.Oid(hex=parent) for parent in parents]
            return str(self.git.create_commit(None, author, author, message, self.tree, oids))
        who = b"a person <p@example.org> %d +0000" % made
        raw = b"tree %s\nauthor %s\ncommitter %s\n\n" % (str(self.tree).encode(), who, who)
        return str(self.git.odb.write(pygit2.enums.ObjectType.COMMIT, raw + message))

    def newest(self, *tips: str, most: int = 50) -> list[str]:
        return [commit.revision for commit in commit_log.newest(self.path, tips, most)]


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "mirror")


def test_children_stand_before_parents_whatever_their_clocks_said(history: History) -> None:
    root = history.commit("root", 900)
    left, right = history.commit("left", 100, root), history.commit("right", 800, root)
    merge = history.commit("merge", 50, left, right)
    assert history.newest(merge) == [merge, right, left, root]
    found = commit_log.newest(history.path, [merge], 50)
    assert found[0].parents == (left, right)
    assert (found[0].subject, found[0].author_wall) == ("merge", 50.0)


def test_a_refused_commit_that_left_the_branch_is_shown_beside_it(history: History) -> None:
    root = history.commit("root", 1)
    bad, good = history.commit("bad", 2, root), history.commit("good", 3, root)
    assert history.newest(good, bad) == [good, bad, root]


def test_only_so_many_are_read_of_a_long_history(history: History) -> None:
    tip = history.commit("0", 0)
    for number in range(1, commit_log.MOST_COMMITS + 20):
        tip = history.commit(str(number), number, tip)
    began = time.thread_time()
    assert len(history.newest(tip, most=50)) == 50
    assert len(history.newest(tip, most=10_000)) == commit_log.MOST_COMMITS
    assert time.thread_time() - began < 1.0, "some milliseconds"


@pytest.mark.parametrize(
    ("message", "subject"),
    [
        ("one\n\nmore words", "one"), ("", "(no message)"), ("\n\n  late", "late"),
        ("x" * 5000, "x" * commit_log.MOST_SUBJECT), (b"\xff\xfe", "\ufffd\ufffd"),
        (b"y" * (commit_log.MOST_COMMIT_BYTES + 1), "(too large to show)"),
    ],
)  # fmt: skip
def test_any_message_has_a_short_subject(
    history: History, message: str | bytes, subject: str
) -> None:
    tip = history.commit(message, 1)
    assert commit_log.newest(history.path, [tip], 5)[0].subject == subject


def test_what_is_not_there_is_left_out(history: History, tmp_path: Path) -> None:
    tip = history.commit("here", 1)
    assert history.newest("0" * 40, "not a revision", tip) == [tip]
    assert commit_log.newest(tmp_path / "nothing", [tip], 5) == ()


def test_a_damaged_commit_is_an_error_and_no_crash(history: History) -> None:
    tip = history.commit("here", 1)
    path = history.path / "objects" / tip[:2] / tip[2:]
    path.chmod(0o600)
    path.write_bytes(b"rot")
    with pytest.raises(SourceError, match="history cannot be read"):
        history.newest(tip)


async def test_a_source_tells_the_commits_that_it_fetched(
    repository: Repository, make_source: MakeSource
) -> None:
    source = make_source()
    first = repository.commit({"a.yaml": vm("a")})
    second = repository.commit({"a.yaml": vm("a", spec="vcpu: 2")})
    assert await source.commits([second], 50) == (), "nothing was fetched yet"
    await source.fetch()
    assert [one.revision for one in await source.commits([second], 50)] == [second, first]
