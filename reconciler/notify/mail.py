"""The sink `email`: SMTP in its own thread, with TLS or STARTTLS unless the config chooses plain text."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from email.utils import format_datetime

from reconciler.clock import Clock
from reconciler.config import EmailConfig
from reconciler.errors import DeliveryError
from reconciler.notify.message import LONGEST_LINE, Message, headline, moment, plain
from reconciler.notify.secrets import read_secret
from reconciler.notify.sink_interface import Sink
from reconciler.now import in_utc

STEP = 10.0
"""Seconds for each answer of the server; the delivery's deadline covers all of them together."""
FOR_GOOD = range(500, 600)
"""SMTP's permanent errors."""
LOGIN = {530, 534, 535, 538}
"""Of those, answers about the login: they end when the password is corrected."""


def open_mail(config: EmailConfig, _clock: Clock) -> Sink:
    """The sink for an entry of type `email`."""
    return MailSink(config)


class MailSink:
    """Sends each message as one mail, over a connection of its own."""

    def __init__(self, config: EmailConfig) -> None:
        self._config = config
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mail")
        self._server: smtplib.SMTP | None = None

    async def send(self, message: Message) -> None:
        """Send one mail. Raises DeliveryError."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._send, message)
        except asyncio.CancelledError:
            self._hang_up()  # else a server that sends one byte at a time would occupy the thread
            raise

    async def close(self) -> None:
        """End a send in progress, and the thread."""
        self._hang_up()
        await asyncio.to_thread(self._thread.shutdown)

    # The methods below run in the thread.

    def _send(self, message: Message) -> None:
        config = self._config
        try:
            with self._connect() as server:
                if config.tls == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if config.user:
                    server.login(config.user, read_secret(config.password_file))
                server.send_message(email_of(config, message), config.sender, config.to)
        except smtplib.SMTPRecipientsRefused as error:
            code, words = next(iter(error.recipients.values()))
            raise failure(code, words) from None
        except smtplib.SMTPResponseException as error:
            raise failure(error.smtp_code, error.smtp_error) from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise DeliveryError(plain(f"smtp: {error}", LONGEST_LINE), kind="network") from None
        finally:
            self._server = None

    def _connect(self) -> smtplib.SMTP:
        config = self._config
        dial = DialTls if config.tls == "tls" else Dial
        return dial(config.server, config.port, self._hold)

    def _hold(self, server: smtplib.SMTP) -> None:
        self._server = server

    def _hang_up(self) -> None:
        held = self._server.sock if self._server is not None else None
        if held is not None:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)


Hold = Callable[[smtplib.SMTP], None]
"""Receives the connection before its greeting is read, so that a cancelled send can end it even then."""


class Dial(smtplib.SMTP):
    """A connection that is known to the sink before its greeting arrives."""

    def __init__(self, host: str, port: int, hold: Hold) -> None:
        hold(self)
        super().__init__(host, port, timeout=STEP)


class DialTls(smtplib.SMTP_SSL):
    """The same with TLS from the start."""

    def __init__(self, host: str, port: int, hold: Hold) -> None:
        hold(self)
        super().__init__(host, port, timeout=STEP, context=ssl.create_default_context())


def failure(code: int, words: bytes | str) -> DeliveryError:
    """The error for an SMTP answer: `refused` if it is permanent and not about the login."""
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    said = plain(f"smtp: {code} {text}", LONGEST_LINE)
    if code in FOR_GOOD and code not in LOGIN:
        return DeliveryError(said, kind="refused")
    return DeliveryError(said, kind="answer")


def email_of(config: EmailConfig, message: Message) -> EmailMessage:
    """The mail for a message. Its Message-ID is the message's id, so mailboxes detect duplicates."""
    mail = EmailMessage()
    mail["Subject"] = plain(headline(message), LONGEST_LINE)
    mail["From"] = config.sender
    mail["To"] = ", ".join(config.to)
    mail["Date"] = format_datetime(in_utc(message.wall))
    mail["Message-ID"] = _address_of(message)
    mail["Auto-Submitted"] = "auto-generated"
    if message.ends:
        mail["References"] = " ".join(_address_of(opened) for opened in message.ends)
    facts = {
        "host": message.host, "vm": message.vm, "group": message.group,
        "generation": message.generation, "revision": message.revision,
        "time": moment(message.wall), "id": message.id,
    }  # fmt: skip
    lines = [message.summary, message.hint, ""]
    lines += [f"{name}: {value}" for name, value in facts.items() if value]
    mail.set_content("\n".join(lines) + "\n")
    return mail


def _address_of(message: Message) -> str:
    return f"<{message.id}@reconciler.invalid>"
