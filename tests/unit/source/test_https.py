"""Tokens, certificates and proxies, on a real git server behind TLS."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import SourceError
from reconciler.http_proxies import UnsupportedProxy, proxy_for, shown
from tests.unit.source.conftest import MakeSource
from tests.unit.source.https import GitServer, Proxy, basic, make_certificate, running
from tests.unit.source.realgit import RealGit
from tests.unit.source.repositories import vm

pytestmark = [
    pytest.mark.skipif(
        shutil.which("openssl") is None, reason="openssl is not installed: ./dev test installs it"
    ),
    pytest.mark.shows(fault=108),
]
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def certificate(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_certificate(tmp_path_factory.mktemp("tls"))
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return made


@pytest.fixture
def origin(tmp_path: Path) -> RealGit:
    made = RealGit(tmp_path / "served" / "fleet.git")
    made.point(made.commit(made.files({"a.yaml": vm("web")})))
    return made


@pytest.fixture
def server(origin: RealGit, certificate: Path) -> Iterator[GitServer]:
    started = GitServer(origin.path.parent, ("git", "s3cret"))
    with running(started, certificate):
        yield started


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("s3cret\n", encoding="utf-8")
    path.chmod(0o600)
    return path


async def refused(make_source: MakeSource, url: str, **config: object) -> SourceError:
    source = make_source(url, **config)
    with pytest.raises(SourceError) as caught:
        await source.fetch()
    assert "s3cret" not in f"{caught.value}{caught.value.hint}{source.status()}"
    assert caught.value.hint
    return caught.value


@pytest.mark.shows(fault=109)
async def test_a_token_of_a_file_lets_the_source_in_and_is_read_again(
    server: GitServer, origin: RealGit, token_file: Path, make_source: MakeSource
) -> None:
    source = make_source(f"{server.url}fleet.git", token_file=str(token_file))
    state = (await source.fetch()).state
    assert state is not None
    assert list(state.vms) == ["web"]
    server.token = ("git", "renewed")
    with pytest.raises(SourceError) as caught:
        await source.fetch()
    assert (caught.value.kind, "source.token_file" in caught.value.hint) == ("auth", True)
    token_file.write_text("renewed", encoding="utf-8")
    origin.point(origin.commit(origin.files({"a.yaml": vm("db")})))
    assert (await source.fetch()).changed


async def test_the_user_that_is_named_shows_the_token(
    server: GitServer, token_file: Path, make_source: MakeSource
) -> None:
    server.token = ("deploy", "s3cret")
    source = make_source(f"{server.url}fleet.git", user="deploy", token_file=str(token_file))
    assert (await source.fetch()).changed


async def test_without_a_good_token_the_hint_names_the_file(
    server: GitServer, token_file: Path, make_source: MakeSource, tmp_path: Path
) -> None:
    url = f"{server.url}fleet.git"
    error = await refused(make_source, url, name="none")
    assert (error.kind, "source.token_file" in error.hint) == ("auth", True)
    error = await refused(make_source, url, name="gone", token_file=str(tmp_path / "gone"))
    assert str(error) == f"source.token_file {tmp_path / 'gone'}: No such file or directory"
    token_file.chmod(0o644)
    error = await refused(make_source, url, name="open", token_file=str(token_file))
    assert (error.kind, error.hint) == ("auth", f"chmod o= {token_file}")
    token_file.write_text("s3cret\nanother\n", encoding="utf-8")
    token_file.chmod(0o600)
    error = await refused(make_source, url, name="two", token_file=str(token_file))
    assert "is not one line with a token" in str(error)


@pytest.mark.shows(fault=109)
async def test_a_token_goes_to_no_other_server(
    origin: RealGit, token_file: Path, certificate: Path, make_source: MakeSource
) -> None:
    thief = GitServer(origin.path.parent, ("git", "s3cret"))  # another port of the same host
    with running(thief, certificate):
        first = GitServer(origin.path.parent, None, redirect=thief.url.rstrip("/"))
        with running(first, certificate):
            error = await refused(make_source, f"{first.url}fleet.git", token_file=str(token_file))
    assert error.kind == "auth"
    assert thief.given
    assert not any(thief.given), "it was asked, and shown nothing"


@pytest.mark.shows(fault=109)
async def test_a_certificate_that_nobody_vouches_for_is_refused(
    server: GitServer, token_file: Path, make_source: MakeSource, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    other = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "empty"))
    error = await refused(make_source, f"{server.url}fleet.git", token_file=str(token_file))
    assert error.kind == "verify"
    assert not any(server.given)


@pytest.mark.shows(fault=108)
@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
async def test_the_proxy_of_the_environment_is_asked(
    variable: str, server: GitServer, token_file: Path, make_source: MakeSource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    proxy = Proxy()
    with running(proxy):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.server_port}")
        source = make_source(f"{server.far_url}fleet.git", token_file=str(token_file))
        assert (await source.fetch()).changed
        assert set(proxy.asked) == {f"git.fleet.example:{server.server_port}"}
        proxy.asked.clear()
        direct = make_source(f"{server.url}fleet.git", name="b", token_file=str(token_file))
        assert (await direct.fetch()).changed
        assert proxy.asked == []
        await source.close()


@pytest.mark.shows(fault=108)
async def test_a_proxy_that_wants_a_password_gets_the_one_of_its_address(
    server: GitServer, token_file: Path, make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(basic("me", "s3cret"))
    with running(proxy):
        monkeypatch.setenv("https_proxy", f"http://me:s3cret@127.0.0.1:{proxy.server_port}")
        source = make_source(f"{server.far_url}fleet.git", token_file=str(token_file))
        assert (await source.fetch()).changed
        await source.close()
    error = await refused(make_source, f"{server.far_url}fleet.git", name="gone")
    assert f"(by way of the proxy http://***@127.0.0.1:{proxy.server_port})" in str(error)


def test_which_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", ".inside.example,10.0.0.1,h.example:8443")
    assert proxy_for("https://git.example.org/x") == "http://proxy.example:3128"
    for url in ("http://git.example.org/x", "https://git.inside.example/x", "https://10.0.0.1/x",
                "https://h.example:8443/x", "https://localhost/x", "https://127.0.0.1:8443/x", "https://[::1]/x", "ssh://h/x", "git@h:x", "/srv/x", "git://h/x"):  # fmt: skip
        assert proxy_for(url) is None, url
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(UnsupportedProxy, match="socks5"):
        proxy_for("https://git.example.org/x")
    assert shown("http://me:secret@h:1") == "http://***@h:1"
