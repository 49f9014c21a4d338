"""Which host keys an ssh server may show, according to the administrator's known_hosts files.

libgit2 compares the server's key itself, with `.ssh/known_hosts` of its home folder, but supports
neither patterns nor markers. So OpenSSH's own `ssh-keygen -F` selects the lines for the server, and
the accepted keys are written as plain lines to a home folder that only libgit2 uses. This happens
before each fetch, so a changed file takes effect at once.
"""

from __future__ import annotations

import base64
import os
import pwd
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import SourceError
from reconciler.git_url import SSH
from reconciler.source.git.error_kinds import failure

SECONDS = 10.0
"""Seconds for one run of ssh-keygen."""
MOST_BYTES = 4 * 1024 * 1024
"""Size of the largest known_hosts file that is read."""
SSH_PORT = 22
TYPES = frozenset({
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
})  # fmt: skip
"""Key types that libgit2 can negotiate."""
REVOKED, AUTHORITY = "@revoked", "@cert-authority"
NO_TYPE = "unable to exchange encryption keys"
"""libgit2's message when the server has no key of a requested type."""
BLANKS = re.compile(r"[ \t]+")
"""Field separators as OpenSSH defines them; other white space is part of a field."""
HASHED = re.compile(r"\|1\|[A-Za-z0-9+/=]+\|[A-Za-z0-9+/=]+")
HOST = r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*))"
USER = r"(?:[^@/:\[\]]+@)?"
URL = re.compile(rf"(?P<scheme>[a-z+]+)://{USER}{HOST}(?::(?P<port>[0-9]{{1,5}}))?/.*")
SCP = re.compile(rf"{USER}{HOST}:(?!//).*")
SYSTEM_FILE = Path("/etc/ssh/ssh_known_hosts")


@dataclass(frozen=True, slots=True)
class ServerName:
    """The server of an ssh address: the host as written there, and the port."""

    host: str
    port: int = SSH_PORT

    @property
    def name(self) -> str:
        """As known_hosts and `ssh-keygen -F` write it: `host`, or `[host]:port`."""
        host = self.host.lower()
        return host if self.port == SSH_PORT else f"[{host}]:{self.port}"

    @property
    def scan(self) -> str:
        """The command that prints its host keys."""
        port = "" if self.port == SSH_PORT else f"-p {self.port} "
        return f"ssh-keyscan {port}{self.host.lower()}"


@dataclass(frozen=True, slots=True)
class HostLine:
    """One line of known_hosts, without its host patterns."""

    marker: str
    kind: str
    """The type of the key, as ssh-ed25519."""
    key: str
    """Its bytes, in base64."""


class MalformedHostLine(ValueError):
    """A line that is not valid in known_hosts; the message says why."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The accepted host keys of one server."""

    server: ServerName
    files: str
    """The files that were searched, for messages."""
    keys: tuple[HostLine, ...]
    revoked: int

    def refusal(self, said: str) -> SourceError:
        """The error for a server that showed another key. `said` is libgit2's message."""
        known = ", ".join(sorted({line.kind for line in self.keys}))
        what = f"{self.server.name} shows a host key that is not in {self.files} ({known})"
        if NO_TYPE in said.lower():
            what = f"{self.server.name} has no host key of the types in {self.files} ({known})"
        if self.revoked:
            what += f"; {self.revoked} of its keys are {REVOKED} there"
        return failure(
            "verify", what,
            "nothing was fetched: another machine may be answering. If the server has a new key: compare "
            f"`{self.server.scan} | ssh-keygen -lf -` with the published fingerprints, then update the file",
        )  # fmt: skip


def server_of(url: str) -> ServerName | None:
    """The server of an ssh URL; None for other URLs. Raises SourceError if the URL is ambiguous."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme.lower() not in SSH:
        return None
    if not separator and (url.startswith(("/", ".")) or ":" not in url):
        return None
    found = (URL if separator else SCP).fullmatch(url)
    port = int((found.groupdict().get("port") if found else "") or SSH_PORT)
    if found is None or not 0 < port < 1 << 16:
        raise failure(
            "missing", "source.url does not name an ssh server clearly",
            "write it as ssh://user@host:port/path, without a password",
        )  # fmt: skip
    return ServerName(found["six"] or found["host"], port)


def trust(server: ServerName, named: str) -> Trust:
    """The host keys that known_hosts accepts for the server.

    `named` is the path from the config; empty: the files that ssh reads by default. Raises
    SourceError (verify) if no key is accepted or a file cannot be read.
    """
    paths = [Path(named)] if named else default_files()
    present = [path for path in paths if named or path.is_file()]
    for path in present:
        check(path, server)
    files = " and ".join(map(str, paths))
    names = [
        server.name,
        server.host.lower(),
    ]  # as ssh does: a line without a port counts for any port
    found = [[line for path in present for line in lines_for(name, path)] for name in names]
    revoked = {line.key for lines in found for line in lines if line.marker == REVOKED}
    plain = [[line for line in lines if not line.marker] for lines in found]
    good = [line for line in plain[0] or plain[1] if line.key not in revoked]
    usable = tuple(line for line in good if line.kind in TYPES)
    if not usable:
        raise nothing_known(server, files, good, found[0] + found[1])
    return Trust(server, files, usable, len(revoked))


def nothing_known(
    server: ServerName, files: str, good: list[HostLine], lines: list[HostLine]
) -> SourceError:
    """The error that says why no key of the server is accepted."""
    file = files.partition(" and ")[0]
    hint = _how_to_add(server, file)
    why = f"{files} has no host key of {server.name}"
    if good:
        kinds = ", ".join(sorted({line.kind for line in good}))
        why = f"{files} has only keys of {server.name} that cannot be used ({kinds})"
    elif any(not line.marker for line in lines):
        why = f"every host key of {server.name} in {files} is {REVOKED}"
        hint = "ask the server's administrators for the fingerprint of its current key"
    elif any(line.marker == AUTHORITY for line in lines):
        why = f"{files} has only a {AUTHORITY} for {server.name}, and host certificates are not supported"
    return failure("verify", why, hint)


def _how_to_add(server: ServerName, file: str) -> str:
    return (
        f"`{server.scan} >>{file}`, then compare `ssh-keygen -lf {file}` with the fingerprints "
        "that the server's administrators publish"
    )


def default_files() -> list[Path]:
    """The user's file and the system's; the home is from the user database and not from HOME, as in ssh."""
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    return [home / ".ssh" / "known_hosts", SYSTEM_FILE]


def check(path: Path, server: ServerName) -> None:
    """Raise SourceError (verify) if the file or any of its lines cannot be read.

    A line that was skipped might have been meant to revoke a key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # ssh-keygen would block on a FIFO
                raise failure("verify", f"{path}: is not a file", "correct source.known_hosts")
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        hint = _how_to_add(server, str(path))
        if not isinstance(error, FileNotFoundError):
            hint = "correct source.known_hosts, or let the daemon's user read it"
        raise failure("verify", f"{path}: {error.strerror}", hint) from None
    if len(content) > MOST_BYTES:
        raise failure(
            "verify", f"{path}: is larger than {MOST_BYTES >> 20} MiB",
            "name a file with the keys of the git server in source.known_hosts",
        )  # fmt: skip
    for number, raw in enumerate(content.split(b"\n"), 1):
        try:
            line_of(raw.decode("latin-1"))
        except MalformedHostLine as error:
            raise failure(
                "verify", f"{path}:{number}: {error}",
                "correct the line or remove it: while one cannot be read, no host key is trusted",
            ) from None  # fmt: skip


def line_of(text: str) -> HostLine | None:
    """Parse one line; None for a comment or blank line. Raises MalformedHostLine."""
    fields = [field for field in BLANKS.split(text.rstrip("\r")) if field]
    if not fields or fields[0].startswith("#"):
        return None
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if marker not in ("", REVOKED, AUTHORITY):
        raise MalformedHostLine(
            f"{marker[:40]!r} is not a marker; known markers are {REVOKED} and {AUTHORITY}"
        )
    if len(fields) < 3:  # noqa: PLR2004 - as sshd(8) has it: hosts, type, key
        raise MalformedHostLine("is not a known_hosts line: it needs hosts, a key type and a key")
    hosts, kind, key = fields[:3]
    if hosts.startswith("|") and not HASHED.fullmatch(hosts):
        raise MalformedHostLine("the hashed name of the host is cut off or damaged")
    try:
        blob = base64.b64decode(key, validate=True)
    except ValueError:
        raise MalformedHostLine(f"what follows {kind[:40]!r} is not a base64 key") from None
    parts = strings_of(blob)
    if len(parts) < 2 or parts[0] != kind.encode("latin-1"):  # noqa: PLR2004 - the type, then numbers
        raise MalformedHostLine(f"the key is cut off, or not of the type {kind[:40]!r}")
    return HostLine(marker, kind, key)


def strings_of(blob: bytes) -> list[bytes]:
    """The length-prefixed strings of a public key (RFC 4253, 6.6); [] if the key is truncated."""
    parts, at = [], 0
    while at < len(blob):
        start = at + 4
        at = start + int.from_bytes(blob[at:start])
        parts.append(blob[start:at])
    return parts if at == len(blob) else []


def lines_for(name: str, path: Path) -> list[HostLine]:
    """The lines for a server, selected by ssh-keygen from a checked file. Raises SourceError: verify."""
    arguments = ["ssh-keygen", "-F", name, "-f", str(path)]
    try:
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
        )
    except FileNotFoundError:
        raise failure(
            "verify", "ssh-keygen is missing, so no host key can be checked",
            "apt-get install openssh-client",
        ) from None  # fmt: skip
    except subprocess.TimeoutExpired:
        raise failure("verify", f"ssh-keygen took longer than {SECONDS:g} s", "try again") from None
    if done.returncode not in (0, 1):  # 1: no line matches
        said = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise failure("verify", f"{path}: ssh-keygen: {said}", "correct source.known_hosts")
    try:
        found = [line_of(raw.decode("latin-1")) for raw in done.stdout.split(b"\n")]
    except MalformedHostLine as error:  # the file changed since it was checked
        raise failure("verify", f"{path}: {error}", "try again") from None
    return [line for line in found if line is not None]


def write_home(found: Trust, home: Path) -> None:
    """Write a home folder for libgit2 whose known_hosts holds exactly these keys. Raises OSError."""
    folder = home / ".ssh"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    hosts = ",".join(sorted({found.server.host, found.server.host.lower()}))
    text = "".join(f"{hosts} {line.kind} {line.key}\n" for line in found.keys)
    new = folder / "known_hosts.new"
    new.write_text(text, encoding="ascii")
    new.replace(folder / "known_hosts")
