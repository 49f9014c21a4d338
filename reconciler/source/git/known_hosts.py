"""Which host keys an ssh server may show, by the known_hosts files of the host's owner.

libgit2 compares the server's key itself, with the file `.ssh/known_hosts` of its home, but reads
neither patterns nor markers. So OpenSSH's own `ssh-keygen -F` finds the lines that speak of the
server, and what they allow is written, as plain lines, to a home that nothing else uses: before each
fetch, so that a changed file holds at once.
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
"""For one run of ssh-keygen."""
MOST_BYTES = 4 * 1024 * 1024
"""Of a known_hosts file."""
SSH_PORT = 22
TYPES = frozenset({
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
})  # fmt: skip
"""What libgit2 can ask a server for."""
REVOKED, AUTHORITY = "@revoked", "@cert-authority"
NO_TYPE = "unable to exchange encryption keys"
"""What libgit2 says when the server has no key of a type that was asked for."""
BLANKS = re.compile(r"[ \t]+")
"""As OpenSSH has it; other blanks belong to a word."""
HASHED = re.compile(r"\|1\|[A-Za-z0-9+/=]+\|[A-Za-z0-9+/=]+")
HOST = r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*))"
USER = r"(?:[^@/:\[\]]+@)?"
URL = re.compile(rf"(?P<scheme>[a-z+]+)://{USER}{HOST}(?::(?P<port>[0-9]{{1,5}}))?/.*")
SCP = re.compile(rf"{USER}{HOST}:(?!//).*")
SYSTEM_FILE = Path("/etc/ssh/ssh_known_hosts")


@dataclass(frozen=True, slots=True)
class ServerName:
    """Whom an ssh address names: the host as it stands there, and the port."""

    host: str
    port: int = SSH_PORT

    @property
    def name(self) -> str:
        """As it stands in known_hosts, and as `ssh-keygen -F` takes it."""
        host = self.host.lower()
        return host if self.port == SSH_PORT else f"[{host}]:{self.port}"

    @property
    def scan(self) -> str:
        """The command that asks it for its keys."""
        port = "" if self.port == SSH_PORT else f"-p {self.port} "
        return f"ssh-keyscan {port}{self.host.lower()}"


@dataclass(frozen=True, slots=True)
class HostLine:
    marker: str
    kind: str
    """The type of the key, as ssh-ed25519."""
    key: str
    """Its bytes, in base64."""


class MalformedHostLine(ValueError):
    """Why a line is none of known_hosts."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What the files say of one server."""

    server: ServerName
    files: str
    """Where it was looked for, for people."""
    keys: tuple[HostLine, ...]
    revoked: int

    def refusal(self, said: str) -> SourceError:
        """The server showed another key. `said` are libgit2's words."""
        known = ", ".join(sorted({line.kind for line in self.keys}))
        what = f"the host key of {self.server.name} is none of those in {self.files} ({known})"
        if NO_TYPE in said.lower():
            what = f"{self.server.name} has no host key of the types in {self.files} ({known})"
        if self.revoked:
            what += f"; {self.revoked} of its keys are {REVOKED} there"
        return failure(
            "verify", what,
            "nothing was fetched, as another machine may answer in its place. If its key was renewed: "
            f"compare `{self.server.scan} | ssh-keygen -lf -` with what its people publish, then change the file",
        )  # fmt: skip


def server_of(url: str) -> ServerName | None:
    """The server of an ssh address, None for any other. Raises SourceError when it is not clear."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme.lower() not in SSH:
        return None
    if not separator and (url.startswith(("/", ".")) or ":" not in url):
        return None
    found = (URL if separator else SCP).fullmatch(url)
    port = int((found.groupdict().get("port") if found else "") or SSH_PORT)
    if found is None or not 0 < port < 1 << 16:
        raise failure(
            "missing", "the server in source.url cannot be told",
            "write it as ssh://user@host:port/path, without a password",
        )  # fmt: skip
    return ServerName(found["six"] or found["host"], port)


def trust(server: ServerName, named: str) -> Trust:
    """What known_hosts allows the server to show. Raises SourceError: verify, when it is nothing.

    `named` is the path that the config names; empty for the files that ssh itself takes.
    """
    paths = [Path(named)] if named else default_files()
    present = [path for path in paths if named or path.is_file()]
    for path in present:
        check(path, server)
    files = " and ".join(map(str, paths))
    names = [server.name, server.host.lower()]  # ssh too takes a line without a port for any
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
    """Why no key of the server counts."""
    file = files.partition(" and ")[0]
    hint = how_to_add(server, file)
    why = f"{files} has no host key of {server.name}"
    if good:
        kinds = ", ".join(sorted({line.kind for line in good}))
        why = f"{files} has only keys of {server.name} that cannot be used ({kinds})"
    elif any(not line.marker for line in lines):
        why = f"every host key of {server.name} in {files} is {REVOKED}"
        hint = "ask the server's people for the fingerprint of the key that it has now"
    elif any(line.marker == AUTHORITY for line in lines):
        why = f"{files} has only a {AUTHORITY} for {server.name}, and host certificates are not supported"
    return failure("verify", why, hint)


def how_to_add(server: ServerName, file: str) -> str:
    return (
        f"`{server.scan} >>{file}`, then compare `ssh-keygen -lf {file}` with the fingerprints "
        "that the server's people publish"
    )


def default_files() -> list[Path]:
    """The user's own by the user database, as ssh takes it, and the system's."""
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    return [home / ".ssh" / "known_hosts", SYSTEM_FILE]


def check(path: Path, server: ServerName) -> None:
    """Raises SourceError when the file cannot be read, or a line of it says nothing that we know.

    A line that is passed over may have been meant to revoke a key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # ssh-keygen would wait for a FIFO
                raise failure("verify", f"{path}: is not a file", "correct source.known_hosts")
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        hint = how_to_add(server, str(path))
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
    """None for a comment. Raises Malformed."""
    fields = [field for field in BLANKS.split(text.rstrip("\r")) if field]
    if not fields or fields[0].startswith("#"):
        return None
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if marker not in ("", REVOKED, AUTHORITY):
        raise MalformedHostLine(
            f"{marker[:40]!r} is no marker; there are {REVOKED} and {AUTHORITY}"
        )
    if len(fields) < 3:  # noqa: PLR2004 - as sshd(8) has it: hosts, type, key
        raise MalformedHostLine("is no line of known_hosts: hosts, type of key, and key are wanted")
    hosts, kind, key = fields[:3]
    if hosts.startswith("|") and not HASHED.fullmatch(hosts):
        raise MalformedHostLine("the hashed name of the host is cut off or damaged")
    try:
        blob = base64.b64decode(key, validate=True)
    except ValueError:
        raise MalformedHostLine(f"what follows {kind[:40]!r} is no key in base64") from None
    parts = strings_of(blob)
    if len(parts) < 2 or parts[0] != kind.encode("latin-1"):  # noqa: PLR2004 - the type, then numbers
        raise MalformedHostLine(f"the key is cut off, or not of the type {kind[:40]!r}")
    return HostLine(marker, kind, key)


def strings_of(blob: bytes) -> list[bytes]:
    """The strings that a key is made of (RFC 4253, 6.6), each behind its length; [] if it is cut off."""
    parts, at = [], 0
    while at < len(blob):
        start = at + 4
        at = start + int.from_bytes(blob[at:start])
        parts.append(blob[start:at])
    return parts if at == len(blob) else []


def lines_for(name: str, path: Path) -> list[HostLine]:
    """What a file that was checked says of a server, by ssh-keygen. Raises SourceError: verify."""
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
    if done.returncode not in (0, 1):  # 1: there is none
        said = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise failure("verify", f"{path}: ssh-keygen: {said}", "correct source.known_hosts")
    try:
        found = [line_of(raw.decode("latin-1")) for raw in done.stdout.split(b"\n")]
    except MalformedHostLine as error:  # changed between two looks
        raise failure("verify", f"{path}: {error}", "look again") from None
    return [line for line in found if line is not None]


def write_home(found: Trust, home: Path) -> None:
    """Lay down a home for libgit2 that knows these keys and no other."""
    folder = home / ".ssh"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    hosts = ",".join(sorted({found.server.host, found.server.host.lower()}))
    text = "".join(f"{hosts} {line.kind} {line.key}\n" for line in found.keys)
    new = folder / "known_hosts.new"
    new.write_text(text, encoding="ascii")
    new.replace(folder / "known_hosts")
