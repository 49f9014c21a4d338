"""From an entry of the config to the sink that it means."""

from __future__ import annotations

from typing import assert_never

from reconciler.clock import Clock
from reconciler.config import (
    AlertmanagerConfig,
    EmailConfig,
    NotificationConfig,
    SlackConfig,
    WebhookConfig,
)
from reconciler.notify.http_post import HttpSink
from reconciler.notify.mail import MailSink
from reconciler.notify.payloads import alert_request, slack_request, webhook_request
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
