"""Which paths of the host a manifest may name."""

from __future__ import annotations

import pytest

from reconciler.model.host_paths import host_path_refusal, is_below

FOLDERS = ("/srv/images", "/opt/keys/")


@pytest.mark.parametrize(
    "path", ["/srv/images/a.img", "/srv/images/more/a.img", "/opt/keys/a.gpg", "/opt/keys/..a"]
)
def test_what_is_below_a_folder_is_allowed(path: str) -> None:
    assert is_below(path, FOLDERS)


@pytest.mark.parametrize(
    "path",
    [
        "/srv/imagesX/a.img", "/srv/images", "/srv/images/", "/srv", "/etc/shadow",
        "/srv/images/../../etc/shadow", "/srv/images/./a.img", "/srv/images//a.img",
    ],
)  # fmt: skip
def test_what_leads_elsewhere_is_not(path: str) -> None:
    assert not is_below(path, FOLDERS)


def test_the_root_allows_every_plain_path_and_no_folder_allows_none() -> None:
    assert is_below("/etc/shadow", ("/",))
    assert not is_below("/etc/../etc/shadow", ("/",))
    assert not is_below("/etc/shadow", ())


def test_a_refusal_says_what_is_allowed() -> None:
    refused = host_path_refusal("layout", f"/{'x' * 200}", FOLDERS)
    assert refused is not None
    assert refused.at == ("layout",)
    assert refused.message == f"/{'x' * 79} is not below a host path that the policy allows"
    assert refused.hint.startswith("policy.host_paths allows: /srv/images, /opt/keys/")
    assert host_path_refusal("layout", "/srv/images/a", FOLDERS) is None
