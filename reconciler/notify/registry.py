"""The kinds of sinks: opens what an entry of `[[notifications]]` describes, and sends a test message.

README.md in this folder says how to add a kind.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.clock import Clock, SystemClock
from reconciler.config import (
    AlertmanagerConfig,
    EmailConfig,
    SinkConfig,
    SlackConfig,
    WebhookConfig,
)
from reconciler.errors import DeliveryError
from reconciler.notify.alertmanager_sink import open_alertmanager
from reconciler.notify.delivery import DEADLINE
from reconciler.notify.mail import open_mail
from reconciler.notify.message import Message, identifier
from reconciler.notify.secrets import Missing, find_missing
from reconciler.notify.sink_interface import Sink
from reconciler.notify.slack_sink import open_slack
from reconciler.notify.webhook_sink import open_webhook

OpenSink = Callable[[Any, Clock], Sink]
"""Takes the entry, of the class that it is registered for. Opens no connection."""
SinkKinds = Mapping[type[SinkConfig], OpenSink]

SINKS: SinkKinds = {
    WebhookConfig: open_webhook,
    SlackConfig: open_slack,
    AlertmanagerConfig: open_alertmanager,
    EmailConfig: open_mail,
}


def open_sink(config: SinkConfig, clock: Clock, kinds: SinkKinds = SINKS) -> Sink:
    """The sink for an entry of the config."""
    return kinds[type(config)](config, clock)


async def send_to(config: SinkConfig) -> str:
    """Send a test message to a sink. Returns the error, or an empty text."""
    sink = open_sink(config, clock := SystemClock())
    try:
        async with asyncio.timeout(DEADLINE):
            await sink.send(message_for_test(clock.now().wall))
    except TimeoutError:
        return f"no answer within {DEADLINE:g} s"
    except DeliveryError as error:
        return f"{error} ({error.hint})" if error.hint else str(error)
    finally:
        await sink.close()
    return ""


def message_for_test(wall: float) -> Message:
    """The message that `reconciler notify` sends."""
    host, words = socket.gethostname(), "a test, sent by `reconciler notify`: nothing happened"
    name = identifier(host, 0, wall, "test", words)
    return Message(name, 0, "notice", "test", "info", words, wall, host)


def missing_secrets(config: SinkConfig) -> list[Missing]:
    """Secret files of an entry (keys that end in `_file`) that this process cannot read."""
    files = [getattr(config, key) for key in type(config).model_fields if key.endswith("_file")]
    return [missing for name in files if name and (missing := find_missing(name)) is not None]
