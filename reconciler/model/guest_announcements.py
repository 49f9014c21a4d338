"""What a guest says of itself on its console, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """Facts from the console of one instance; boot-clock seconds.

    A guest is believed about its own health and nothing else.
    """

    up: float | None = None
    """When it said that it is up: its init runs, and the application's start script was begun."""
    handed_over: float | None = None
    """When our initrd started an init that is not ours, from which no further word is expected."""
    ended: str = ""
    """Which part of its application ended, and how: `rc.local status 3`. Empty: none that failed."""
    console: tuple[str, ...] = ()
    """The lines before that one, cleaned."""

    def merged(self, newer: Said) -> Said:
        """Both together: what was heard once stays so."""
        if newer is SILENT or newer == self:
            return self
        return Said(
            self.up if self.up is not None else newer.up,
            self.handed_over if self.handed_over is not None else newer.handed_over,
            self.ended or newer.ended,
            self.console if self.ended else newer.console,
        )


SILENT = Said()
