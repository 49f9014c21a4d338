"""`status`: all VMs or one, once or continuously."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import completion
from reconciler.cli.daemon_client import Daemon, find_daemon
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import ConfigOption, Output, OutputOption, SocketOption
from reconciler.cli.terminal import console, wall
from reconciler.control.serialization import encode
from reconciler.model.status import HostStatus

if TYPE_CHECKING:
    from reconciler.control.reports import VMAnswer


def register(app: typer.Typer) -> None:
    app.command()(status)


def status(
    vm: Annotated[
        str | None,
        typer.Argument(
            metavar="VM",
            help="All VMs if left out.",
            show_default=False,
            autocompletion=completion.vms,
        ),
    ] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep the view up to date.")] = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Show what runs, whether it is healthy, and why.

    Exit 0: all are healthy, 3: something is unhealthy, 6: something is blocked, 1: error.
    """
    daemon = find_daemon(socket, config)
    if watch:
        from reconciler.cli.watch import watch_status  # noqa: PLC0415 - loads rich

        watch_status(daemon, vm, json_lines=output is Output.json)
        return
    fleet = ask(daemon, vm)
    if output is Output.json:
        typer.echo(encode(fleet, indent=2))
    else:
        _show(fleet)
    raise typer.Exit(exit_code(fleet))


def ask(daemon: Daemon, vm: str | None) -> HostStatus | VMAnswer:
    """The status of the host, or of one VM. Raises DaemonError."""
    if vm is None:
        return daemon.get(HostStatus, "status")
    from reconciler.control.reports import VMAnswer  # noqa: PLC0415 - loads much of the model

    return daemon.get(VMAnswer, "vms", vm)


def exit_code(fleet: HostStatus | VMAnswer) -> ExitCode:
    """The exit code: unhealthy before blocked; VMs that were not asked yet count as healthy."""
    if not all(vm.healthy or vm.unasked for vm in fleet.vms):
        return ExitCode.UNHEALTHY
    if any(vm.sync == "blocked" for vm in fleet.vms):
        return ExitCode.BLOCKED
    return ExitCode.OK


def _show(fleet: HostStatus | VMAnswer) -> None:
    from reconciler.cli.host_view import fleet_lines  # noqa: PLC0415 - loads rich
    from reconciler.cli.vm_view import show_vm  # noqa: PLC0415 - loads rich

    out, now = console(), wall()
    if not isinstance(fleet, HostStatus):
        show_vm(fleet, out, now)
        return
    for line in fleet_lines(fleet, out.width, now):
        out.print(line, soft_wrap=True)
