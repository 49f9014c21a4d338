"""The page in a real browser over a fleet in memory: barriers, hostile words, many VMs, and actions."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import pytest

from reconciler.model.names import GroupName
from reconciler.model.request import Retry, Suspend
from reconciler.model.status import HostStatus
from tests.integration.browser import PROGRAM, Browser, chromium
from tests.integration.served import Served, everything, served
from tests.unit.control.fake_operator import FakeOperator, fleet, vm
from tests.unit.control.pages import HOSTILE
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.skipif(PROGRAM is None, reason="no chromium here: apt-get install chromium"),
]

KNOWN = "a token of some length"
PAGES = ("/", "/vm/web-a", "/vm/web-a?a=1&b=3", "/group/frontend", "/commits", "/login", "/vm/none")
SOON = 15.0
STUTTER = 1000
"""Milliseconds without an answer that nobody would take for a working page, on any machine."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def browser(started: Browser) -> Browser:
    """One process for all tests, and for each an empty tab without complaints."""
    started.open("about:blank")
    started.complaints.clear()
    return started


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, KNOWN) as opened:
        everything(opened.operator)
        yield opened


def until(browser: Browser, expression: str) -> None:
    wait_until(lambda: browser.value(expression), SOON, expression)


def sign_in(browser: Browser, page: Served) -> None:
    browser.sign_in(page.home, KNOWN)
    until(browser, "document.querySelector('.actions h2') !== null")


def barriers(browser: Browser) -> list[str]:
    """What axe-core finds, by rule and element."""
    browser.value((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = browser.value("axe.run().then((found) => found.violations)")
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_a_barrier_that_axe_knows(
    browser: Browser, page: Served, path: str, *, dark: bool
) -> None:
    if path != "/login":
        sign_in(browser, page)
    browser.open(page.home + path)
    for width in (1280, 390):
        browser.size(width, 900, dark=dark)
        assert barriers(browser) == []


def test_a_keyboard_reaches_the_content_and_keeps_its_place_while_rows_change(
    browser: Browser, page: Served
) -> None:
    sign_in(browser, page)
    browser.open(page.home)
    until(browser, "document.getElementById('live').innerText === 'live'")
    assert browser.value("document.getElementById('live').getAttribute('role')") == "status"
    browser.press("Tab")
    assert browser.focused() == "Skip to the content"
    browser.press("Enter")
    assert browser.value("document.activeElement.id") == "main"
    browser.press("/")
    assert browser.focused() == "q"
    browser.write("web")
    browser.value("document.querySelector('#vm-web-b a').focus()")
    page.change(lambda operator: everything(operator, "another reason"))
    until(browser, "document.getElementById('vm-web-b').innerText.includes('another reason')")
    assert browser.focused() == "web-b"
    assert browser.value("document.querySelector('input[type=search]').value") == "web"


def test_hostile_words_stay_words_and_fit_on_a_phone(browser: Browser, page: Served) -> None:
    page.change(lambda operator: everything(operator, HOSTILE + "x" * 300))
    sign_in(browser, page)
    browser.complaints.clear()
    for path in (*PAGES[:-2], f"/?q={'y' * 90}"):
        browser.open(page.home + path)
        browser.size(390, 844)
        assert browser.fits(), path
        assert browser.value("document.querySelectorAll('img, iframe, object').length") == 0
        scripts = "[...document.scripts].map((one) => new URL(one.src).pathname.split('/').pop())"
        assert browser.value(scripts) == ["page.js"]
    assert browser.complaints == []


def test_hostile_words_stay_words_when_they_come_live(browser: Browser, page: Served) -> None:
    sign_in(browser, page)
    browser.open(f"{page.home}/vm/web-a")
    until(browser, "document.getElementById('live').innerText === 'live'")
    page.change(lambda operator: everything(operator, HOSTILE))
    until(browser, "document.getElementById('console').innerText.includes('alert(1)')")
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert browser.complaints == []


def test_who_signs_in_acts_with_the_forms_of_a_real_browser(browser: Browser, page: Served) -> None:
    browser.open(f"{page.home}/vm/web-a")
    assert browser.text("h1") == "Sign in"
    assert "web-a" not in browser.value("document.documentElement.outerHTML")
    sign_in(browser, page)
    assert browser.value("document.cookie") == ""
    assert KNOWN not in browser.value(
        "JSON.stringify([localStorage, sessionStorage, location.href])"
    )
    browser.open(f"{page.home}/vm/web-a")
    press(browser, "Retry")
    until(browser, "document.querySelector('.actions .notice') !== null")
    assert "retry is noted" in browser.text(".actions .notice")
    assert page.operator.requests == [Retry("web-a")]
    browser.open(page.home)
    browser.value("document.querySelector('.actions input[name=reason]').focus()")
    browser.write("the disk is changed")
    press(browser, "Suspend this host")
    until(browser, "document.querySelector('.actions .notice') !== null")
    assert page.operator.requests[1:] == [Suspend(None, "the disk is changed")]
    press(browser, "Sign out")
    until(browser, "document.querySelector('h1')?.innerText === 'Sign in'")
    assert browser.value("localStorage.length") == 0
    browser.open(f"{page.home}/vm/web-a")
    assert browser.text("h1") == "Sign in"
    assert browser.complaints == []


@pytest.mark.shows(fault=36)
def test_a_wrong_token_is_told_and_the_right_one_signs_in_at_once(
    browser: Browser, page: Served
) -> None:
    browser.open(f"{page.home}/vm/web-a")
    for _ in range(12):
        browser.value("document.querySelector('input[name=token]').value = 'no token of any kind'")
        press(browser, "Sign in")
        until(browser, "document.querySelector('.notice')?.innerText === 'That is not the token.'")
        browser.value("document.querySelector('.notice').remove()")
    browser.value(f"document.querySelector('input[name=token]').value = '{KNOWN}'")
    press(browser, "Sign in")
    until(browser, "document.querySelector('h1')?.innerText === 'web-a'")
    assert browser.value("location.pathname") == "/vm/web-a"
    browser.complaints.clear()


def test_a_session_that_is_over_shows_the_sign_in_and_then_the_same_page(
    browser: Browser, page: Served
) -> None:
    sign_in(browser, page)
    browser.value("localStorage.setItem('reconciler-session', 'act.1.x.y')")
    browser.open(f"{page.home}/commits")
    assert browser.text("h1") == "Sign in"
    browser.write(KNOWN)
    browser.press("Enter")
    until(browser, "document.querySelector('h1')?.innerText !== 'Sign in'")
    assert browser.value("location.pathname") == "/commits"
    browser.complaints.clear()


def test_links_of_the_page_to_metrics_and_json_show_them(browser: Browser, page: Served) -> None:
    sign_in(browser, page)
    for path, words in (("/metrics", "x 1"), ("/api/status", "web-a")):
        browser.open(page.home + path)
        until(browser, f"document.querySelector('main pre')?.innerText.includes('{words}')")
    assert browser.complaints == []


class OtherPort:
    """What listens on another port of this host, as a guest's forward: it keeps what browsers send it."""

    def __init__(self) -> None:
        heard = self.heard = []  # type: list[str]

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append(f"{self.requestline}\n{self.headers}")
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<title>a guest</title><h1>hello</h1>")

            def log_message(self, *_: object) -> None:
                """Silent: the test shows what came."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.home = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(SOON)
        self._server.server_close()


@pytest.mark.shows(fault=34)
def test_a_guests_page_on_another_port_is_sent_nothing_and_can_do_nothing(
    browser: Browser, page: Served
) -> None:
    sign_in(browser, page)
    session = browser.value("localStorage.getItem('reconciler-session')")
    with OtherPort() as guest:
        browser.open(guest.home)
        assert browser.text("h1") == "hello"
        assert browser.value("document.cookie + JSON.stringify(localStorage)") == "{}"
        tried = browser.value(
            f"(async (home) => {{ const said = [];"
            "for (const [path, options] of [['/', {}], ['/vm/web-a', {credentials: 'include'}],"
            " ['/act', {method: 'POST', credentials: 'include', body: new URLSearchParams({op: 'suspend'})}],"
            " ['/act', {method: 'POST', headers: {Authorization: 'Bearer x'}, body: ''}]])"
            " { try { const got = await fetch(home + path, options); said.push(await got.text()); }"
            " catch (error) { said.push('refused'); } } return said; })"
            f"('{page.home}')"
        )
        assert tried == ["refused"] * 4
        browser.value(
            "const form = document.createElement('form'); form.method = 'post';"
            f"form.action = '{page.home}/act'; form.innerHTML = '<input name=op value=suspend>';"
            "document.body.append(form); form.submit()"
        )
        until(browser, f"location.href === '{page.home}/act'")
        heard = "\n".join(guest.heard).lower()
        assert "cookie" not in heard
        assert "authorization" not in heard
        assert session.lower() not in heard
    assert page.operator.requests == []
    browser.complaints.clear()


def press(browser: Browser, words: str) -> None:
    browser.value(
        f"[...document.querySelectorAll('button')].find((one) => one.innerText === '{words}').click()"
    )


def show(operator: FakeOperator, fleet: HostStatus) -> None:
    operator.fleet = fleet


def test_a_thousand_vms_change_without_a_stutter(browser: Browser, page: Served) -> None:
    many = [vm(f"vm-{n:04}", group=GroupName(f"group-{n % 5}")) for n in range(1000)]
    page.change(partial(show, fleet=fleet(*many)))
    sign_in(browser, page)
    browser.open(page.home)
    until(browser, "document.getElementById('live').innerText === 'live'")
    assert browser.value("document.querySelectorAll('tbody tr').length") == 100
    browser.value(
        "window.longest = 0; new PerformanceObserver((list) => { for (const one of list.getEntries())"
        " longest = Math.max(longest, one.duration) }).observe({ entryTypes: ['longtask'] });"
        "scrollTo(0, 1500)"
    )
    before = browser.value("scrollY")
    for step in range(5):
        changed = fleet(*(replace(one, why=f"step {step}") for one in many))
        page.change(partial(show, fleet=changed))
        last = "[...document.querySelectorAll('tbody tr')].pop().innerText"
        until(browser, f"{last}.includes('step {step}')")
    longest = browser.value("longest")
    print(f"the longest task of the page's thread: {longest} ms")  # noqa: T201 - for docs/benchmarks.md
    assert longest < STUTTER
    assert abs(browser.value("scrollY") - before) < 300, "what is read stays in sight"
    assert browser.complaints == []
