"""Answers libgit2's questions while it talks to a server: host keys, credentials and progress."""

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
"""Objects of one transfer; each takes memory while libgit2 indexes the pack."""
LONGEST_TOKEN = 8192
DEFAULT_USER = "git"
"""The user name sent with a token if none is configured: servers check the token alone."""


class Callbacks(pygit2.RemoteCallbacks):
    """Limits a transfer, and offers the one key or token that the config names."""

    def __init__(self, request: WorkerRequest) -> None:
        super().__init__()
        self._request = request
        self._offered = False

    def certificate_check(self, certificate: None, valid: bool, host: bytes) -> bool:  # noqa: FBT001
        """Keep libgit2's own judgement: the base class accepts every ssh host."""
        del certificate, host
        return valid

    def credentials(
        self, url: str, username_from_url: str | None, allowed_types: CredentialType
    ) -> pygit2.Keypair | pygit2.Username | pygit2.UserPass:
        """The configured key or token. Raises SourceError: auth, if none fits or the server refused it."""
        if host_of(url) != host_of(
            self._request.url
        ):  # a redirect must not send the key to another host
            raise failure("auth", f"{host_of(url)} asked for credentials of another host")
        user = username_from_url or "git"
        if allowed_types & CredentialType.USERNAME and not allowed_types & CredentialType.SSH_KEY:
            return pygit2.Username(user)
        if self._offered:  # asked again: the server refused the first offer
            raise failure("auth", "authentication was refused", self._hint())
        self._offered = True
        if self._request.ssh_key and allowed_types & CredentialType.SSH_KEY:
            return pygit2.Keypair(user, None, self._request.ssh_key, "")
        if self._request.token_file and allowed_types & CredentialType.USERPASS_PLAINTEXT:
            return self._token(url)
        raise failure("auth", "the server asks for credentials", self._hint())

    def _token(self, url: str) -> pygit2.UserPass:
        wanted = origin_of(self._request.url)
        if wanted[0] != "https" or origin_of(url) != wanted:
            raise failure("auth", "the token is for source.url alone, over https://")
        return pygit2.UserPass(
            self._request.user or DEFAULT_USER, token_in(self._request.token_file)
        )

    def _hint(self) -> str:
        if origin_of(self._request.url)[0] == "ssh":
            return "add the public key of source.ssh_key to the repository, with read access"
        return "check that the token in source.token_file is valid and may read the repository"

    def transfer_progress(self, stats: pygit2.remotes.TransferProgress) -> None:
        """Raise LimitPassed as soon as the repository is larger than allowed."""
        most = self._request.repository_bytes
        if stats.received_bytes > most or stats.total_objects > MOST_OBJECTS:
            raise LimitPassed(f"the repository is larger than {most >> 20} MiB")


def token_in(path: str) -> str:
    """The token in a file. It is read at each fetch, so a new one works at once. Raises SourceError: auth."""
    try:
        token = read_secret(
            "source.token_file", Path(path), 1, LONGEST_TOKEN, private=True,
            hint="write the token into it, with permissions for the daemon alone",
        )  # fmt: skip
    except ConfigError as error:
        raise failure("auth", str(error), error.hint) from None
    if not token.isprintable() or " " in token:
        raise _token_is_none(path)
    return token


def _token_is_none(path: str) -> SourceError:
    return failure(
        "auth", f"source.token_file {path}: is not one line with a token", "write nothing else into it"
    )  # fmt: skip
