"""Where packages come from, and what is said when they do not come."""

from __future__ import annotations

import pytest

from reconciler.image.debian_roots.bootstrap import explained
from reconciler.image.debian_roots.host_archives import NoArchive, Pocket, chosen, pockets
from reconciler.image.debian_roots.root_request import RootRequest

MAIN, SECURITY = "http://mirror.example.org/debian", "http://security.example.org/debian-security"
HOST = [
    Pocket("https://packages.example.com/node", "nodistro"),
    Pocket(MAIN, "bookworm"),
    Pocket(MAIN, "bookworm-updates"),
    Pocket(SECURITY, "bookworm-security"),
]


def request(**fields: object) -> RootRequest:
    asked = {"archive_id": "0" * 64, "suite": "bookworm", "components": ["main"], "packages": []}
    return RootRequest.model_validate({**asked, "seconds": 60.0, **fields})


def test_the_hosts_own_release_comes_from_the_hosts_own_archives() -> None:
    assert chosen("bookworm", HOST) == HOST[1:]


def test_another_release_comes_from_the_same_mirrors_security_included() -> None:
    assert chosen("trixie", HOST) == [
        Pocket(MAIN, "trixie"),
        Pocket(MAIN, "trixie-updates"),
        Pocket(SECURITY, "trixie-security"),
    ]


def test_a_host_without_any_release_says_so() -> None:
    with pytest.raises(NoArchive, match="no source of bookworm"):
        chosen("bookworm", HOST[:1])


def test_a_named_mirror_is_the_only_one() -> None:
    assert pockets(request(mirror="http://m.example.org/debian")) == [
        Pocket("http://m.example.org/debian", "bookworm")
    ]


def test_a_snapshot_is_a_folder_of_its_mirror_or_of_debians() -> None:
    time = "20260101T000000Z"
    (debians,) = pockets(request(snapshot=time))
    assert debians.uri == f"https://snapshot.debian.org/archive/debian/{time}"
    (own,) = pockets(request(snapshot=time, mirror="http://m.example.org/snap"))
    assert own.uri == f"http://m.example.org/snap/{time}"


def test_an_unknown_package_is_named_and_definitive() -> None:
    answer = explained("mmdebstrap", 25, b"E: No packages found matching '?exact-name(ngnix)'\n")
    assert answer.definitive
    assert answer.failed == "the archive has no package ngnix"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"E: Failed to fetch http://m/x  Could not connect to m:80\n", "network"),
        (b"E: write: No space left on device\n", "disk-full"),
        (b"E: The repository 'http://m bookworm InRelease' is not signed.\n", "build-unavailable"),
        (b"dpkg: error\nE: Sub-process dpkg returned an error code (1)\n", "build-unavailable"),
        (b"it just ended", "build-unavailable"),
        (b"", "build-unavailable"),
    ],
)
def test_other_failures_may_pass_and_keep_their_words(said: bytes, kind: str) -> None:
    answer = explained("mmdebstrap", 25, said)
    assert answer.kind == kind
    assert not answer.definitive
    assert answer.hint
    assert answer.failed


def test_words_of_an_archive_reach_nobody_unbounded_or_with_control_characters() -> None:
    answer = explained("mmdebstrap", 1, b"E: \x1b[2Jbad\n" + b"E: x\n" * 100_000)
    assert len(answer.failed) < 2000
    assert "\x1b" not in answer.failed
