"""The store of images: `images ls`, `why`, `verify`, `gc` and `pull`; `tags.py` has `resolve`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import completion, tags
from reconciler.cli.daemon_client import Daemon, DaemonError, find_daemon
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption
from reconciler.cli.terminal import age, build_lines, console, count, say, wall
from reconciler.control.responses import DoneAnswer
from reconciler.control.serialization import encode
from reconciler.model.status import HostStatus
from reconciler.model.store_status import (
    ImageCheck,
    ImageState,
    ImageStatus,
    ImageUses,
    StoreReport,
    StoreStatus,
    bytes_text,
)
from reconciler.safe_text import clean

if TYPE_CHECKING:
    from rich.console import Console

KEY_DIGITS = 12
STYLES = {"used": "green", "kept": "", "unused": "dim", "missing": "yellow", "broken": "red"}
WORDS: Mapping[ImageState, str] = {
    "used": "used", "kept": "kept to roll back to", "unused": "unused", "broken": "broken",
}  # fmt: skip
GONE_SECONDS = 120.0
"""How long `gc` waits until what it requested is done."""
LOOK_SECONDS = 0.2
PATIENT = 5
"""Times what an answer took, which pass before the next question."""
MOST_TITLES = 3

ImageArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY|TITLE",
        help="The first digits of its key, or its title, as `images ls` shows them.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class CollectAnswer:
    """What a collection removed, or would remove."""

    images: tuple[ImageStatus, ...]
    size_bytes: int
    removed: bool


def register(app: typer.Typer) -> None:
    images = typer.Typer(
        help="Show, check and clean the store of images.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for command in (ls, why, verify, gc, pull, tags.resolve):
        images.command()(command)
    app.add_typer(images, name="images")


def ls(
    socket: SocketOption = None, config: ConfigOption = None, output: OutputOption = Output.text
) -> None:
    """List the images with their sizes, who shares them, and what may go.

    used: a guest runs on it or is to; kept: to roll back to; unused: nothing names it;
    missing: not built yet; broken: made again before its next use.
    """
    report = find_daemon(socket, config).get(StoreReport, "images")
    if output is Output.json:
        typer.echo(encode(report, indent=2))
        return
    out, now = console(), wall()
    if report.images:
        _show_table(report.images, out, now)
    for line in tags.lines(report.tags, now):
        say(out, line, hang=4)
    for line in totals(report.store):
        say(out, line, "dim")


def why(
    image: ImageArgument,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Show why an image stays: every VM and generation that names it."""
    answer = find_daemon(socket, config).get(ImageUses, "image", name=image)
    if output is Output.json:
        typer.echo(encode(answer, indent=2))
        return
    out, found = console(), answer.image
    say(out, f"{clean(found.title)} ({found.key[:KEY_DIGITS]}): {_about(found)}", "bold")
    for title in answer.part_of:
        say(out, f"  a part of {clean(title)}")
    for use in answer.uses:
        of = "" if use.generation is None else f" generation {use.generation}"
        say(out, f"  {clean(use.vm)}{of}: {clean(use.why)}", hang=4)
    if answer.more:
        say(out, f"  and {answer.more} more", "dim")
    if not answer.uses:
        say(out, f"  {_fate(found)}", hang=4)


def verify(
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY|TITLE",
            help="One image, with the parts that it is composed of; all if left out.",
            show_default=False,
        ),
    ] = None,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Read images from the disk, and compare all bytes with what was made.

    One that rotted is made again before its next use; guests on it run on.
    Exit 0: all are sound, 1: at least one is not.
    """
    daemon = find_daemon(socket, config)
    sound = True
    progress = _ProgressLine()
    for check in daemon.stream_values(ImageCheck, "check-images", name=image):
        sound = sound and check.result != "rotten"
        if output is Output.json:
            typer.echo(encode(check))
        elif check.result:
            progress.clear()
            typer.echo(_ended(check))
        else:
            progress.show(check)
    raise typer.Exit(ExitCode.OK if sound else ExitCode.ERROR)


def gc(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only list what would be removed.")
    ] = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Remove every image that nothing names, now.

    Also those that policy.store_max_mib would keep. What a guest runs on, what is desired and
    what a VM may go back to stays. Exit 0: done, 1: refused, or not done in time.
    """
    daemon = find_daemon(socket, config)
    goes = tuple(i for i in daemon.get(StoreReport, "images").images if _unnamed(i))
    if goes and not dry_run:
        daemon.post(DoneAnswer, "request", {"op": "collect-images"})
        _until_gone(daemon, {i.key for i in goes})
    freed = sum(i.size_bytes for i in goes if not i.parts)
    if output is Output.json:
        typer.echo(encode(CollectAnswer(goes, freed, not dry_run), indent=2))
        return
    if goes:
        _show_table(goes, console(), wall())
    verb = "would be removed" if dry_run else "removed"
    typer.echo(f"{count(len(goes), 'image')} {verb}, {bytes_text(freed)}")


def pull(
    vm: Annotated[
        str | None,
        typer.Argument(
            metavar="VM",
            help="All VMs of the current revision if left out.",
            show_default=False,
            autocompletion=completion.vms,
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait at most.")
    ] = 3600.0,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Wait until every image of the current revision is in the store.

    The daemon builds and fetches ahead of all restarts, also while a window, an approval or the
    budget holds those back; this restarts nothing. Exit 0: all are there, 1: one cannot be built,
    or not in time.
    """
    progress = _ProgressLine()
    report = _until_there(find_daemon(socket, config), vm, timeout, progress)
    progress.clear()
    if output is Output.json:
        typer.echo(encode(report, indent=2))
        return
    wanted = [i for i in report.images if i.wanted]
    taken = sum(i.size_bytes for i in wanted if not i.parts)
    typer.echo(f"{count(len(wanted), 'image')} there, {bytes_text(taken)}")


def _until_there(
    daemon: Daemon, vm: str | None, timeout: float, progress: _ProgressLine
) -> StoreReport:
    """Wait until nothing that is wanted is missing. Raises DaemonError."""
    until = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        report = daemon.get(StoreReport, "images", vm=vm)
        lacking = [i for i in report.images if i.wanted and i.state in ("missing", "broken")]
        if not lacking:
            return report
        fleet = daemon.get(HostStatus, "status")
        under_way = build_lines(fleet.builds, wall(), vms=False)
        words = "; ".join(under_way) or _titles(lacking)
        progress.words(f"{count(len(lacking), 'image')} to come: {words}")
        if hopeless := _hopeless(fleet, vm):
            raise DaemonError(
                hopeless, hint="push a fix, or `reconciler retry VM` when the cause is gone"
            )
        if time.monotonic() >= until:
            raise DaemonError(
                f"{count(len(lacking), 'image')} not there after {timeout:.0f} s: {_titles(lacking)}",
                hint="`reconciler why VM` says what a VM waits for; what is suspended, held or"
                " blocked is not built",
            )
        _pause(began)


def _pause(began: float) -> None:
    """Until the next look: a daemon of thousands of VMs takes a while to answer, and has other work."""
    time.sleep(max(LOOK_SECONDS, PATIENT * (time.monotonic() - began)))


def _titles(images: Iterable[ImageStatus]) -> str:
    titles = [clean(i.title) for i in images]
    more = f" and {len(titles) - MOST_TITLES} more" if len(titles) > MOST_TITLES else ""
    return ", ".join(titles[:MOST_TITLES]) + more


def _hopeless(fleet: HostStatus, vm: str | None) -> str:
    """Why an image cannot be built whatever is waited for; empty: no such reason is known."""
    for one in fleet.vms:
        for wait in one.waits if vm in (None, one.name) else ():
            if wait.kind == "broken":
                return f"{one.name}: {wait.why}"
    return ""


def _unnamed(image: ImageStatus) -> bool:
    return not image.vms and image.state != "missing"


def _until_gone(daemon: Daemon, keys: set[str]) -> None:
    """Wait until the daemon has removed these. Raises DaemonError."""
    until = time.monotonic() + GONE_SECONDS
    while (began := time.monotonic()) < until:
        left = {i.key for i in daemon.get(StoreReport, "images").images if _unnamed(i)}
        if not left & keys:
            return
        _pause(began)
    raise DaemonError(
        "the collection is not done yet",
        hint="it goes on: `reconciler images ls` shows how far it is, `reconciler events` what failed",
    )


def totals(store: StoreStatus) -> Iterator[str]:
    """What the store takes and saves, in words."""
    by_state = (
        f"{bytes_text(store.total(state))} {words}"
        for state, words in WORDS.items()
        if store.count(state)
    )
    there = store.count() - store.count("missing")
    parts = ", ".join(by_state)
    yield f"{count(there, 'image')}, {bytes_text(store.total())}{': ' if parts else ''}{parts}"
    if missing := store.count("missing"):
        yield f"{count(missing, 'image')} missing: built before its next use"
    if store.saved_bytes:
        yield f"one copy for {count(store.vms, 'VM')} saves {bytes_text(store.saved_bytes)}"


def _show_table(images: Iterable[ImageStatus], out: Console, now: float) -> None:
    from rich.table import Table  # noqa: PLC0415 - only text output pays for it
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("KEY", no_wrap=True)
    table.add_column("TITLE", overflow="fold")
    for name in ("KIND", "SIZE", "VMS", "GENS", "LAST USED", "STATE"):
        right = name in ("SIZE", "VMS", "GENS")
        table.add_column(name, no_wrap=True, justify="right" if right else "left")
    inside: set[str] = set()
    for image in images:
        table.add_row(
            image.key[:KEY_DIGITS],
            f"{'  ' if image.key in inside else ''}{clean(image.title)}",
            "part" if image.key in inside else clean(image.kind),
            bytes_text(image.size_bytes),
            str(image.vms),
            str(image.generations),
            _last_use(image, now),
            Text(_state(image), STYLES.get(image.state, "")),
        )
        inside.update(image.parts)
    out.print(table)


def _state(image: ImageStatus) -> str:
    return clean(f"{image.state}, building" if image.building else image.state)


def _last_use(image: ImageStatus, now: float) -> str:
    if image.vms:
        return "now" if image.state != "missing" else "-"
    moment = max(image.used_wall, image.made_wall)
    return f"{age(now - moment)} ago" if moment else "-"


def _about(image: ImageStatus) -> str:
    read = f", read again {age(wall() - image.checked_wall)} ago" if image.checked_wall else ""
    made = f", made {age(wall() - image.made_wall)} ago" if image.made_wall else ""
    fault = f": {clean(image.broken)}" if image.broken else ""
    shared = f"{count(image.vms, 'VM')}, {count(image.generations, 'generation')}"
    return f"{clean(image.kind)}, {bytes_text(image.size_bytes)}, {_state(image)}{fault}, {shared}{made}{read}"


def _fate(image: ImageStatus) -> str:
    if image.collectable:
        return "nothing names it: the next collection removes it"
    return (
        "nothing names it: it is kept while the store is within policy.store_max_mib and the disk"
        " has room; `reconciler images gc` removes it now"
    )


def _ended(check: ImageCheck) -> str:
    why = f": {clean(check.why)}" if check.why else ""
    of = f"{check.key[:KEY_DIGITS]}  {clean(check.title)}"
    return f"{clean(check.result):<9}  {of}  {bytes_text(check.size_bytes)}{why}"


class _ProgressLine:
    """How far the work is, on a terminal's standard error."""

    def __init__(self) -> None:
        self._out = console(stderr=True)
        self._shown = False

    def show(self, check: ImageCheck) -> None:
        part = 100 * check.read_bytes // max(1, check.size_bytes)
        self.words(f"{clean(check.title)}: {part} %")

    def words(self, text: str) -> None:
        if self._out.is_terminal:
            typer.echo(f"\r\x1b[K{text}", err=True, nl=False)
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            typer.echo("\r\x1b[K", err=True, nl=False)
            self._shown = False
