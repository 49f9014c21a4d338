"""What each page is made of, asked of the operator; shared by pages and their live updates."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.control.console_tail import ConsoleReader
from reconciler.control.page.commits import Past, commits_page
from reconciler.control.page.fleet import Asked, fleet_page, group_page
from reconciler.control.page.frame import Pieces
from reconciler.control.page.image_table import images_page
from reconciler.control.page.live import Recent
from reconciler.control.page.rendering import macro
from reconciler.control.page.vm import Differ, Pair, Seen, vm_page
from reconciler.engine.api import EngineAPI
from reconciler.errors import ReconcilerError, RequestRefused
from reconciler.model.names import NAME_RE, GenerationNumber, VMName
from reconciler.model.plan import FieldChange
from reconciler.model.record import VMRecord
from reconciler.model.store_status import StoreReport, StoreStatus
from reconciler.safe_text import clean_console_line

CONSOLE_LINES = 100
CONSOLE_BYTES = 32 * 1024
"""Of these lines, which a guest may make as long and as odd as it likes: every look cleans them again."""
MOST_COMMITS = 50
MOST_TIPS = 50
"""Revisions from which the history is read: what was refused may have left the branch."""
MOST_KEPT = 16
"""Pages of the fleet that are kept until it changes."""
LONGEST_SEARCH = 100
LONGEST_NUMBER = 9

Query = Mapping[str, str]


class Views:
    """Reads only. A page that does not exist has no parts."""

    def __init__(self, operator: EngineAPI) -> None:
        self._operator = operator
        self.recent = Recent(operator)
        self._fleets: dict[Asked, tuple[tuple[object, object], Pieces]] = {}
        self._past: tuple[object, Past] | None = None
        self._shown: tuple[tuple[object, object], Pieces] | None = None
        """The page of the commits, until the fleet changes or something happens."""
        self._stored: tuple[StoreStatus, Pieces] | None = None
        """The page of the images, until the figures of the store change."""

    async def of(self, query: Query) -> Pieces:
        """The page that a query names: `view` is fleet, vm, group, commits or images."""
        match query.get("view"):
            case "vm":
                return await self._vm(query)
            case "group":
                return await self._group(query.get("name", ""))
            case "commits":
                return await self._commits()
            case "images":
                return await self._images()
            case _:
                return await self._fleet(query)

    async def _fleet(self, query: Query) -> Pieces:
        wanted = " ".join(query.get("q", "").split())[:LONGEST_SEARCH]
        asked = Asked(wanted, _number(query.get("page")) or 1)
        events, status = await self.recent.follow(), self._operator.status()
        kept = self._fleets.get(asked)
        if kept is not None and kept[0][0] is status and kept[0][1] is events:
            return kept[1]
        pieces = fleet_page(status, events, asked)
        self._fleets.pop(asked, None)
        self._fleets[asked] = ((status, events), pieces)
        if len(self._fleets) > MOST_KEPT:
            del self._fleets[next(iter(self._fleets))]
        return pieces

    async def _vm(self, query: Query) -> Pieces:
        await self.recent.follow()
        name = query.get("name", "")
        found = next((vm for vm in self._operator.status().vms if vm.name == name), None)
        if found is None or not NAME_RE.fullmatch(name):
            return missing_page("VM", name)
        record = self._record(found.name)
        a, b = _number(query.get("a")), _number(query.get("b"))
        pair = Pair(GenerationNumber(a), GenerationNumber(b)) if a and b else None
        console = self._console(found.name) if record is not None else ""
        rounds, changes = self._operator.probes(found.name), await self._upcoming(found.name)
        return vm_page(
            Seen(
                found,
                record,
                self._differ(found.name),
                console,
                rounds,
                changes,
                pair,
                self._operator.builds(found.name),
            )
        )

    async def _upcoming(self, name: VMName) -> tuple[FieldChange, ...]:
        try:
            plan = await self._operator.plan(None)
        except ReconcilerError:  # the first pass is not done
            return ()
        return plan.differences.get(name, ())

    async def _group(self, name: str) -> Pieces:
        await self.recent.follow()
        status = self._operator.status()
        found = next((group for group in status.groups if group.name == name), None)
        if found is None:
            return missing_page("group", name)
        return group_page(found, [vm for vm in status.vms if vm.group == name])

    async def _commits(self) -> Pieces:
        events = await self.recent.follow()
        status, stories = self._operator.status(), self.recent.stories
        kept = self._shown
        if kept is not None and kept[0][0] is status and kept[0][1] is events:
            return kept[1]
        tips = [status.revision.observed, status.revision.rejected, *stories.names(MOST_TIPS)]
        named = tuple(dict.fromkeys(tip for tip in tips if tip))
        if self._past is None or self._past[0] != named or self._past[1].error:
            self._past = (named, await self._read(named))
        records = [record for vm in status.vms if (record := self._record(vm.name))]
        pieces = commits_page(
            self._past[1],
            stories.by_revision(status, records, self._operator.results()),
            status.revision,
        )
        self._shown = None if self._past[1].error else ((status, events), pieces)
        return pieces

    async def _images(self) -> Pieces:
        await self.recent.follow()
        store = self._operator.status().store
        if self._stored is None or self._stored[0] is not store:
            try:
                self._stored = (store, images_page(self._operator.images()))
            except RequestRefused:  # the first pass is not done
                return images_page(StoreReport((), store))
        return self._stored[1]

    async def _read(self, tips: tuple[str, ...]) -> Past:
        try:
            return Past(await self._operator.commits(tips, MOST_COMMITS))
        except ReconcilerError as error:
            return Past(error=str(error))

    def _record(self, name: VMName) -> VMRecord | None:
        try:
            return self._operator.vm_record(name)
        except RequestRefused:  # declared, but nothing was done for it yet
            return None

    def _console(self, name: VMName) -> str:
        tail = ConsoleReader(self._operator.console(name)).tail(CONSOLE_LINES, CONSOLE_BYTES)
        return "\n".join(map(clean_console_line, tail.split(b"\n"))).strip("\n")

    def _differ(self, name: VMName) -> Differ:
        def differ(a: GenerationNumber, b: GenerationNumber) -> tuple[FieldChange, ...]:
            try:
                return self._operator.difference(name, a, b)
            except RequestRefused:  # dropped meanwhile
                return ()

        return differ


def missing_page(what: str, name: str) -> Pieces:
    """The page about a VM or group that does not exist."""
    body = macro("frame.html", "missing", what, name[:LONGEST_SEARCH])
    return Pieces(f"No such {what} - microVMs", (), {}, body)


def _number(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > LONGEST_NUMBER:
        return None
    return int(text)
