"""The page in a real browser: an update and a rollback of real guests, watched as they happen."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.fleet import NAMES, WEB
from tests.integration.browser import PROGRAM, Browser, chromium
from tests.integration.conftest import RESULTS
from tests.integration.harness import Harness
from tests.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PROGRAM is None, reason="no chromium here: apt-get install chromium"),
]

POWER_OFF = "#!/bin/sh\nusleep 200000\npoweroff -f\n"
PICTURES = RESULTS / "page"
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


def no_wider_than_the_window(browser: Browser) -> bool:
    return bool(browser.value("document.documentElement.scrollWidth <= innerWidth"))


def test_an_update_and_a_rollback_are_watched_without_loading_the_page_again(
    fleet: Harness, browser: Browser
) -> None:
    home = f"http://127.0.0.1:{fleet.daemon.settings.http_port}/"
    browser.open(home)
    watch(browser, "#live", "live")
    browser.value("window.loadedOnce = true")
    watch(browser, ROW, "running", "healthy", "synced")

    before = fleet.fleet().vms[WEB[0]].running
    assert before is not None
    fleet.pages("seen on the page", WEB[0])
    good = fleet.push("an update")
    watch(browser, ROW, "out-of-sync", deadline=ROLL)
    browser.picture(PICTURES / "rolling.png")
    fleet.until("updated", lambda now: now.applied == good and now.settled(good, *NAMES))
    watch(browser, ROW, "running", "healthy", "synced", str(before + 1))

    fleet.repository.write(f"{WEB[0]}/etc/rc.local", POWER_OFF, mode=0o755)
    bad = fleet.push("it powers off")
    fleet.until("went back", lambda now: now.observed == bad and now.rolled_back() == [WEB[0]])
    watch(browser, ROW, "running", "healthy", "blocked")
    watch(browser, "#group-frontend", "held", WEB[0])
    watch(browser, "#events", f"{WEB[0]}: back on generation {before + 1}")
    assert browser.value("window.loadedOnce") is True
    browser.picture(PICTURES / "fleet.png")
    keyboard_and_phone(browser)
    one_vm(browser, f"{home}vm/{WEB[0]}")
    assert browser.complaints == []
    the_daemon_goes_and_comes(fleet, browser)


def keyboard_and_phone(browser: Browser) -> None:
    browser.press("/")
    assert browser.value("document.activeElement.name") == "q"
    browser.size(390, 844)
    assert no_wider_than_the_window(browser)
    browser.picture(PICTURES / "fleet-phone.png")


def one_vm(browser: Browser, url: str) -> None:
    browser.open(url)
    watch(browser, "#history", "condemned", "committed", "exited")
    watch(browser, "#console", WEB[0])
    browser.value("document.querySelector('#history details').open = true")
    browser.picture(PICTURES / "vm.png")
    browser.size(1280, 1000, dark=True)
    browser.picture(PICTURES / "vm-dark.png")
    browser.size(390, 844)
    assert no_wider_than_the_window(browser)
    browser.picture(PICTURES / "vm-phone.png")


def the_daemon_goes_and_comes(fleet: Harness, browser: Browser) -> None:
    browser.value("window.loadedOnce = true")
    fleet.daemon.kill()
    watch(browser, "#live", "not connected")
    fleet.daemon.start()
    watch(browser, "#live", "live", deadline=30.0)
    assert browser.value("window.loadedOnce") is True
