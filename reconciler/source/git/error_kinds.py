"""Sorts what libgit2 says into the kinds of SourceError; the child sends them by their kind."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

import pygit2

from reconciler.errors import SourceError
from reconciler.http_proxies import UnsupportedProxy

HINTS = {
    "auth": "check source.ssh_key, or source.user and source.token_file",
    "network": "it is tried again by itself; check name, route and port",
    "timeout": "it is tried again by itself; or raise source.fetch_timeout",
    "corrupt": "it is cloned anew by itself; if this comes again, check the disk, and the repository: git fsck",
    "unsupported": "let the repository be a plain one: git clone --bare FOLDER NEW",
    "unknown": "try `git ls-remote` with source.url on this host: it may say more",
    "limit": "raise source.max_repository_mib, or make the repository smaller",
    "missing": "check source.url, source.branch, source.tag and source.commit",
    "verify": "check the certificate, or the host key in source.known_hosts",
    "empty": "push a commit",
    "ancestry": "look at what changed, then `reconciler accept-rewrite REVISION`",
}
WORDS = {
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
"""Looked for in this order; whatever has none of them, and is no damage, is unknown."""
NAMES = re.compile(r"'[^']*/[^']*'|/\S+")
"""Of files and addresses, which may hold any of these words."""
UNPARSABLE = ("failed to parse", "bad commit object", "bad tag object")
"""An object that is whole, its hash right, and that libgit2 cannot read."""


class LimitPassed(Exception):
    """A transfer was ended because it had become too large."""


@dataclass(frozen=True, slots=True)
class Peculiarity:
    """A kind of repository that libgit2 cannot read."""

    words: str
    """In libgit2's message."""
    message: str
    hint: str


PECULIARITIES = (
    Peculiarity(
        "extensions.refstorage", "the repository keeps its refs in a reftable, which cannot be read",
        "run in it: git refs migrate --ref-format=files",
    ),
    Peculiarity(
        "object format", "the repository has SHA-256 ids, and only SHA-1 ones can be read",
        "push the files to a new one: git init --bare --object-format=sha1 FOLDER",
    ),
    Peculiarity(
        "unsupported extension", "the repository uses an extension of git that cannot be read: {said}",
        "let it be a plain one: git clone --bare FOLDER NEW",
    ),
    Peculiarity(
        "invalid packet line", "the server's list of refs is none that can be read; most often the repository is shallow",
        "run in it, where it lies: git fetch --unshallow",
    ),
)  # fmt: skip
SHALLOW = Peculiarity(
    "", "the repository is shallow: the history that a commit continues is missing",
    "run in it: git fetch --unshallow",
)  # fmt: skip


def unsupported(found: Peculiarity, said: str = "") -> SourceError:
    return failure("unsupported", found.message.format(said=said), found.hint)


def failure(kind: str, message: str, hint: str = "") -> SourceError:
    return SourceError(message, kind=kind, hint=hint or HINTS[kind])


def sorted_failure(error: BaseException) -> SourceError:
    """An error of libgit2 or of the system, by its kind."""
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
    """Whether libgit2 stumbled over an object's form, which another transfer may not look at."""
    return isinstance(error, pygit2.GitError) and any(w in str(error) for w in UNPARSABLE)
