"""Reading pages as a browser would, and their live updates."""

from __future__ import annotations

import asyncio
import json
import re
from html.parser import HTMLParser
from typing import Any

import aiohttp

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\x1b]0;x\x07\u202e'
TAGS = """
html head meta title link script body header nav main aside section a span strong p ul ol li div
form label input button select option h1 h2 table caption thead tbody tr th td code time dl dt dd
details summary pre del ins progress svg path desc
"""
ALLOWED_TAGS = set(TAGS.split())


class Read(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        """As it is shown: space is one space, but in what is preformatted."""
        self._within_pre = False
        self.feed(text)
        self.text = re.sub(" {2,}", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within_pre = tag == "pre"

    def handle_data(self, data: str) -> None:
        self.text += data if self._within_pre else re.sub(r"\s+", " ", data)


async def get(page: aiohttp.ClientSession, path: str, status: int = 200) -> str:
    async with page.get(path) as answer:
        assert answer.status == status
        return await answer.text()


async def next_change(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    async with asyncio.timeout(5):
        async for line in answer.content:
            if line.startswith(b"data: "):
                changed: dict[str, Any] = json.loads(line[6:])
                return changed
    raise AssertionError("the stream ended")


def events_of(text: str) -> str:
    found = re.search(r'data-events="([^"]+)"', text)
    assert found is not None
    return found[1].replace("&amp;", "&")
