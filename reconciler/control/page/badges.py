"""States as words with a sign and a colour: never by colour alone."""

from __future__ import annotations

from functools import lru_cache

from reconciler.control.page.html import Html, h
from reconciler.model.status import VMStatus

GOOD, BAD, BUSY, CALM = "good", "bad", "busy", "calm"
SIGNS = {GOOD: "●", BAD: "▲", BUSY: "◐", CALM: "○"}
LOOKS = {
    # of a VM
    "running": GOOD, "stopped": CALM, "starting": BUSY, "stopping": BUSY, "failed": BAD, "unknown": CALM,
    # against the repository
    "synced": GOOD, "out-of-sync": BUSY, "blocked": BAD, "suspended": CALM,
    # of a group
    "idle": GOOD, "rolling out": BUSY, "held": BAD,
    # of a generation
    "trial": BUSY, "committed": GOOD, "condemned": BAD,
    # of a check
    "healthy": GOOD, "not healthy": BAD,
    # of an event
    "info": CALM, "warning": BUSY, "error": BAD,
}  # fmt: skip


@lru_cache(maxsize=256)
def badge(word: str, look: str | None = None) -> Html:
    """A state; words that are not known yet are shown calmly."""
    kind = look or LOOKS.get(word, CALM)
    return h("span", h("span", SIGNS[kind], aria_hidden="true"), word, class_=f"badge {kind}")


def health(vm: VMStatus) -> Html:
    """Whether its checks pass; a guest that is still coming up is not ill."""
    if vm.healthy:
        return badge("healthy")
    if vm.unasked:
        return badge("not asked yet", CALM)
    if vm.pid is None:
        return h("span", "-", class_="none", title="no guest runs")
    return badge("not yet", BUSY) if vm.state == "starting" else badge("not healthy")
