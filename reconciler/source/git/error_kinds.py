"""Maps errors of libgit2 and the system to the kinds of SourceError; the worker sends errors by kind."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pygit2

from reconciler.errors import SourceError, SourceErrorKind
from reconciler.http_proxies import UnsupportedProxy

HINTS: Mapping[SourceErrorKind, str] = {
    "auth": "check source.ssh_key, or source.user and source.token_file",
    "network": "the daemon tries again; check name, route and port",
    "timeout": "the daemon tries again; or raise source.fetch_timeout",
    "corrupt": "the daemon clones it again; if this repeats, check the disk, and the repository with git fsck",
    "unsupported": "convert the repository to a plain one: git clone --bare FOLDER NEW",
    "unknown": "run `git ls-remote` with source.url on this host: it may say more",
    "limit": "raise source.max_repository_mib, or make the repository smaller",
    "missing": "check source.url, source.branch, source.tag and source.commit",
    "verify": "check the certificate, or the host key in source.known_hosts",
    "empty": "push a commit",
    "ancestry": "look at what changed, then `reconciler accept-rewrite REVISION`",
}
WORDS: Mapping[SourceErrorKind, tuple[str, ...]] = {
    "timeout": ("timed out", "timeout"),
    "limit": ("too large", "out of memory", "no space left", "limit", "quota"),
    "auth": (
        "authentication", "credential", "code: 401", "code: 403", "permission denied", "private key",
        "publickey", "userauth", "access denied", "passphrase",
    ),
    "verify": ("certificate", "hostkey", "host key", "ssl", "tls", "exchange encryption keys"),
    "missing": (
        "code: 404", "not found", "unsupported url protocol", "does not appear to be", "does not exist",
        "no such file", "repository not exported", "invalid argument: 'port'",
    ),
    "network": (
        "resolve", "connect", "refused", "unreachable", "reset", "early eof", "unexpected http",
        "http status", "network", "socket", "eof", "broken pipe", "response", "hung up",
        "remote error", "disconnected", "kex", "banner", "session", "could not read refs",
    ),
    "corrupt": (
        "hash mismatch", "object not found", "corrupted", "is missing", "packfile", "pack file", "pack index",
        "zlib", "inflate", "checksum", "cannot be read", "not a valid", "unexpected end", "loose object", "no match for id",
        "reference", "odb",
    ),
}  # fmt: skip
"""Parts of libgit2's messages by kind, tried in this order. A message with none of them is `unknown`."""
NAMES = re.compile(r"'[^']*/[^']*'|/\S+")
"""File names and URLs, cut out first because they may contain any of these words."""
UNPARSABLE = ("failed to parse", "bad commit object", "bad tag object")
"""Messages for an intact object, its hash correct, that libgit2 cannot parse."""


class LimitPassed(Exception):
    """A transfer was ended because it exceeded its size limit."""


@dataclass(frozen=True, slots=True)
class Peculiarity:
    """A kind of repository that libgit2 cannot read, and how to convert it."""

    words: str
    """Part of libgit2's message, in lower case."""
    message: str
    hint: str


PECULIARITIES = (
    Peculiarity(
        "extensions.refstorage", "the repository keeps its refs in a reftable, which cannot be read",
        "run in the repository: git refs migrate --ref-format=files",
    ),
    Peculiarity(
        "object format", "the repository has SHA-256 ids, and only SHA-1 ones can be read",
        "push the files to a new one: git init --bare --object-format=sha1 FOLDER",
    ),
    Peculiarity(
        "unsupported extension", "the repository uses an extension of git that cannot be read: {said}",
        "convert it to a plain one: git clone --bare FOLDER NEW",
    ),
    Peculiarity(
        "invalid packet line", "the server's list of refs cannot be parsed; most often the repository is shallow",
        "run in the repository on its server: git fetch --unshallow",
    ),
)  # fmt: skip
SHALLOW = Peculiarity(
    "", "the repository is shallow: commits before its oldest ones are missing",
    "run in the repository: git fetch --unshallow",
)  # fmt: skip


def unsupported(found: Peculiarity, said: str = "") -> SourceError:
    """The error for a repository that libgit2 cannot read; `said` is its message."""
    return failure("unsupported", found.message.format(said=said), found.hint)


def failure(kind: SourceErrorKind, message: str, hint: str = "") -> SourceError:
    """A SourceError of this kind, with the kind's usual hint unless another is given."""
    return SourceError(message, kind=kind, hint=hint or HINTS[kind])


def sorted_failure(error: BaseException) -> SourceError:
    """Any error of libgit2 or the system as a SourceError with its kind and a hint."""
    match error:
        case SourceError():
            return error
        case UnsupportedProxy():
            return failure("unsupported", str(error), error.hint)
        case LimitPassed() | MemoryError():
            return failure("limit", str(error) or "the fetch needed too much memory")
        case pygit2.AuthError():
            return failure("auth", str(error))
        case pygit2.CertificateError():
            return failure("verify", str(error))
        case OSError(errno=errno.ENOSPC | errno.EFBIG | errno.EDQUOT):
            return failure("limit", str(error), "free some disk space")
        case _:
            text = str(error) or type(error).__name__
            lowered = NAMES.sub(" ", text.lower())
            for peculiarity in PECULIARITIES:
                if peculiarity.words in lowered:
                    return unsupported(peculiarity, text)
            for kind, words in WORDS.items():
                if any(word in lowered for word in words):
                    return failure(kind, text)
            return failure("unknown", text)


def is_unparsable(error: BaseException) -> bool:
    """Whether libgit2 failed to parse an object; a transfer that does not parse it may still succeed."""
    return isinstance(error, pygit2.GitError) and any(w in str(error) for w in UNPARSABLE)
