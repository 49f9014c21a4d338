"""Signatures of commits, by the real programs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.source.git.signatures import BadSignature, Signers, split
from tests.unit.source.signed import EXPIRED, LASTING, PAYLOAD

pytestmark = pytest.mark.shows(row=28)

needs_gpgv = pytest.mark.skipif(shutil.which("gpgv") is None, reason="gpgv is not installed")
needs_ssh = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed"
)


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    path = tmp_path / "signers.gpg"
    path.write_bytes(LASTING.keyring)
    return path


def key_of(folder: Path, name: str) -> Path:
    path = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True
    )
    return path


def allow(folder: Path, *lines: str) -> str:
    path = folder / "allowed_signers"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def line_of(key: Path, options: str = "") -> str:
    public = key.with_suffix(".pub").read_text(encoding="utf-8")
    return f"{key.name}@example.org {options} {public}".strip()


def signed_by(key: Path, payload: bytes = PAYLOAD, namespace: str = "git") -> bytes:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key)]
    signature = subprocess.run(command, input=payload, capture_output=True, check=True).stdout
    header, _, message = payload.partition(b"\n\n")
    lines = signature.strip().split(b"\n")
    return header + b"\ngpgsig " + b"\n ".join(lines) + b"\n\n" + message


def refusal(signers: Signers, commit: bytes) -> str:
    with pytest.raises(BadSignature) as caught:
        signers.check(commit)
    assert caught.value.hint
    return str(caught.value)


def test_the_signature_is_cut_out_of_what_was_signed() -> None:
    payload, signature = split(LASTING.commit())
    assert payload == PAYLOAD
    assert signature.decode() == LASTING.signature.lstrip("\n")
    assert split(PAYLOAD) == (PAYLOAD, b"")


def test_a_signature_in_the_message_is_none() -> None:
    payload = PAYLOAD + b"gpgsig -----BEGIN PGP SIGNATURE-----\n"
    assert split(payload) == (payload, b"")
    assert "not signed" in refusal(Signers("/nowhere", "/nowhere"), payload)


@needs_gpgv
def test_a_commit_signed_by_a_key_of_the_keyring_is_good(keyring: Path) -> None:
    Signers("", str(keyring)).check(LASTING.commit())


@needs_gpgv
def test_a_changed_commit_is_not_what_was_signed(keyring: Path) -> None:
    changed = LASTING.commit(PAYLOAD.replace(b"signed\n", b"Signed\n"))
    assert "signed by no key" in refusal(Signers("", str(keyring)), changed)


@needs_gpgv
def test_a_key_that_is_not_in_the_keyring_or_has_expired_does_not_count(keyring: Path) -> None:
    assert str(keyring) in refusal(Signers("", str(keyring)), EXPIRED.commit())
    keyring.write_bytes(EXPIRED.keyring)
    assert str(keyring) in refusal(Signers("", str(keyring)), EXPIRED.commit())


@needs_ssh
def test_a_commit_signed_by_an_allowed_ssh_key_is_good_and_by_another_is_not(
    tmp_path: Path,
) -> None:
    ours, theirs = key_of(tmp_path, "ours"), key_of(tmp_path, "theirs")
    signers = Signers(allow(tmp_path, line_of(ours)), "")
    signers.check(signed_by(ours))
    assert "signed by no key" in refusal(signers, signed_by(theirs))
    tampered = signed_by(ours).replace(b"\n\nsigned", b"\n\nforged")
    assert "does not fit" in refusal(signers, tampered)


@needs_ssh
def test_an_ssh_key_counts_only_while_it_is_valid_and_for_commits(tmp_path: Path) -> None:
    key = key_of(tmp_path, "ours")
    for options in ('valid-before="20200101"', 'valid-after="29990101"', 'namespaces="file"'):
        signers = Signers(allow(tmp_path, line_of(key, options)), "")
        assert refusal(signers, signed_by(key)), options
    signers = Signers(allow(tmp_path, line_of(key, 'valid-before="29990101"')), "")
    signers.check(signed_by(key))
    assert refusal(signers, signed_by(key, namespace="file"))


WRONG: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda commit: commit.replace(b"PGP SIGNATURE", b"SECRET KEY"), "unknown kind"),
    (lambda commit: commit.replace(b"\n =", b"\n " + b"x" * 70_000 + b"\n =", 1), "too long"),
    (lambda commit: commit.replace(b"BEGIN PGP SIGNATURE", b"BEGIN SSH SIGNATURE"), "an SSH key"),
]


@pytest.mark.parametrize(("spoil", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_no_signature_is_refused_in_words(
    spoil: Callable[[bytes], bytes], said: str, keyring: Path
) -> None:
    assert said in refusal(Signers("", str(keyring)), spoil(LASTING.commit()))


def test_a_file_of_keys_that_is_away_is_named(tmp_path: Path) -> None:
    away = str(tmp_path / "away.gpg")
    assert away in refusal(Signers("", away), LASTING.commit())


def test_a_program_that_is_missing_is_named_with_its_package(
    keyring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BadSignature, match="gpgv is missing") as caught:
        Signers("", str(keyring)).check(LASTING.commit())
    assert caught.value.hint == "apt-get install gpgv"
