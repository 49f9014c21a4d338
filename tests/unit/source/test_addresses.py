"""Addresses, pacing, and the words of libgit2."""

from __future__ import annotations

from pathlib import Path

import pygit2
import pytest

from reconciler.git_url import host_of, local_path, redacted_text, redacted_url
from reconciler.source.git.error_kinds import LimitPassed, sorted_failure
from reconciler.source.git.polling import delay_after


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@example.org/a.git", "https://***@example.org/a.git"),
        ("https://token@example.org:8443/a?x=token#y", "https://***@example.org:8443/a"),
        ("https://a:p@ss@example.org/x", "https://***@example.org/x"),
        ("ssh://git:secret@example.org/a", "ssh://git@example.org/a"),
        ("git@example.org:a.git", "git@example.org:a.git"),
        ("/srv/fleet.git", "/srv/fleet.git"),
        ("https://example.org/a.git", "https://example.org/a.git"),
    ],
)
def test_an_address_is_shown_without_credentials(url: str, shown: str) -> None:
    assert redacted_url(url) == shown


def test_a_message_is_shown_without_credentials() -> None:
    url = "https://bob:s%40cret@example.org/a"
    text = redacted_text(f"cannot reach {url} as bob with s@cret or s%40cret", url)
    assert not any(secret in text for secret in ("bob", "s@cret", "s%40cret"))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/srv/a b", Path("/srv/a b")), ("file:///srv/a%20b", Path("/srv/a b")), ("./a", Path("a")),
        ("https://h/x", None), ("git@h:x", None), ("ssh://h/x", None),
    ],
)  # fmt: skip
def test_a_repository_of_this_host_is_recognised(url: str, path: Path | None) -> None:
    assert local_path(url) == path


def test_the_host_of_an_address_ignores_user_and_port() -> None:
    urls = ("https://u:p@Example.org:8443/x", "ssh://git@example.org/x", "git@example.org:x/y")
    assert {host_of(url) for url in urls} == {"example.org"}


@pytest.mark.shows(row=24)
def test_looks_are_spread_and_failures_back_off() -> None:
    assert [delay_after(0, 60, local=False, draw=d) for d in (0, 0.5)] == [54, 60]
    assert delay_after(0, 60, local=True, draw=0.5) == 1
    assert [delay_after(n, 60, local=False, draw=0) for n in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert delay_after(1, 60, local=False, draw=0.5) == 5.5
    assert delay_after(10_000, 60, local=False, draw=0.99) == 600
    assert delay_after(10_000, 60, local=True, draw=0) == 30


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pygit2.GitError("failed to resolve address for x: Name or service not known"), "network"),
        (pygit2.GitError("failed to connect to x: Connection refused"), "network"),
        (pygit2.GitError("unexpected http status code: 502"), "network"),
        (pygit2.GitError("request failed with status code: 404"), "missing"),
        (pygit2.GitError("remote authentication required but no callback set"), "auth"),
        (pygit2.GitError("too many redirects or authentication replays"), "auth"),
        (pygit2.GitError("failed to connect to x: Operation timed out"), "timeout"),
        (pygit2.GitError("the SSL certificate is invalid"), "verify"),
        (pygit2.GitError("failed to write: File too large"), "limit"),
        (pygit2.GitError("object hash mismatch"), "corrupt"),
        (pygit2.GitError("corrupted loose reference file: refs/x"), "corrupt"),
        (OSError(28, "No space left on device"), "limit"),
        (MemoryError(), "limit"),
        (LimitPassed("too much"), "limit"),
    ],
)
def test_failures_are_sorted_by_what_to_do(error: Exception, kind: str) -> None:
    found = sorted_failure(error)
    assert (found.kind, bool(found.hint)) == (kind, True)
