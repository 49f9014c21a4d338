"""The sink `alertmanager`: each message begins or ends alerts of Prometheus' Alertmanager."""

from __future__ import annotations

from typing import Any

from reconciler.clock import Clock
from reconciler.config import AlertmanagerConfig
from reconciler.notify.http_post import HTTPRequest, HttpSink, encoded, url_of
from reconciler.notify.message import Message, moment
from reconciler.notify.sink_interface import Sink

UNTIL_FORGOTTEN = {"firing": 86_400.0, "notice": 3600.0}
"""Seconds after which Alertmanager ends an alert that was not resolved."""
GRAVITY = {"error": "critical", "warning": "warning", "info": "info"}
"""Severity labels as in our alert rules, so that one route matches both."""


def open_alertmanager(config: AlertmanagerConfig, clock: Clock) -> Sink:
    """The sink for an entry of type `alertmanager`."""
    return HttpSink(lambda message, _: alert_request(config, message), clock)


def alert_request(config: AlertmanagerConfig, message: Message) -> HTTPRequest:
    """The alerts that a message begins or ends; labels are the same at both ends."""
    if message.status == "resolved":
        alerts = [alert(opened, message.wall, message.summary) for opened in message.ends]
    else:
        alerts = [alert(message, message.wall + UNTIL_FORGOTTEN[message.status], message.summary)]
    url = url_of(config).rstrip("/")
    return HTTPRequest(f"{url}/api/v2/alerts", encoded(alerts), {"Idempotency-Key": message.id})


def alert(message: Message, ends: float, summary: str) -> dict[str, Any]:
    """One alert for `POST /api/v2/alerts`, without empty labels.

    `ends`: unix time at which Alertmanager treats it as resolved.
    """
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
