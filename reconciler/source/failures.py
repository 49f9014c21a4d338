"""Sorts what libgit2 says into the kinds of SourceError; the child sends them by their kind."""

from __future__ import annotations

import errno

import pygit2

from reconciler.errors import SourceError

HINTS = {
    "auth": "check the credentials: source.ssh_key, or the user and password of source.url",
    "network": "it is tried again by itself; check name, route and port",
    "timeout": "it is tried again by itself; or raise source.fetch_timeout",
    "corrupt": "it is cloned anew by itself; check the disk if this comes again",
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
        "authentication", "credential", "401", "403", "permission denied", "private key",
        "publickey", "userauth", "access denied", "passphrase",
    ),
    "verify": ("certificate", "hostkey", "host key", "ssl", "tls", "exchange encryption keys"),
    "missing": (
        "404", "not found", "unsupported url protocol", "does not appear to be", "does not exist",
        "no such file", "repository not exported", "invalid argument: 'port'",
    ),
    "network": (
        "resolve", "connect", "refused", "unreachable", "reset", "early eof", "unexpected http",
        "http status", "network", "socket", "eof", "broken pipe", "response", "hung up",
        "remote error", "disconnected", "kex", "banner", "session",
    ),
}  # fmt: skip
"""Looked for in this order; whatever has none of them is corrupt."""


class LimitPassed(Exception):
    """A transfer was ended because it had become too large."""


def failure(kind: str, message: str, hint: str = "") -> SourceError:
    return SourceError(message, kind=kind, hint=hint or HINTS[kind])


def sorted_failure(error: BaseException) -> SourceError:
    """An error of libgit2 or of the system, by its kind."""
    match error:
        case SourceError():
            return error
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
            lowered = text.lower()
            for kind, words in WORDS.items():
                if any(word in lowered for word in words):
                    return failure(kind, text)
            return failure("corrupt", text)
