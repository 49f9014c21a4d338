"""The layer kind `debian`: what a manifest may say, what its key covers, and what a host must allow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from reconciler.config import PolicyConfig
from reconciler.model.layer_kinds.debian_layer import DebianPackages, DebianSource
from reconciler.model.layers import Layer, LayerSpec

BOOKWORM = DebianSource("bookworm", packages=("nginx-light",))


def of(**fields: object) -> DebianPackages:
    return DebianPackages.model_validate({"suite": "bookworm", **fields})


@pytest.mark.parametrize(
    "name",
    [
        "-o", "--allow-unauthenticated", "./evil.deb", "/tmp/evil.deb", "nginx=1.22", "nginx/sid", "nginx-",
        "^task", "task^", "lib.*", "?all", "~n", "a b", "a,b", "nginx\n", "Nginx", "", "a", "ünicode", "$(id)",
        "a;b", "a" * 101,
    ],
)  # fmt: skip
def test_what_apt_could_read_as_anything_but_a_name_is_no_package(name: str) -> None:
    with pytest.raises(ValidationError):
        of(packages=[name])


@pytest.mark.parametrize("name", ["g++", "libstdc++6", "python3.11-minimal", "nginx-light", "0ad"])
def test_names_that_debian_has_are_packages(name: str) -> None:
    assert of(packages=[name]).source().packages == (name,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"suite": "../sid"}, {"suite": "--variant=x"}, {"suite": "Bookworm"}, {"components": []},
        {"components": ["main", "main"]}, {"packages": ["nginx", "nginx"]}, {"snapshot": "yesterday"},
        {"mirror": "file:///srv/evil"}, {"mirror": "http://user:pw@example.org/debian"},
        {"mirror": "http://example.org/debian bookworm main #"}, {"mirror": "http://example.org/../x"},
        {"keyring": "keys.gpg"}, {"refresh": "always"}, {"variant": "buildd"},
    ],
)  # fmt: skip
def test_other_fields_are_as_narrow(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        of(**wrong)


def test_the_order_of_packages_has_no_meaning() -> None:
    one, other = of(packages=["nginx", "curl"]).source(), of(packages=["curl", "nginx"]).source()
    assert one == other


def test_the_key_changes_with_all_that_is_asked_for() -> None:
    changed = [
        BOOKWORM,
        BOOKWORM.base,
        replace(BOOKWORM, suite="trixie"),
        replace(BOOKWORM, packages=("nginx",)),
        replace(BOOKWORM, components=("main", "contrib")),
        replace(BOOKWORM, snapshot="20260101T000000Z"),
        replace(BOOKWORM, mirror="http://mirror.example.org/debian"),
        replace(BOOKWORM, keyring="/etc/keys/own.gpg"),
        replace(BOOKWORM, refresh="2026-11-30"),
    ]
    assert len({LayerSpec.of(source, "squashfs").key for source in changed}) == len(changed)


def test_two_sets_of_packages_of_one_archive_have_one_base_and_another_archive_has_its_own() -> (
    None
):
    other = replace(BOOKWORM, packages=("postgresql",))
    assert other.base == BOOKWORM.base
    assert other.archive_id == BOOKWORM.archive_id
    newer = replace(BOOKWORM, refresh="2026-11-30")
    assert newer.base != BOOKWORM.base
    assert newer.archive_id != BOOKWORM.archive_id


def test_the_archive_of_the_hosts_own_apt_needs_no_policy() -> None:
    assert BOOKWORM.refusal(PolicyConfig()) is None


@pytest.mark.parametrize(
    ("fields", "policy", "at"),
    [
        ({"mirror": "http://mirror.example.org/debian"}, {}, "mirror"),
        ({"mirror": "http://mirror.example.org/debian2"}, {"mirrors": ["http://mirror.example.org/debian"]}, "mirror"),
        ({"mirror": "http://m.example.org/a/../b"}, {"mirrors": ["http://m.example.org/a"]}, "mirror"),
        ({"snapshot": "20260101T000000Z"}, {}, "snapshot"),
        ({"keyring": "/etc/keys/own.gpg"}, {"host_paths": ["/srv"]}, "keyring"),
    ],
)  # fmt: skip
def test_other_archives_and_keys_are_refused_at_their_place(
    fields: dict[str, str], policy: dict[str, object], at: str
) -> None:
    refused = replace(BOOKWORM, **fields).refusal(PolicyConfig.model_validate(policy))  # type: ignore[arg-type]
    assert refused is not None
    assert refused.at == (at,)
    assert f"policy.{next(iter(policy), 'mirrors')}" in f"{refused.message} ({refused.hint})"


def test_what_the_policy_names_and_what_is_below_it_is_allowed() -> None:
    policy = PolicyConfig(
        mirrors=["https://snapshot.debian.org/archive/", "http://m.example.org"],
        host_paths=["/etc/keys"],
    )
    for fields in (
        {"snapshot": "20260101T000000Z"},
        {"mirror": "http://m.example.org/debian"},
        {"mirror": "http://m.example.org"},
        {"keyring": "/etc/keys/own.gpg"},
    ):
        assert replace(BOOKWORM, **fields).refusal(policy) is None  # type: ignore[arg-type]


def test_a_title_names_the_first_packages() -> None:
    assert BOOKWORM.base.title == "debian bookworm"
    assert BOOKWORM.title == "debian bookworm: nginx-light"
    many = replace(BOOKWORM, packages=("a1", "b1", "c1", "d1", "e1"))
    assert many.title == "debian bookworm: a1 b1 c1 and 2 more"


def test_a_layer_of_a_manifest_becomes_this_source() -> None:
    layer = Layer.model_validate({"debian": {"suite": "bookworm", "packages": ["nginx-light"]}})
    assert layer.source() == BOOKWORM
