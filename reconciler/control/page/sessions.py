"""Who may act on the page: sessions in memory, and how often anything may be tried."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

COOKIE = "reconciler-session"
LASTS = 12 * 3600
"""Seconds of a session, whatever is done in it; they end with the daemon, too."""
MOST_SESSIONS = 16
MOST_FAILURES, MOST_ACTIONS, PERIOD = 10, 30, 60.0
"""Wrong tokens, and actions of all sessions together, within so many seconds."""

Seconds = Callable[[], float]


@dataclass(slots=True)
class Session:
    until: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """What every form of this session carries, and no other page can know."""
    told: tuple[str, bool] | None = None
    """What the last action came to, and whether it was done; shown once."""

    def owns(self, given: str) -> bool:
        return hmac.compare_digest(self.csrf.encode(), given.encode("utf-8", "replace"))


class Sessions:
    def __init__(self, seconds: Seconds) -> None:
        self._seconds = seconds
        self._sessions: dict[str, Session] = {}

    def begin(self, answer: web.StreamResponse) -> Session:
        """A new one, told to the browser; the oldest goes when there are too many."""
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        name = secrets.token_urlsafe(32)
        session = self._sessions[name] = Session(self._seconds() + LASTS)
        answer.set_cookie(COOKIE, name, max_age=LASTS, path="/", httponly=True, samesite="Strict")
        return session

    def of(self, request: web.Request) -> Session | None:
        name = request.cookies.get(COOKIE, "")
        session = self._sessions.get(name)
        if session is not None and self._seconds() >= session.until:
            del self._sessions[name]
            return None
        return session

    def end(self, request: web.Request, answer: web.StreamResponse) -> None:
        self._sessions.pop(request.cookies.get(COOKIE, ""), None)
        answer.del_cookie(COOKIE, path="/")


class Pace:
    """So many in a period, for all who come: nobody's patience is tested by guessing."""

    def __init__(self, most: int, seconds: Seconds) -> None:
        self._most, self._seconds = most, seconds
        self._at: list[float] = []

    def full(self) -> bool:
        since = self._seconds() - PERIOD
        self._at = [moment for moment in self._at if moment > since]
        return len(self._at) >= self._most

    def count(self) -> None:
        self._at.append(self._seconds())
