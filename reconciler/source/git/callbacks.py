"""What libgit2 asks while it talks to a server: is it the right one, and with what does it let us in."""

from __future__ import annotations

from pathlib import Path

import pygit2
from pygit2.enums import CredentialType

from reconciler.errors import ConfigError, SourceError
from reconciler.git_url import host_of, origin_of
from reconciler.secret_file import read_secret
from reconciler.source.git.error_kinds import LimitPassed, failure
from reconciler.source.git.protocol import WorkerRequest

MOST_OBJECTS = 5_000_000
LONGEST_TOKEN = 8192
ANYBODY = "git"
"""Who shows a token where no name is given: servers look at the token alone."""


class Callbacks(pygit2.RemoteCallbacks):
    """Bounds a transfer, and offers the one key or token that the settings name."""

    def __init__(self, request: WorkerRequest) -> None:
        super().__init__()
        self._request = request
        self._offered = False

    def certificate_check(self, certificate: None, valid: bool, host: bytes) -> bool:  # noqa: FBT001
        """Hand on what libgit2 found: the base class would answer that every ssh host is right."""
        del certificate, host
        return valid

    def credentials(
        self, url: str, username_from_url: str | None, allowed_types: CredentialType
    ) -> pygit2.Keypair | pygit2.Username | pygit2.UserPass:
        if host_of(url) != host_of(self._request.url):  # a redirect must not carry a key away
            raise failure("auth", f"{host_of(url)} asked for credentials of another host")
        user = username_from_url or "git"
        if allowed_types & CredentialType.USERNAME and not allowed_types & CredentialType.SSH_KEY:
            return pygit2.Username(user)
        if self._offered:  # asked again: the server refused what it got
            raise failure("auth", "authentication was refused", self._hint())
        self._offered = True
        if self._request.ssh_key and allowed_types & CredentialType.SSH_KEY:
            return pygit2.Keypair(user, None, self._request.ssh_key, "")
        if self._request.token_file and allowed_types & CredentialType.USERPASS_PLAINTEXT:
            return self._token(url)
        raise failure("auth", "the server asks who we are", self._hint())

    def _token(self, url: str) -> pygit2.UserPass:
        wanted = origin_of(self._request.url)
        if wanted[0] != "https" or origin_of(url) != wanted:
            raise failure("auth", "the token is for source.url alone, over https://")
        return pygit2.UserPass(self._request.user or ANYBODY, token_in(self._request.token_file))

    def _hint(self) -> str:
        if origin_of(self._request.url)[0] == "ssh":
            return "give the key of source.ssh_key to the repository, as one that may read it"
        return "look at the token in source.token_file, whether it may read the repository and is valid still"

    def transfer_progress(self, stats: pygit2.remotes.TransferProgress) -> None:
        most = self._request.repository_bytes
        if stats.received_bytes > most or stats.total_objects > MOST_OBJECTS:
            raise LimitPassed(f"the repository is larger than {most >> 20} MiB")


def token_in(path: str) -> str:
    """Raises SourceError: auth. It is read at each fetch, so a new one holds at once."""
    try:
        token = read_secret(
            "source.token_file", Path(path), 1, LONGEST_TOKEN, private=True,
            hint="write the token into it, readable for the daemon alone",
        )  # fmt: skip
    except ConfigError as error:
        raise failure("auth", str(error), error.hint) from None
    if not token.isprintable() or " " in token:
        raise token_is_none(path)
    return token


def token_is_none(path: str) -> SourceError:
    return failure(
        "auth", f"source.token_file {path}: is not one line with a token", "write nothing else into it"
    )  # fmt: skip
