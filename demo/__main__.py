"""Shows the main job on real guests: `./dev demo`; with `--keep` it stays up afterwards."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from demo.daemon import free_port
from demo.fleet import is_free, judge_sooner, page, usable_ports, use_ports
from demo.poller import Poller
from demo.screen import DemoFailed, Screen
from demo.show import Show, perform, summary
from demo.stage import MANIFESTS, NOT_OF_THE_FLEET, Stage
from demo.steps import STEPS
from reconciler.host import layout

INTERRUPTED = 130
HTTP_PORT = 9188
STARTUP_DEADLINE = 30
"""Seconds. Three guests at once take up to 15 where they are emulated."""
PLAIN_WIDTH = 140


def main() -> int:
    arguments = parse()
    plain = not sys.stdout.isatty()
    console = Console(soft_wrap=plain, width=PLAIN_WIDTH if plain else None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    stage = Stage.open(HTTP_PORT if is_free(HTTP_PORT) else free_port())
    failed = True
    try:
        play(stage, console, keep=arguments.keep)
        failed = False
    except KeyboardInterrupt:
        console.print("\ninterrupted", style="yellow")
        failed = False
        return INTERRUPTED
    except SystemExit:  # a signal asked for it
        failed = False
        raise
    except DemoFailed as error:
        console.print(f"\nThe demo failed: {error}", style="red", markup=False, highlight=False)
        return 1
    finally:
        left = stage.close(keep_files=failed)
        if failed:
            console.print(f"Logs are kept in {stage.root}", highlight=False)
            logs = layout.console(layout.vm(stage.state, "*"))
            console.print(f"  {stage.daemon.log}\n  {logs}", highlight=False)
        if left:
            console.print(f"Still running; end them by hand: {left}", style="red", highlight=False)
    return 1 if left else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev demo", description="push manifests and watch real guests"
    )
    parser.add_argument("--keep", action="store_true", help="stay up afterwards, until Ctrl-C")
    return parser.parse_args()


def play(stage: Stage, console: Console, *, keep: bool) -> None:
    ports = usable_ports()
    stage.repository.copy_from(MANIFESTS, NOT_OF_THE_FLEET)
    use_ports(stage.repository, ports)
    judge_sooner(stage.repository, STARTUP_DEADLINE)
    stage.repository.push("the fleet")
    seeded = stage.seed()
    screen = Screen(console, len(STEPS))
    screen.say(f"repository {stage.repository.bare}, daemon log {stage.daemon.log}")
    if not seeded:
        screen.say("first run: apt downloads the kernel bundle, once")
    with screen.open():
        started(stage.daemon.start)
        with Poller(ports) as poller:
            show = Show(stage, screen, poller)
            for number, step in enumerate(STEPS, 1):
                perform(show, number, step)
    summary(console, show.results)
    if keep:
        stay(stage, console, ports)


def started(start: Callable[[], object]) -> None:
    try:
        start()
    except RuntimeError as error:
        raise DemoFailed(str(error)) from error


def stay(stage: Stage, console: Console, ports: dict[str, int]) -> None:
    """Print commands and addresses to try, and wait for Ctrl-C."""
    cli = Path(sys.executable).with_name("reconciler")
    on = f"--socket {stage.daemon.settings.socket}"
    work = stage.repository.work
    guests = stage.daemon.fleet().vms
    web = [f"http://127.0.0.1:{port}/  ({vm})" for vm, port in ports.items() if vm in guests]
    lines = [
        "",
        "Still up; Ctrl-C ends the daemon and its guests.",
        *web,
        f"http://127.0.0.1:{stage.daemon.settings.http_port}/  (sign in with the token from the next command)",
        f"{cli} token {on}",
        f"{cli} status --watch {on}",
        f"{cli} history web-a {on}",
        f"{cli} events -f {on}",
        f"echo hello > {work / page('web-a')}",
        f"git -C {work} commit -qam hello && git -C {work} push -q origin main",
        f"tail -f {stage.daemon.log}",
    ]
    console.print("\n".join(lines), highlight=False, markup=False)
    with suppress(KeyboardInterrupt):
        signal.pause()
    console.print("\nending: the daemon first, then its guests")


if __name__ == "__main__":
    sys.exit(main())
