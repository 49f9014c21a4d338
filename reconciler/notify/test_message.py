"""A message that a person sends to see whether a sink takes any."""

from __future__ import annotations

import asyncio
import socket

from reconciler.clock import SystemClock
from reconciler.config import EmailConfig, NotificationConfig, WebhookConfig
from reconciler.errors import DeliveryError
from reconciler.model.record import Event
from reconciler.notify.delivery import DEADLINE
from reconciler.notify.message import Message, id_of
from reconciler.notify.secrets import Missing, look_for
from reconciler.notify.sinks import open_sink


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
