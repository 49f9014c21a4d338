"""The page in a real browser: an update and a rollback of real guests, watched as they happen."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.fleet import NAMES, WEB
from tests.integration.browser import PROGRAM, Browser, chromium
from tests.integration.evidence import RESULTS
from tests.integration.harness import Harness
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PROGRAM is None, reason="no chromium here: apt-get install chromium"),
]

POWER_OFF = "#!/bin/sh\nusleep 200000\npoweroff -f\n"
PICTURES = RESULTS / "page"
PICTURE = (1100, 760)
"""The size of those that the documents show."""
ROW = f"#vm-{WEB[0]}"
SOON = 15.0
ROLL = 150.0


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path) as opened:
        yield opened


def watch(browser: Browser, selector: str, *words: str, deadline: float = SOON) -> None:
    wait_until(
        lambda: all(word in browser.text(selector) for word in words),
        deadline,
        f"{selector} says {', '.join(words)}; it says {browser.text(selector)!r}",
    )


def test_a_rollout_and_a_rollback_are_watched_without_loading_the_page_again(
    fleet: Harness, browser: Browser
) -> None:
    home = f"http://127.0.0.1:{fleet.daemon.settings.http_port}/"
    browser.sign_in(home.rstrip("/"), fleet.daemon.control.get("/v1/token")["read"])
    updated = a_rollout(fleet, browser, f"{home}group/frontend")
    a_rollback(fleet, browser, home, updated)
    keyboard_and_phone(browser)
    one_vm(browser, f"{home}vm/{WEB[0]}")
    the_commits(browser, f"{home}commits")
    assert browser.complaints == []
    browser.open(home)
    the_daemon_goes_and_comes(fleet, browser)


def a_rollout(fleet: Harness, browser: Browser, url: str) -> int:
    """One after the other, on the page of their group; answers the new generation of the first."""
    before = fleet.fleet().vms[WEB[0]].running
    assert before is not None
    browser.open(url, *PICTURE)
    watch(browser, "#live", "live")
    browser.value("window.loadedOnce = true")
    fleet.pages("seen on the page", *WEB)
    good = fleet.push("Greet by name")
    watch(browser, "#moving", WEB[0], deadline=ROLL)
    watch(browser, "#line", WEB[1])
    watch(browser, "#moving", "starting", "on trial", deadline=ROLL)
    browser.picture(PICTURES / "page-rollout.png", whole=False)
    watch(browser, "#moving", WEB[1], deadline=ROLL)
    watch(browser, "#done", WEB[0])
    fleet.until("updated", lambda now: now.applied == good and now.settled(good, *NAMES))
    watch(browser, "#now", "2 of 2 at their desired generation")
    assert browser.value("window.loadedOnce") is True
    return before + 1


def a_rollback(fleet: Harness, browser: Browser, url: str, last_good: int) -> None:
    browser.open(url)
    watch(browser, "#live", "live")
    watch(
        browser, ROW, "running", "healthy", "synced", str(last_good), fleet.repository.head()[:10]
    )
    browser.value("window.loadedOnce = true")
    fleet.repository.write(f"{WEB[0]}/etc/rc.local", POWER_OFF, mode=0o755)
    bad = fleet.push("Power off after a while")
    watch(browser, ROW, "out-of-sync", deadline=ROLL)
    browser.picture(PICTURES / "rolling.png")
    fleet.until("went back", lambda now: now.observed == bad and now.rolled_back() == [WEB[0]])
    watch(browser, ROW, "running", "healthy", "blocked")
    watch(browser, "#group-frontend", "held", WEB[0])
    watch(browser, "#events", f"{WEB[0]}: back on generation {last_good}")
    assert browser.value("window.loadedOnce") is True
    browser.picture(PICTURES / "fleet.png")
    browser.size(*PICTURE)
    browser.picture(PICTURES / "page-fleet.png", whole=False)


def keyboard_and_phone(browser: Browser) -> None:
    browser.press("/")
    assert browser.value("document.activeElement.name") == "q"
    browser.size(390, 844)
    assert browser.fits()
    browser.picture(PICTURES / "fleet-phone.png")


def one_vm(browser: Browser, url: str) -> None:
    browser.open(url)
    watch(browser, "#history", "condemned", "committed", "exited")
    watch(browser, "#checks", "passed", "of the newest", "generations")
    watch(browser, "#history", "since generation")
    watch(browser, "#console", WEB[0])
    browser.value("document.querySelector('#history details').open = true")
    browser.picture(PICTURES / "vm.png")
    browser.size(*PICTURE, dark=True)
    browser.picture(PICTURES / "page-vm.png", whole=False)
    browser.size(390, 844)
    assert browser.fits()
    browser.picture(PICTURES / "vm-phone.png")


def the_commits(browser: Browser, url: str) -> None:
    browser.open(url)
    newest = ".commits > li:first-child"
    watch(browser, newest, "Power off after a while", "desired", "rolled back", WEB[0])
    watch(browser, ".commits > li:nth-child(2)", "Greet by name", "applied")
    browser.picture(PICTURES / "commits.png")


def the_daemon_goes_and_comes(fleet: Harness, browser: Browser) -> None:
    watch(browser, "#live", "live")
    browser.value("window.loadedOnce = true")
    fleet.daemon.kill()
    watch(browser, "#live", "not connected")
    fleet.daemon.start()
    watch(browser, "#live", "live", deadline=30.0)
    assert browser.value("window.loadedOnce") is True
