"""Settings that name places: how a repository is reached, and where relative paths are meant from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from reconciler import config as settings
from reconciler.cli.daemon_client import find_daemon
from reconciler.config import Config, load_config, parse_config
from reconciler.config_fields import HostPath, Secret
from reconciler.errors import ConfigError

pytestmark = [pytest.mark.shows(fault=109), pytest.mark.shows(fault=110)]


def refusal(**source: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_config({"source": source}, "c.toml")
    assert caught.value.hint
    return caught.value


@pytest.mark.shows(fault=109)
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"url": "https://bob:secret@h/x"}, "source.url: contains a user or password"),
        ({"url": "https://secret@h/x"}, "source.url: contains a user or password"),
        ({"url": "http://bob:secret@h/x", "allow_plaintext": True}, "source.url: contains a user or password"),
        ({"url": "ssh://git:secret@h/x"}, "source.url: contains a password"),
        ({"url": "http://h/x"}, "source.url: http:// is not encrypted"),
        ({"url": "git://h/x"}, "source.url: git:// is not encrypted"),
        ({"url": "HTTP://h/x"}, "source.url: http:// is not encrypted"),
        ({"url": "ftp://h/x"}, "source.url: ftp:// is not supported"),
        ({"url": "file://srv/x"}, "source.url: names a host behind file://"),
        ({"url": "http://h/x", "allow_plaintext": True, "token_file": "/t"}, "source.token_file: is only sent over https"),
        ({"url": "git@h:x", "token_file": "/t"}, "source.token_file: is only sent over https"),
        ({"url": "https://h/x", "user": "bob"}, "source.user: goes with source.token_file"),
        ({"url": "https://h/x", "user": "bob:secret", "token_file": "/t"}, "source.user"),
    ],
)  # fmt: skip
def test_a_way_that_is_not_safe_is_refused_with_what_to_write(
    source: dict[str, Any], words: str
) -> None:
    error = refusal(**source)
    assert words in str(error)
    assert "secret" not in f"{error}{error.hint}"


@pytest.mark.parametrize(
    "source",
    [
        {"url": "https://h/x"}, {"url": "https://h:8443/x", "token_file": "/t", "user": "bob"},
        {"url": "git@h:x"}, {"url": "ssh://git@h:2222/x"}, {"url": "/srv/x"}, {"url": "file:///srv/x"},
        {"url": "http://h/x", "allow_plaintext": True}, {"url": "git://h/x", "allow_plaintext": True},
    ],
)  # fmt: skip
def test_a_way_that_is_safe_or_agreed_to_is_taken(source: dict[str, Any]) -> None:
    assert parse_config({"source": source}, "c.toml").source.url == source["url"]


@pytest.mark.shows(fault=110)
def test_relative_paths_are_meant_from_the_folder_of_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/c.toml").write_text(
        'state_dir = "state"\ncontrol_socket = "./run/c.sock"\n'
        '[source]\nurl = "../fleet.git"\nssh_key = "keys/id"\nknown_hosts = "/etc/known"\n'
        '[webhook]\nsecret_file = "keys/hook"\n[policy]\nhost_paths = ["boot"]\n'
        '[[notifications]]\nname = "a"\ntype = "webhook"\nurl_file = "git_url"\nsecret_file = "keys/s"\n',
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("etc/c.toml"))
    etc = f"{tmp_path}/etc"
    monkeypatch.chdir("/")
    assert (config.state_dir, config.control_socket) == (f"{etc}/state", f"{etc}/./run/c.sock")
    assert config.source.url == f"{etc}/../fleet.git"
    assert (config.source.ssh_key, config.source.known_hosts) == (f"{etc}/keys/id", "/etc/known")
    assert config.source.keyring == ""
    assert (config.webhook.secret_file, config.policy.host_paths) == (
        f"{etc}/keys/hook", [f"{etc}/boot"],
    )  # fmt: skip
    (sink,) = config.notifications
    assert isinstance(sink, settings.WebhookConfig)
    assert (sink.url_file, sink.secret_file) == ("git_url", f"{etc}/keys/s"), "a credential's name"


def test_an_address_is_no_path_and_a_tilde_is_no_home(tmp_path: Path) -> None:
    for url in ("git@h:x", "https://h/x", "file:///x"):
        assert parse_config({"source": {"url": url}}, "c", tmp_path).source.url == url
    with pytest.raises(ConfigError, match=r"state_dir: ~ is not expanded"):
        parse_config({"source": {"url": "/x"}, "state_dir": "~/state"}, "c", tmp_path)
    assert "~ is not expanded" in str(refusal(url="~/fleet.git"))


@pytest.mark.shows(fault=110)
def test_a_command_finds_the_socket_where_the_daemon_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('control_socket = "c.sock"\n[source]\nurl = "/x"\n', encoding="utf-8")
    assert str(find_daemon(None, path).path) == load_config(path).control_socket


@pytest.mark.shows(fault=110)
def test_every_setting_that_names_a_file_is_of_a_type_that_resolves_it() -> None:
    """A new one as plain `str` would be looked for wherever a child happens to work."""
    named = ("_file", "_dir", "_socket", "_key", "_hosts", "_paths", "_signers", "keyring")
    plain = [
        f"{model.__name__}.{name}"
        for model in models(Config)
        for name, field in model.model_fields.items()
        if name.endswith(named)
        and not any("resolved" in str(part) for part in (field.metadata, field.annotation))
    ]
    assert plain == []
    assert get_origin(HostPath) is get_origin(Secret)


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= models(part)
    return found


def parts(annotation: Any) -> list[Any]:
    return [annotation, *(p for a in get_args(annotation) for p in parts(a))]


@pytest.mark.shows(fault=135)
def test_an_unknown_kind_of_sink_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[source]\nurl = "a.git"\n[[notifications]]\nname = "x"\ntype = "slak"\n')
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert 'notifications[0].type: "slak" is not one of: webhook, slack' in str(refused.value)
    assert refused.value.hint == "did you mean slack?"
