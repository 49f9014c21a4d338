"""Which commits are followed: real repositories, real signatures, and the settings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pygit2.enums import ObjectType

from reconciler.config import parse_config
from reconciler.errors import ConfigError, RevisionRefused
from reconciler.model.desired import ANY, Lineage
from reconciler.model.names import Revision
from reconciler.source.git.source import GitSource
from tests.unit.source.conftest import MakeSource
from tests.unit.source.repositories import Repository, vm
from tests.unit.source.signed import LASTING
from tests.unit.source.test_signatures import allow, key_of, line_of, signed_by

needs_ssh = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"
)


async def refusal(source: GitSource, lineage: Lineage = ANY) -> RevisionRefused:
    with pytest.raises(RevisionRefused) as caught:
        await source.fetch(lineage)
    return caught.value


def sign(repository: Repository, revision: str, key: Path) -> Revision:
    """The same commit with a signature, in the place of the branch's newest."""
    raw = repository.git.odb.read(revision)[1]
    oid = repository.git.odb.write(ObjectType.COMMIT, signed_by(key, raw))
    repository.git.references["refs/heads/main"].set_target(oid)
    return Revision(str(oid))


async def test_a_refusal_says_what_happened_and_what_to_do(
    repository: Repository, make_source: MakeSource
) -> None:
    source = make_source()
    old = repository.commit({"a.yaml": vm("old")})
    new = repository.commit({"a.yaml": vm("new")})
    await source.fetch()
    repository.git.references["refs/heads/main"].set_target(old)
    error = await refusal(source, Lineage((Revision(new),)))
    assert f"set back to a commit before {new[:8]}" in str(error)
    assert f"`reconciler accept-rewrite {old[:8]}`" in error.problems[0]
    repository.git.references["refs/heads/main"].delete()
    repository.commit({"a.yaml": vm("another")})
    error = await refusal(source, Lineage((Revision(new),)))
    assert f"does not continue {new[:8]}" in str(error)


async def test_a_former_commit_that_no_repository_has_any_more_is_not_continued(
    repository: Repository, make_source: MakeSource
) -> None:
    repository.commit({"a.yaml": vm("a")})
    error = await refusal(make_source(), Lineage((Revision("1" * 40),)))
    assert "does not continue 11111111" in str(error)


async def test_merges_continue_both_sides(repository: Repository, make_source: MakeSource) -> None:
    source = make_source()
    one = repository.commit({"a.yaml": vm("a")})
    await source.fetch()
    side = repository.commit({"a.yaml": vm("side")}, branch="side")
    git = repository.git
    tree, author = git[side].tree.id, git[one].author
    git.create_commit("refs/heads/main", author, author, "merge", tree, [one, side])
    found = await source.fetch(Lineage((Revision(one), Revision(side))))
    assert found.state is not None


async def test_settings_may_allow_rewrites_and_a_commit_in_them_needs_no_other_word(
    repository: Repository, make_source: MakeSource
) -> None:
    former = Lineage((Revision("1" * 40),))
    revision = repository.commit({"a.yaml": vm("a")})
    for config in ({"allow_rewrites": True}, {"commit": revision}):
        assert (await make_source(name=next(iter(config)), **config).fetch(former)).state


@pytest.mark.shows(row=28)
@needs_ssh
async def test_row_28_an_unsigned_commit_is_refused_where_signatures_are_asked_for(
    repository: Repository, make_source: MakeSource, tmp_path: Path
) -> None:
    key = key_of(tmp_path, "person")
    source = make_source(verify="head", allowed_signers=allow(tmp_path, line_of(key)))
    unsigned = repository.commit({"a.yaml": vm("a")})
    error = await refusal(source)
    assert (error.kind, error.revision) == ("verify", unsigned)
    assert "it is not signed" in str(error)
    signed = sign(repository, unsigned, key)
    found = await source.fetch()
    assert found.state is not None
    assert found.state.revision == signed


@pytest.mark.shows(row=28)
@needs_ssh
async def test_row_28_a_signed_commit_over_an_unsigned_one_is_enough_for_head_and_not_for_since_last(
    repository: Repository, make_source: MakeSource, tmp_path: Path
) -> None:
    key = key_of(tmp_path, "person")
    signers = allow(tmp_path, line_of(key))
    first = sign(repository, repository.commit({"a.yaml": vm("a")}), key)
    unsigned = repository.commit({"a.yaml": vm("b")})
    signed = sign(repository, repository.commit({"a.yaml": vm("c")}), key)
    head = make_source(name="head", verify="head", allowed_signers=signers)
    assert (await head.fetch(Lineage((first,)))).state
    whole = make_source(name="whole", verify="since-last", allowed_signers=signers)
    error = await refusal(whole, Lineage((first,)))
    assert (error.kind, error.revision) == ("verify", signed)
    assert f"commit {unsigned[:8]} (below {signed[:8]}) is refused" in str(error)


@needs_ssh
async def test_since_last_asks_for_every_commit_since_and_for_none_before(
    repository: Repository, make_source: MakeSource, tmp_path: Path
) -> None:
    key = key_of(tmp_path, "person")
    source = make_source(verify="since-last", allowed_signers=allow(tmp_path, line_of(key)))
    unsigned = repository.commit({"a.yaml": vm("a")})
    sign(repository, repository.commit({"a.yaml": vm("b")}), key)
    sign(repository, repository.commit({"a.yaml": vm("c")}), key)
    found = await source.fetch(Lineage((Revision(unsigned),)))
    assert found.state is not None
    assert list(found.state.vms) == ["c"]


async def test_keys_of_a_kind_that_nobody_named_do_not_count(
    repository: Repository, make_source: MakeSource
) -> None:
    repository.git.TreeBuilder().write()  # the empty tree, which the sample commit is of
    oid = repository.git.odb.write(ObjectType.COMMIT, LASTING.commit())
    repository.git.create_reference("refs/heads/main", oid)
    error = await refusal(make_source(verify="head", allowed_signers="/etc/hosts"))
    assert "source.keyring is empty" in str(error)


def test_asking_for_signatures_of_nobody_is_a_bad_config() -> None:
    with pytest.raises(ConfigError, match=r"source\.verify") as caught:
        parse_config({"source": {"url": "/r.git", "verify": "head"}}, "config.toml")
    assert "source.allowed_signers" in caught.value.hint
