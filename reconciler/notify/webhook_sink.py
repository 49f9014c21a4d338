"""The sink `webhook`: JSON with a signature, for receivers of your own."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from reconciler.clock import Clock
from reconciler.config import WebhookConfig
from reconciler.notify.http_post import HTTPRequest, HttpSink, encoded, url_of
from reconciler.notify.message import Message, moment
from reconciler.notify.secrets import read_secret
from reconciler.notify.sink_interface import Sink

TIMESTAMP, SIGNATURE = "X-Reconciler-Timestamp", "X-Reconciler-Signature"


def open_webhook(config: WebhookConfig, clock: Clock) -> Sink:
    """The sink for an entry of type `webhook`."""
    return HttpSink(lambda message, wall: webhook_request(config, message, wall), clock)


def webhook_request(config: WebhookConfig, message: Message, wall: float) -> HTTPRequest:
    """The request, signed over time and body, so that a receiver can refuse old ones. Raises DeliveryError."""
    body = encoded(described(message))
    stamp = str(int(wall))
    key = read_secret(config.secret_file).encode()
    signature = hmac.new(key, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {TIMESTAMP: stamp, SIGNATURE: f"sha256={signature}"}
    return HTTPRequest(url_of(config), body, headers | {"Idempotency-Key": message.id})


def described(message: Message) -> dict[str, Any]:
    """The JSON of the webhook; docs/operations/notifications.md names each field."""
    return {
        "id": message.id,
        "sequence": message.sequence,
        "status": message.status,
        "condition": message.condition,
        "severity": message.severity,
        "summary": message.summary,
        "hint": message.hint,
        "host": message.host,
        "vm": message.vm or None,
        "group": message.group or None,
        "generation": message.generation,
        "revision": message.revision or None,
        "time": moment(message.wall),
        "since": moment(min([message.wall, *(opened.wall for opened in message.ends)])),
        "ends": [opened.id for opened in message.ends],
    }
