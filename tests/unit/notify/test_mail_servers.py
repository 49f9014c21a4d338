"""Mail through a server that others wrote: aiosmtpd, with STARTTLS and logins that it insists on."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from reconciler.config import EmailConfig
from reconciler.errors import DeliveryError
from reconciler.notify.mail import MailSink
from tests.eventually import eventually
from tests.unit.notify.test_sinks import a_story, certificate, deliver, mail

__all__ = ["certificate"]  # a fixture

PASSWORD = "hush-hush-hush-hush"  # noqa: S105 - of this test


class Mailbox:
    """What the server took, and who had logged in."""

    def __init__(self) -> None:
        self.letters: list[bytes] = []
        self.logins: list[bool] = []

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's word
        assert session.authenticated
        assert session.ssl is not None
        assert isinstance(envelope.content, bytes)
        self.letters.append(envelope.content)
        return "250 taken"

    def login(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object
    ) -> AuthResult:
        good = isinstance(given, LoginPassword) and given == LoginPassword(b"vm", PASSWORD.encode())
        self.logins.append(good)
        return AuthResult(success=good, handled=False)


@contextlib.asynccontextmanager
async def a_server(box: Mailbox, certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)

    def connection() -> SMTP:
        return SMTP(
            box, hostname="mail.test", tls_context=tls, require_starttls=True,
            auth_required=True, auth_require_tls=True, authenticator=box.login,
        )  # fmt: skip

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def password(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n", encoding="utf-8")
    return str(path)


async def test_a_server_that_insists_on_tls_and_a_login_takes_the_story_and_its_end(
    password: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    failed, over = a_story()
    box = Mailbox()
    async with a_server(box, certificate) as port:
        await deliver(mail(port, user="vm", password_file=password), failed, over)
    assert box.logins == [True, True]
    first, second = (
        email.message_from_bytes(raw, policy=email.policy.default) for raw in box.letters
    )
    assert first["Subject"].startswith("[error] host-1: web: generation 6 condemned")
    assert second["References"] == first["Message-ID"] == f"<{failed.id}@reconciler.invalid>"


async def test_a_wrong_password_is_tried_again_and_no_letter_is_taken(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    (tmp_path / "password").write_text("not that one at all\n", encoding="utf-8")
    box = Mailbox()
    async with a_server(box, certificate) as port:
        config = mail(port, user="vm", password_file=str(tmp_path / "password"))
        with pytest.raises(DeliveryError, match="535") as caught:
            await deliver(config, a_story()[0])
    assert caught.value.kind == "answer", "a password is mended without a restart"
    assert box.letters == []
    assert True not in box.logins


async def test_a_server_that_wants_tls_is_not_spoken_to_in_clear(
    certificate: tuple[Path, Path],
) -> None:
    box = Mailbox()
    async with a_server(box, certificate) as port:
        with pytest.raises(DeliveryError, match="530"):
            await deliver(mail(port, tls="none"), a_story()[0])
    assert box.letters == []


async def test_a_server_whose_greeting_never_ends_keeps_nobody() -> None:
    left = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"2")
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        left.set()

    def is_waited_for() -> bool:
        return sink._server is not None and sink._server.sock is not None

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        config = mail(port, tls="none")
        assert isinstance(config, EmailConfig)
        sink = MailSink(config)
        sending = asyncio.create_task(sink.send(a_story()[0]))
        await eventually(is_waited_for)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        async with asyncio.timeout(10):
            await sink.close()
            await left.wait()
