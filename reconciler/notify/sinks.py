"""Opens the sink that an entry of the config describes, and sends a test message to it."""

from __future__ import annotations

import asyncio
import socket
from typing import assert_never

from reconciler.clock import Clock, SystemClock
from reconciler.config import (
    AlertmanagerConfig,
    EmailConfig,
    NotificationConfig,
    SlackConfig,
    WebhookConfig,
)
from reconciler.errors import DeliveryError
from reconciler.model.record import Event
from reconciler.notify.delivery import DEADLINE
from reconciler.notify.http_post import HttpSink
from reconciler.notify.mail import MailSink
from reconciler.notify.message import Message, id_of
from reconciler.notify.payloads import alert_request, slack_request, webhook_request
from reconciler.notify.secrets import Missing, look_for
from reconciler.notify.sink_interface import Sink


def open_sink(config: NotificationConfig, clock: Clock) -> Sink:
    match config:
        case WebhookConfig():
            return HttpSink(lambda message, wall: webhook_request(config, message, wall), clock)
        case SlackConfig():
            return HttpSink(lambda message, _: slack_request(config, message), clock)
        case AlertmanagerConfig():
            return HttpSink(lambda message, _: alert_request(config, message), clock)
        case EmailConfig():
            return MailSink(config)
        case _:
            assert_never(config)


async def send_to(config: NotificationConfig) -> str:
    """Send it; the answer is what went wrong, or empty."""
    sink = open_sink(config, clock := SystemClock())
    try:
        async with asyncio.timeout(DEADLINE):
            await sink.send(trial_message(clock.now().wall))
    except TimeoutError:
        return f"no answer within {DEADLINE:g} s"
    except DeliveryError as error:
        return f"{error} ({error.hint})" if error.hint else str(error)
    finally:
        await sink.close()
    return ""


def trial_message(wall: float) -> Message:
    host, words = socket.gethostname(), "a test, sent by `reconciler notify`: nothing happened"
    name = id_of(Event("test", words, wall), host)
    return Message(name, 0, "notice", "test", "info", words, wall, host)


def missing_secrets(config: NotificationConfig) -> list[Missing]:
    """What cannot be read of the files that an entry names."""
    files = [config.password_file] if isinstance(config, EmailConfig) else [config.url_file]
    if isinstance(config, WebhookConfig):
        files.append(config.secret_file)
    return [missing for name in files if name and (missing := look_for(name)) is not None]
