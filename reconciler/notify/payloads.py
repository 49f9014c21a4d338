"""What goes over HTTP to each kind of receiver: pure, but for reading the secrets."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from reconciler.config import AlertmanagerConfig, SlackConfig, WebhookConfig
from reconciler.notify.message import LONGEST_LINE, Message, plain
from reconciler.notify.secrets import read_secret
from reconciler.now import in_utc

TIMESTAMP, SIGNATURE = "X-Reconciler-Timestamp", "X-Reconciler-Signature"
UNTIL_FORGOTTEN = {"firing": 86_400.0, "notice": 3600.0}
"""Seconds after which Alertmanager ends an alert of which it hears no more."""
COLOURS = {"error": "#d03030", "warning": "#d09000", "info": "#4070c0"}
RESOLVED = "#30a050"
GRAVITY = {"error": "critical", "warning": "warning", "info": "info"}
"""The words of our alert rules, so that one route takes both."""


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    url: str
    body: bytes
    headers: dict[str, str]


def webhook_request(config: WebhookConfig, message: Message, wall: float) -> HTTPRequest:
    """Signed over its time and body: a receiver may refuse what is old."""
    body = encoded(described(message))
    stamp = str(int(wall))
    key = read_secret(config.secret_file).encode()
    signature = hmac.new(key, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {TIMESTAMP: stamp, SIGNATURE: f"sha256={signature}"}
    return HTTPRequest(url_of(config), body, headers | {"Idempotency-Key": message.id})


def slack_request(config: SlackConfig, message: Message) -> HTTPRequest:
    """An incoming webhook, as Slack, Mattermost and Rocket.Chat take it."""
    colour = RESOLVED if message.status == "resolved" else COLOURS[message.severity]
    facts = [("VM", message.vm), ("group", message.group), ("revision", message.revision[:12])]
    body: dict[str, Any] = {
        "text": escaped(headline(message)),
        "attachments": [
            {
                "color": colour,
                "fallback": escaped(headline(message)),
                "text": escaped("\n".join(filter(None, (message.hint, moment(message.wall))))),
                "fields": [
                    {"title": title, "value": escaped(value), "short": True}
                    for title, value in facts
                    if value
                ],
                "mrkdwn_in": [],
            }
        ],
        "mrkdwn": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }
    return HTTPRequest(url_of(config), encoded(body), {"Idempotency-Key": message.id})


def alert_request(config: AlertmanagerConfig, message: Message) -> HTTPRequest:
    """The alerts that a message begins or ends; labels are the same at both ends."""
    if message.status == "resolved":
        alerts = [alert(told, message.wall, message.summary) for told in message.ends]
    else:
        alerts = [alert(message, message.wall + UNTIL_FORGOTTEN[message.status], message.summary)]
    url = url_of(config).rstrip("/")
    return HTTPRequest(f"{url}/api/v2/alerts", encoded(alerts), {"Idempotency-Key": message.id})


def alert(message: Message, ends: float, summary: str) -> dict[str, Any]:
    labels = {
        "alertname": "Reconciler" + message.condition.title().replace("-", ""),
        "severity": GRAVITY[message.severity],
        "host": message.host,
        "vm": message.vm,
        "group": message.group,
        "subject": message.subject if message.subject not in (message.vm, message.group) else "",
    }
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": summary, "description": message.hint},
        "startsAt": moment(message.wall),
        "endsAt": moment(max(ends, message.wall)),
    }


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
        "since": moment(min([message.wall, *(told.wall for told in message.ends)])),
        "ends": [told.id for told in message.ends],
    }


def headline(message: Message) -> str:
    """One line: how bad, where, what."""
    mark = "resolved" if message.status == "resolved" else message.severity
    return plain(f"[{mark}] {message.host}: {message.summary}", LONGEST_LINE * 4)


def escaped(text: str) -> str:
    """Slack's own three: without them a commit could call a whole channel, or hide a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def moment(wall: float) -> str:
    return in_utc(wall).isoformat(timespec="milliseconds")


def encoded(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode()


def url_of(config: WebhookConfig | SlackConfig | AlertmanagerConfig) -> str:
    if isinstance(config, SlackConfig) or not config.url:
        return read_secret(config.url_file)
    return config.url
