"""What arrives at real receivers, and what does not leave this host."""

import email
import email.policy
import hashlib
import hmac
import json
import re
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from reconciler.errors import ConfigError, DeliveryError
from reconciler.model.event import Event
from reconciler.notify.message import Message
from reconciler.notify.registry import missing_secrets, open_sink, send_to
from reconciler.notify.secrets import Missing
from reconciler.notify.selection import Digest
from reconciler.notify.webhook_sink import SIGNATURE, TIMESTAMP
from tests.fakes.clock import FakeClock
from tests.unit.notify.receivers import MailServer, http_receiver
from tests.unit.notify.stories import WALL, Log, sink, sinks

pytestmark = pytest.mark.shows(fault=108)

MakeSlack = Callable[[str], Any]
EVIL = "<!channel> <https://evil.example|click> & more\r\nBcc: everybody@example.org"


def messages(events: list[Event]) -> list[Message]:
    by = Digest("host-1", severity="warning", groups=(), repeat=3600.0)
    return [message for event in events if (message := by.take(event)) is not None]


def a_story() -> list[Message]:
    log = Log()
    log.add(
        "generation-condemned", 10, "web", group="front", generation=6,
        message=f"web: generation 6 condemned: {EVIL}",
    )  # fmt: skip
    log.add("rolled-back", 190, "web", group="front", generation=5, message=f"web: back: {EVIL}")
    return messages(log.events)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text("hush\n")
    return str(path)


@pytest.fixture
def slack(tmp_path: Path) -> MakeSlack:
    """An entry for a channel with this address, in a file of its own."""

    def entry(url: str) -> Any:
        path = tmp_path / "slack-url"
        path.write_text(f"{url}\n")
        return sink(type="slack", url_file=str(path))

    return entry


async def deliver(config: object, *told: Message) -> None:
    opened = open_sink(config, FakeClock(wall=WALL + 500))  # type: ignore[arg-type]
    try:
        for message in told:
            await opened.send(message)
    finally:
        await opened.close()


async def test_a_webhook_is_signed_over_its_time_and_body(secret: str) -> None:
    failed, over = a_story()
    async with http_receiver() as receiver:
        await deliver(sink(type="webhook", url=receiver.url, secret_file=secret), failed, over)
    first, second = receiver.posts
    stamp = first.headers[TIMESTAMP]
    assert float(stamp) == WALL + 500
    expected = hmac.new(b"hush", stamp.encode() + b"." + first.body, hashlib.sha256).hexdigest()
    assert first.headers[SIGNATURE] == f"sha256={expected}"
    assert first.headers["Idempotency-Key"] == failed.id
    told, ended = json.loads(first.body), json.loads(second.body)
    assert (told["vm"], told["group"], told["generation"]) == ("web", "front", 6)
    assert (told["status"], told["condition"], told["severity"]) == ("firing", "update", "error")
    assert ended["ends"] == [told["id"]]
    assert ended["since"] == told["time"]
    assert "\r" not in told["summary"]


async def test_slack_gets_no_markup_from_a_commit(slack: MakeSlack) -> None:
    async with http_receiver() as receiver:
        await deliver(slack(receiver.url), *a_story())
    raw = receiver.posts[0].body.decode()
    assert "<" not in raw
    body = json.loads(raw)
    assert "&lt;!channel&gt;" in body["text"]
    assert body["text"].startswith("[error] host-1: web: generation 6 condemned")
    assert json.loads(receiver.posts[1].body)["text"].startswith(
        "[resolved] host-1: web serves generation 5 again after 3 min"
    )


async def test_alertmanager_is_told_the_same_labels_at_both_ends() -> None:
    failed, over = a_story()
    async with http_receiver() as receiver:
        await deliver(
            sink(type="alertmanager", url=f"http://127.0.0.1:{receiver.port}/"), failed, over
        )
    assert [post.path for post in receiver.posts] == ["/api/v2/alerts"] * 2
    ((begun,), (ended,)) = (json.loads(post.body) for post in receiver.posts)
    assert begun["labels"] == ended["labels"]
    assert begun["labels"]["alertname"] == "ReconcilerUpdate"
    assert begun["labels"]["severity"] == "critical"
    assert begun["startsAt"] == ended["startsAt"] < ended["endsAt"] < begun["endsAt"]


async def test_a_redirect_is_not_followed_and_its_address_not_told(slack: MakeSlack) -> None:
    async with http_receiver() as receiver, http_receiver() as elsewhere:
        receiver.answers.append(web.Response(status=307, headers={"Location": elsewhere.url}))
        with pytest.raises(DeliveryError, match="HTTP 307") as caught:
            await deliver(slack(receiver.url), a_story()[0])
    assert elsewhere.posts == []
    assert caught.value.kind == "answer"


@pytest.mark.shows(fault=108)
async def test_the_proxy_of_the_environment_is_asked_but_not_for_this_host(
    slack: MakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with http_receiver() as proxy, http_receiver() as here:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        await deliver(slack("http://chat.example/hooks/T0K3N"), a_story()[0])
        assert [post.headers["Host"] for post in proxy.posts] == ["chat.example"]
        await deliver(slack(here.url), a_story()[0])
        assert (len(proxy.posts), len(here.posts)) == (1, 1)
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(DeliveryError, match="proxies are not supported"):
        await deliver(slack("http://chat.example/hooks/T0K3N"), a_story()[0])


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, "answer"), (429, "answer"), (404, "answer"), (400, "refused"), (413, "refused")],
)
async def test_only_a_message_that_was_read_and_unwanted_is_refused(
    status: int, kind: str, slack: MakeSlack
) -> None:
    async with http_receiver() as receiver:
        receiver.answers.append(web.Response(status=status, text="no\x1b[31m" * 1000))
        with pytest.raises(DeliveryError) as caught:
            await deliver(slack(receiver.url), a_story()[0])
    assert caught.value.kind == kind
    assert len(str(caught.value)) <= 200
    assert "\x1b" not in str(caught.value)


async def test_an_error_never_holds_the_address_that_is_the_secret(tmp_path: Path) -> None:
    hidden = tmp_path / "url"
    for address in ("http://127.0.0.1:1/hooks/T0K3N", "http://[::bad/T0K3N", "T0K3N"):
        hidden.write_text(address)
        with pytest.raises(DeliveryError) as caught:
            await deliver(sink(type="slack", url_file=str(hidden)), a_story()[0])
        assert "T0K3N" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


async def test_a_secret_is_read_anew_and_may_be_a_credential_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    async with http_receiver() as receiver:
        config = sink(type="slack", url_file="git_slack")
        words = f"secret {tmp_path}/git_slack: No such file or directory"
        assert missing_secrets(config) == [Missing(words, sure=True)]
        with pytest.raises(DeliveryError, match="git_slack"):
            await deliver(config, a_story()[0])
        (tmp_path / "git_slack").write_text(f"{receiver.url}\n")
        await deliver(config, a_story()[0])
    assert missing_secrets(config) == []
    assert [post.path for post in receiver.posts] == ["/hooks/T0K3N"]


def mail(port: int, **keys: object) -> object:
    return sink(
        type="email", server="localhost", port=port, sender="vm@example.org",
        to=["ops@example.org"], **keys,
    )  # fmt: skip


@pytest.mark.shows(fault=65)
async def test_a_letter_has_one_subject_and_answers_the_one_that_it_ends() -> None:
    failed, over = a_story()
    server = MailServer()
    async with server.serving() as port:
        await deliver(mail(port, tls="none"), failed, over)
    first, second = (
        email.message_from_string(raw, policy=email.policy.default) for raw in server.letters
    )
    assert first["Subject"].startswith("[error] host-1: web: generation 6 condemned")
    assert first["Bcc"] is None
    assert (first["To"], first["From"]) == ("ops@example.org", "vm@example.org")
    heard = [line.lower() for line in server.heard]  # the case of a command is not said, RFC 5321
    assert [line for line in heard if line.startswith("rcpt")] == ["rcpt to:<ops@example.org>"] * 2
    assert first["Message-ID"] == f"<{failed.id}@reconciler.invalid>"
    assert second["References"] == first["Message-ID"]
    assert "group: front" in first.get_content()


async def test_a_password_is_not_sent_where_no_tls_is_offered(secret: str) -> None:
    server = MailServer()
    async with server.serving() as port:
        with pytest.raises(DeliveryError):
            await deliver(mail(port, user="vm", password_file=secret), a_story()[0])
    assert not any(line.upper().startswith(("AUTH", "MAIL")) for line in server.heard)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of localhost, with its key; signed by itself."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return certificate, key


async def test_mail_goes_over_starttls_with_a_login_and_a_checked_certificate(
    secret: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    server = MailServer(tls=tls)
    async with server.serving() as port:
        config = mail(port, user="vm", password_file=secret)
        with pytest.raises(DeliveryError, match="certificate"):
            await deliver(config, a_story()[0])
        assert server.letters == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        await deliver(config, a_story()[0])
    assert len(server.letters) == 1
    assert any(line.startswith("AUTH PLAIN") for line in server.heard)


@pytest.mark.parametrize(
    ("verb", "answer", "kind"),
    [
        ("RCPT", "550 no such user", "refused"),
        ("RCPT", "451 try later", "answer"),
        ("DATA", "554 spam", "refused"),
        ("MAIL", "421 busy", "answer"),
    ],
)
async def test_a_mail_server_may_refuse_for_good_or_for_now(
    verb: str, answer: str, kind: str
) -> None:
    server = MailServer(refuses={verb: answer})
    async with server.serving() as port:
        with pytest.raises(DeliveryError) as caught:
            await deliver(mail(port, tls="none"), a_story()[0])
    assert caught.value.kind == kind


def test_a_secret_of_the_service_is_not_called_missing_before_the_service_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "none"))
    of_the_service, of_the_host = (
        sink(type="slack", url_file=name) for name in ("git_slack", str(tmp_path / "slack"))
    )
    assert [one.sure for one in missing_secrets(of_the_service)] == [False]
    assert [one.sure for one in missing_secrets(of_the_host)] == [True]


async def test_a_person_can_try_a_sink(slack: MakeSlack) -> None:
    async with http_receiver() as receiver:
        assert await send_to(slack(receiver.url)) == ""
        assert "nothing happened" in receiver.posts[0].body.decode()
    assert "Cannot connect" in await send_to(slack(receiver.url))


def test_bad_entries_of_the_config_are_named() -> None:
    good = {"name": "ops", "type": "alertmanager", "url": "https://alerts.example.org/x"}
    for entry, words in (
        (good | {"url": "alerts.example.org"}, "notifications[0].url"),
        (good | {"url": "https://me:secret@example.org/"}, "notifications[0].url"),
        (good | {"url_file": "x"}, "exactly one of url and url_file"),
        (good | {"channel": "#ops"}, "notifications[0].channel"),
        (good | {"type": "slack"}, "notifications[0].url"),
        (good | {"type": "pager"}, "notifications[0]"),
        (good | {"type": "webhook"}, "secret_file"),
        (
            {"name": "a", "type": "email", "server": "m", "sender": "a@b", "to": []},
            "notifications[0].to",
        ),
        (
            {"name": "a", "type": "email", "server": "m", "sender": "a@b\nX: y", "to": ["a@b"]},
            "notifications[0].sender",
        ),
    ):
        with pytest.raises(ConfigError, match=re.escape(words)):
            sinks(entry)
    with pytest.raises(ConfigError, match="the same name"):
        sinks(good, good)
