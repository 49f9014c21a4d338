"""Checks signatures of commits with `ssh-keygen` and `gpgv` against files of the host's administrator."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SECONDS = 10.0
"""Seconds for one run of a program."""
MOST_SIGNATURE = 64 * 1024
HEADER = b"gpgsig "
SSH, PGP = b"-----BEGIN SSH SIGNATURE-----", b"-----BEGIN PGP SIGNATURE-----"
GOOD, BAD = "GOODSIG", ("BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG")
"""Keywords of gpgv's status lines. They decide, because gpgv exits with 0 even for expired keys."""


class BadSignature(Exception):
    """Why a commit counts as unsigned; `hint` says what helps."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Signers:
    """Accepted signers: paths of an allowed_signers file and a keyring; empty: that kind is not accepted."""

    allowed_signers: str
    keyring: str

    def check(self, commit: bytes) -> None:
        """Raise BadSignature unless an accepted key signed the commit, given as its raw bytes."""
        payload, signature = split(commit)
        if not signature:
            raise BadSignature("it is not signed", "sign it: git commit --amend -S")
        if len(signature) > MOST_SIGNATURE:
            raise BadSignature("its signature is too long to be valid", "sign it again")
        with tempfile.TemporaryDirectory(prefix="signature-") as folder:
            file = Path(folder) / "signature"
            file.write_bytes(signature)
            if signature.startswith(SSH):
                self._check_ssh(payload, file)
            elif signature.startswith(PGP):
                self._check_pgp(payload, file)
            else:
                raise BadSignature(
                    "its signature is of an unknown kind", "sign with an SSH or OpenPGP key"
                )

    def _check_ssh(self, payload: bytes, signature: Path) -> None:
        signers = readable(self.allowed_signers, "source.allowed_signers", "an SSH")
        named = ["-f", signers, "-s", str(signature)]
        found = run(["ssh-keygen", "-Y", "find-principals", *named], b"")
        principal = found.stdout.decode("utf-8", "replace").partition("\n")[0].strip()
        if found.returncode != 0 or not principal:
            raise _not_allowed(signers)
        verify = ["ssh-keygen", "-Y", "verify", "-n", "git", "-I", principal, *named]
        if run(verify, payload).returncode != 0:
            raise BadSignature(
                f"its signature by {principal[:80]} does not fit it, or that key may not sign now",
                f"look at the key's validity in {signers}",
            )

    def _check_pgp(self, payload: bytes, signature: Path) -> None:
        keyring = readable(self.keyring, "source.keyring", "an OpenPGP")
        # Holds only the signature, so no key of a user's keyring is accepted.
        home = str(signature.parent)
        done = run(
            [
                "gpgv",
                "--homedir",
                home,
                "--status-fd",
                "1",
                "--keyring",
                keyring,
                str(signature),
                "-",
            ],
            payload,
        )
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        said = {line.split(" ")[1] for line in lines if line.startswith("[GNUPG:] ")}
        if done.returncode != 0 or GOOD not in said or not said.isdisjoint(BAD):
            raise _not_allowed(keyring)


def split(commit: bytes) -> tuple[bytes, bytes]:
    """The signed payload of a commit, and its signature (empty: unsigned).

    The signature is a header whose continuation lines begin with a space. It is not part of the
    payload (git, Documentation/gitformat-signature).
    """
    header, blank, message = commit.partition(b"\n\n")
    kept: list[bytes] = []
    signature: list[bytes] = []
    inside = False
    for line in header.split(b"\n"):
        if line.startswith(HEADER) and not signature:
            signature.append(line.removeprefix(HEADER))
            inside = True
        elif inside and line.startswith(b" "):
            signature.append(line[1:])
        else:
            inside = False
            kept.append(line)
    text = b"\n".join(signature) + b"\n" if signature else b""
    return b"\n".join(kept) + blank + message, text


def readable(path: str, key: str, kind: str) -> str:
    """The file's absolute path. Raises BadSignature if this kind of key is not accepted, or the file unreadable."""
    if not path:
        raise BadSignature(f"it is signed by {kind} key, and {key} is empty", f"set {key}")
    try:
        with Path(path).open("rb"):
            return str(Path(path).absolute())
    except OSError as error:
        raise BadSignature(f"{path}: {error.strerror}", f"correct {key}") from None


def _not_allowed(file: str) -> BadSignature:
    return BadSignature(
        f"it is signed by no key of {file}",
        "sign it with one of those keys, or add the key to that file",
    )


def run(arguments: list[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run a program with `given` on standard input. Raises BadSignature if it is missing or too slow."""
    program = arguments[0]
    try:
        return subprocess.run(
            arguments, input=given, capture_output=True, timeout=SECONDS, check=False
        )
    except FileNotFoundError:
        package = {"ssh-keygen": "openssh-client"}.get(program, program)
        raise BadSignature(
            f"{program} is missing, so nothing can be verified", f"apt-get install {package}"
        ) from None
    except subprocess.TimeoutExpired:
        raise BadSignature(f"{program} took longer than {SECONDS:g} s", "try again") from None
