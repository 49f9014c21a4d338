"""Bad repositories, bad networks and broken mirrors: what was known stays, and nothing hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pygit2
import pytest

from reconciler.errors import ManifestErrors, RevisionRefused, SourceError
from reconciler.model.names import Revision
from reconciler.source.git.source import TARGET, GitSource
from tests.unit.source.repositories import Program, Repository, source_of, vm

MIB = 1024 * 1024
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository.git")


@pytest.fixture
async def make_source(
    tmp_path: Path, repository: Repository
) -> AsyncIterator[Callable[..., GitSource]]:
    made: list[GitSource] = []

    def make(url: object = None, **config: Any) -> GitSource:
        made.append(source_of(url or repository.path, tmp_path / "state", **config))
        return made[-1]

    yield make
    for source in made:
        await source.close()


@contextlib.asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[int]:
    """A TCP server that answers as it likes."""
    open_ones: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await handler(reader, writer)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for writer in open_ones:
            writer.transport.abort()
        await asyncio.sleep(0)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    while await reader.read(4096):
        pass


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del reader
    writer.write(b"0fff")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def kind_of(source: GitSource) -> str:
    with pytest.raises(SourceError) as caught:
        await source.fetch()
    assert caught.value.hint
    assert source.status().error == str(caught.value)
    return caught.value.kind


def answers(status: str, *headers: str) -> Handler:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = [f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        writer.close()

    return answer


@pytest.mark.shows(row=23)
@pytest.mark.parametrize("handler", [silence, trickle], ids=["silent", "a byte now and then"])
async def test_a_server_that_never_ends_is_left_at_the_deadline(
    handler: Handler, make_source: Callable[..., GitSource]
) -> None:
    async with server(handler) as port:
        source = make_source(f"git://127.0.0.1:{port}/x", fetch_timeout=1.0)
        async with asyncio.timeout(15):
            assert await kind_of(source) == "timeout"
    assert source.child_pid is None
    assert source.status().failures == 1


@pytest.mark.shows(row=23)
async def test_a_child_that_was_killed_is_started_again(
    repository: Repository, make_source: Callable[..., GitSource]
) -> None:
    repository.commit({"a.yaml": vm("a")})
    source = make_source()
    await source.fetch()
    pid = source.child_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    try:
        await source.fetch()
    except SourceError as error:  # asked before its end was noticed
        assert error.kind == "limit"  # noqa: PT017 - it may as well not be raised
    assert (await source.fetch()).state is None
    assert source.child_pid not in (None, pid)


@pytest.mark.shows(row=22)
@pytest.mark.parametrize(
    ("status", "kind"),
    [("401 Unauthorized", "auth"), ("403 Forbidden", "auth"), ("404 Not Found", "missing"),
     ("500 Internal Server Error", "network"), ("502 Bad Gateway", "network")],
)  # fmt: skip
async def test_an_answer_of_a_server_is_sorted(
    status: str, kind: str, make_source: Callable[..., GitSource]
) -> None:
    challenge = ('WWW-Authenticate: Basic realm="x"',) if status.startswith("401") else ()
    async with server(answers(status, *challenge)) as port:
        source = make_source(f"http://bob:secret@127.0.0.1:{port}/x", fetch_timeout=20.0)
        assert await kind_of(source) == kind
        assert "secret" not in source.status().error
        assert "bob" not in source.status().url


@pytest.mark.shows(row=22)
async def test_what_cannot_be_reached_is_the_network(make_source: Callable[..., GitSource]) -> None:
    async with server(silence) as port:
        pass
    assert await kind_of(make_source(f"http://127.0.0.1:{port}/x")) == "network"
    assert await kind_of(make_source("https://nowhere.invalid/x", name="b")) == "network"


@pytest.mark.shows(row=22)
async def test_a_lost_repository_changes_nothing(
    repository: Repository, make_source: Callable[..., GitSource], tmp_path: Path
) -> None:
    revision = repository.commit({"a.yaml": vm("a")})
    source = make_source()
    await source.fetch()
    repository.git.references.delete("refs/heads/main")
    assert await kind_of(source) in ("missing", "empty")
    repository.path.rename(tmp_path / "gone")
    assert await kind_of(source) == "missing"
    assert list((await source.load(Revision(revision))).vms) == ["a"]


def lose_an_object(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*"):
        pack.chmod(0o600)
        pack.unlink()


def damage_packs(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*.pack"):
        pack.chmod(0o600)
        content = bytearray(pack.read_bytes())
        content[12:-20] = bytes(len(content) - 32)
        pack.write_bytes(content)


def truncate_the_ref(mirror: Path) -> None:
    (mirror / TARGET).write_bytes(b"12")


def lose_the_head(mirror: Path) -> None:
    (mirror / "HEAD").unlink()


def leave_locks(mirror: Path) -> None:
    (mirror / f"{TARGET}.lock").touch()
    (mirror / "packed-refs.lock").touch()
    (mirror / "objects/pack/pack_git2_abc").write_bytes(b"half")


def empty_the_folder(mirror: Path) -> None:
    subprocess.run(["find", mirror, "-mindepth", "1", "-delete"], check=True, timeout=10)


@pytest.mark.shows(row=29)
@pytest.mark.parametrize(
    "damage",
    [lose_an_object, damage_packs, truncate_the_ref, lose_the_head, leave_locks, empty_the_folder],
)
async def test_a_broken_mirror_is_set_aside_and_cloned_again(
    damage: Callable[[Path], None], repository: Repository, make_source: Callable[..., GitSource]
) -> None:
    repository.commit({"a.yaml": vm("a")})
    first = make_source()
    await first.fetch()
    await first.close()
    damage(first.mirror)
    revision = repository.commit({"a.yaml": vm("a"), "b.yaml": vm("b")})
    again = make_source()
    fetched = await again.fetch()
    assert fetched.state is not None
    assert fetched.state.revision == revision
    assert (await again.load(Revision(revision))).revision == revision
    assert not list(again.mirror.glob("**/*.lock"))


@pytest.mark.shows(row=29)
async def test_a_mirror_that_loses_objects_under_way_is_cloned_again(
    repository: Repository, make_source: Callable[..., GitSource]
) -> None:
    repository.commit({"a.yaml": vm("a", layers="[tree: ./t]"), "t/sbin/init": Program()})
    first = make_source()
    await first.fetch()
    await first.close()
    lose_an_object(first.mirror)
    fetched = await make_source().fetch()
    assert fetched.state is not None
    assert first.mirror.with_name("main.broken").is_dir()


async def test_a_broken_mirror_stays_while_the_repository_is_away(
    repository: Repository, make_source: Callable[..., GitSource], tmp_path: Path
) -> None:
    repository.commit({"a.yaml": vm("a")})
    source = make_source()
    await source.fetch()
    truncate_the_ref(source.mirror)
    repository.path.rename(tmp_path / "away")
    assert await kind_of(source) == "missing"
    assert source.mirror.is_dir()
    assert not source.mirror.with_name("main.new").exists()


@pytest.mark.shows(row=30)
async def test_a_corrupt_repository_is_never_taken(
    repository: Repository, make_source: Callable[..., GitSource]
) -> None:
    good = repository.commit({"a.yaml": vm("a")})
    source = make_source()
    await source.fetch()
    blob = repository.git.create_blob(vm("b").encode())
    repository.commit({"a.yaml": vm("b")})
    path = repository.path / "objects" / str(blob)[:2] / str(blob)[2:]
    path.chmod(0o600)
    path.write_bytes(b"rubbish")
    assert await kind_of(source) == "corrupt"
    assert (await source.load(Revision(good))).revision == good


@pytest.mark.shows(row=31)
async def test_a_repository_that_is_too_large_is_refused(
    repository: Repository, make_source: Callable[..., GitSource]
) -> None:
    repository.commit({"a.yaml": vm("a")})
    source = make_source(max_repository_mib=1)
    await source.fetch()
    repository.commit({"a.yaml": vm("a"), "big": os.urandom(3 * MIB)})
    assert await kind_of(source) == "limit"
    assert not source.mirror.with_name("main.new").exists()
    repository.commit({"a.yaml": vm("a"), "small": ""})
    repository.git.references["refs/heads/main"].set_target(clean_commit(repository))
    assert (await source.fetch()).changed


def clean_commit(repository: Repository) -> pygit2.Oid:
    """The content of the newest commit, without its history."""
    tip = repository.git.references["refs/heads/main"].peel(pygit2.Commit)
    return repository.git.create_commit(None, tip.author, tip.author, "new", tip.tree_id, [])


@pytest.mark.shows(row=31)
async def test_a_blob_that_grows_when_it_is_read_is_never_read(
    repository: Repository, make_source: Callable[..., GitSource]
) -> None:
    repository.commit({"a.yaml": bytes(64 * MIB), "b.yaml": vm("b")})
    with pytest.raises(ManifestErrors) as caught:
        await make_source().fetch()
    assert [str(p) for p in caught.value.problems] == [
        "a.yaml:1:1: is larger than 1024 KiB (split it, or raise source.max_file_kib)"
    ]


@pytest.mark.shows(row=31)
async def test_too_many_files_and_too_deep_folders_are_refused(
    repository: Repository, make_source: Callable[..., GitSource]
) -> None:
    for files in (
        {f"{n}.yaml": "" for n in range(11)},
        {"/".join(["d"] * 500) + "/a.yaml": vm("a")},
    ):
        revision = repository.commit(files)
        source = make_source(max_files=10)
        with pytest.raises(RevisionRefused) as caught:
            await source.fetch()
        assert (caught.value.kind, caught.value.revision) == ("limit", revision)
        assert source.status().error == "", "the source answers well"


@pytest.mark.shows(row=27)
async def test_an_emptied_repository_is_an_empty_state(
    repository: Repository, make_source: Callable[..., GitSource]
) -> None:
    source = make_source()
    repository.commit({"a.yaml": vm("a")})
    await source.fetch()
    revision = repository.commit({})
    state = (await source.fetch()).state
    assert state is not None
    assert (state.revision, state.vms) == (revision, {})


async def test_a_request_that_is_cancelled_leaves_no_child(
    make_source: Callable[..., GitSource],
) -> None:
    connected = asyncio.Event()

    async def notice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await silence(reader, writer)

    async with server(notice) as port:
        source = make_source(f"git://127.0.0.1:{port}/x", fetch_timeout=60.0)
        task = asyncio.create_task(source.fetch())
        await connected.wait()
        pid = source.child_pid
        assert pid is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.shows(row=24)
@pytest.mark.parametrize("key", ["", "none"], ids=["without a key", "with a key that is not there"])
async def test_a_missing_key_is_told_without_a_storm(
    key: str, tmp_path: Path, make_source: Callable[..., GitSource]
) -> None:
    async with server(silence) as port:
        pass
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"127.0.0.1 {HOST_KEY}\n", encoding="utf-8")
    source = make_source(
        f"ssh://git@127.0.0.1:{port}/x", ssh_key=str(tmp_path / key) if key else "",
        known_hosts=str(known_hosts),
    )  # fmt: skip
    assert await kind_of(source) == "network"
    assert source.next_delay(1) >= 5


async def test_known_hosts_that_cannot_be_read_are_told(
    tmp_path: Path, make_source: Callable[..., GitSource]
) -> None:
    source = make_source("ssh://git@127.0.0.1:1/x", known_hosts=str(tmp_path / "none"))
    assert await kind_of(source) == "verify"
    assert "No such file" in source.status().error
