"""The sink `slack`: an incoming webhook, as Slack, Mattermost and Rocket.Chat take it."""

from __future__ import annotations

from typing import Any

from reconciler.clock import Clock
from reconciler.config import SlackConfig
from reconciler.notify.http_post import HTTPRequest, HttpSink, encoded
from reconciler.notify.message import Message, headline, moment
from reconciler.notify.secrets import read_secret
from reconciler.notify.sink_interface import Sink

COLOURS = {"error": "#d03030", "warning": "#d09000", "info": "#4070c0"}
RESOLVED = "#30a050"


def open_slack(config: SlackConfig, clock: Clock) -> Sink:
    """The sink for an entry of type `slack`."""
    return HttpSink(lambda message, _: slack_request(config, message), clock)


def slack_request(config: SlackConfig, message: Message) -> HTTPRequest:
    """One attachment with a colour; no text of ours or of a commit is read as markup."""
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
    return HTTPRequest(read_secret(config.url_file), encoded(body), {"Idempotency-Key": message.id})


def escaped(text: str) -> str:
    """Escape the three characters that Slack interprets: a commit could notify a whole channel or hide a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
