"""A server's host key, shown by a real sshd: only one that known_hosts names is ever talked to."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reconciler.errors import SourceError
from reconciler.source.git.source import GitSource
from tests.integration.sshd import Server, make_key, serving
from tests.unit.source.repositories import Repository, source_of, vm

pytestmark = [pytest.mark.integration, pytest.mark.shows(fault=51)]

ED25519, RSA = "ssh-ed25519", "ssh-rsa"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sshd")) as started:
        yield started


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "fleet.git")
    made.commit({"a.yaml": vm("web")})
    return made


@pytest.fixture
def known_hosts(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


@pytest.fixture
async def source(
    tmp_path: Path, server: Server, repository: Repository, known_hosts: Path
) -> AsyncIterator[GitSource]:
    made = source_of(
        server.url(repository.path), tmp_path / "state",
        ssh_key=str(server.client_key), known_hosts=str(known_hosts),
    )  # fmt: skip
    yield made
    await made.close()


async def refused(source: GitSource) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await source.fetch()
    assert caught.value.kind == "verify", str(caught.value)
    assert source.status().error == str(caught.value)
    return caught.value


def hashed(server: Server, path: Path) -> None:
    path.write_text(f"{server.name} {server.keys[ED25519]}\n", encoding="utf-8")
    subprocess.run(["ssh-keygen", "-H", "-f", str(path)], check=True, capture_output=True)
    assert "127.0.0.1" not in path.read_text(encoding="utf-8")


@pytest.mark.shows(fault=51)
@pytest.mark.parametrize(
    "line",
    [
        "{name} {ed25519}", "{name} {rsa}", "other,{name} {ed25519} a comment", "[127.0.0.*]:* {ed25519}",
        "127.0.0.1 {ed25519}", "# older\n\n{name} {stranger}\n{name} {ed25519}",
        "{name} {ed25519}\n{name} {rsa}\n@revoked * {ed25519}",
    ],
    ids=["the port", "an RSA key alone", "one of several", "a pattern", "no port", "one of two",
         "another of its keys is revoked"],
)  # fmt: skip
async def test_a_host_key_that_known_hosts_names_is_trusted(
    line: str, server: Server, source: GitSource, known_hosts: Path, tmp_path: Path
) -> None:
    stranger = make_key(tmp_path / "stranger")
    words = {"ed25519": server.keys[ED25519], "rsa": server.keys[RSA], "stranger": stranger}
    known_hosts.write_text(line.format(name=server.name, **words) + "\n", encoding="utf-8")
    state = (await source.fetch()).state
    assert state is not None
    assert list(state.vms) == ["web"]


async def test_a_hashed_name_is_trusted(
    server: Server, source: GitSource, known_hosts: Path
) -> None:
    hashed(server, known_hosts)
    assert (await source.fetch()).changed


@pytest.mark.shows(fault=51)
async def test_a_wrong_host_key_is_refused_and_mended_without_a_restart(
    server: Server, source: GitSource, repository: Repository, known_hosts: Path, tmp_path: Path
) -> None:
    error = await refused(source)
    assert "No such file" in str(error)
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >>{known_hosts}" in error.hint
    known_hosts.touch()
    error = await refused(source)
    assert f"has no host key of {server.name}" in str(error)
    known_hosts.write_text(f"{server.name} {make_key(tmp_path / 'stranger')}\n", encoding="utf-8")
    error = await refused(source)
    assert str(error) == (
        f"{server.name} shows a host key that is not in {known_hosts} (ssh-ed25519)"
    )
    assert "ssh-keygen -lf -" in error.hint
    pid = source.child_pid
    known_hosts.write_text(f"{server.name} {server.keys[ED25519]}\n", encoding="utf-8")
    assert (await source.fetch()).changed
    known_hosts.write_text(
        f"{server.name} {server.keys[ED25519]}\n@revoked * {server.keys[ED25519]}\n", encoding="utf-8"
    )  # fmt: skip
    repository.commit({"a.yaml": vm("db")})
    assert "is @revoked" in str(await refused(source))
    assert source.child_pid == pid


@pytest.mark.shows(fault=51)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[127.0.0.*]:*,!{name} {ed25519}", "has no host key"),
        ("@cert-authority [*]:* {ed25519}", "host certificates are not supported"),
        ("{name} {ecdsa}", "has no host key of the types in"),
        ("{name} {ed25519}\n{name} ssh-ed25519 AAAA", "known_hosts:2: "),
        ("{name} {ed25519}\n@revokd * {rsa}", "known_hosts:2: "),
        ("{name}0 {ed25519}", "has no host key"),
    ],
    ids=["excluded", "an authority alone", "a type it lacks", "a damaged line", "an unknown marker",
         "another port"],
)  # fmt: skip
async def test_what_known_hosts_does_not_clearly_name_is_refused(
    line: str, words: str, server: Server, source: GitSource, known_hosts: Path, tmp_path: Path
) -> None:
    ecdsa = make_key(tmp_path / "ecdsa", "ecdsa")
    keys = {"ed25519": server.keys[ED25519], "rsa": server.keys[RSA], "ecdsa": ecdsa}
    known_hosts.write_text(line.format(name=server.name, **keys) + "\n", encoding="utf-8")
    error = await refused(source)
    assert words in str(error)
    assert error.hint


@pytest.mark.shows(fault=51)
async def test_a_refused_server_is_not_even_asked_for_a_key_of_ours(
    server: Server, source: GitSource, known_hosts: Path, tmp_path: Path
) -> None:
    known_hosts.write_text(f"{server.name} {make_key(tmp_path / 'stranger')}\n", encoding="utf-8")
    log = server.client_key.with_name("sshd.log")
    before = log.read_text(encoding="utf-8").count("Accepted publickey")
    await refused(source)
    assert log.read_text(encoding="utf-8").count("Accepted publickey") == before
