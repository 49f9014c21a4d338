"""Commands that need no daemon: `validate` manifests, and print their `schema`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli.exit_codes import ExitCode, complain
from reconciler.cli.options import ConfigOption, Output, OutputOption
from reconciler.cli.terminal import count
from reconciler.control.serialization import encode
from reconciler.errors import ConfigError, ManifestErrors, Problem
from reconciler.safe_text import clean

if TYPE_CHECKING:
    from reconciler.config import Config
    from reconciler.model.desired import DesiredState
    from reconciler.source.manifests.warnings import ManifestWarning

MOST_WARNINGS = 50


def register(app: typer.Typer) -> None:
    app.command()(validate)
    app.command()(schema)


def validate(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="A folder of manifests, or one file.", show_default=True
        ),
    ] = Path(),
    config: ConfigOption = None,
    output: OutputOption = Output.text,
) -> None:
    """Check a folder of manifests, or one file; names in a single file may be declared elsewhere.

    Prints errors as `file:line:col: message`. Well-formed documents are also checked against each
    other, and against the host's policy if its config exists. Exit 1: there are errors.
    """
    try:
        desired, found = _load(path, _settings(config))
    except ManifestErrors as error:
        _show_problems(error.problems, error.more, output)
        raise typer.Exit(ExitCode.ERROR) from error
    found += _ephemeral(desired)
    if output is Output.json:
        answer = {
            "valid": True,
            "problems": [],
            "more": 0,
            "vms": list(desired.vms),
            "groups": list(desired.groups),
            "warnings": [warning._asdict() for warning in found],
        }
        typer.echo(encode(answer, indent=2))
        return
    if not desired.vms and not desired.groups:
        words = f"warning: {clean(str(path))} has no manifests, which are *.yaml and *.yml files"
        typer.echo(words, err=True)
    for warning in found[:MOST_WARNINGS]:
        typer.echo(f"warning: {warning.vm}: {warning.field}: {warning.message}", err=True)
    if len(found) > MOST_WARNINGS:
        typer.echo(f"... and {len(found) - MOST_WARNINGS} more warnings", err=True)
    typer.echo(f"valid: {count(len(desired.vms), 'VM')}, {count(len(desired.groups), 'group')}")


def _ephemeral(desired: DesiredState) -> Iterator[ManifestWarning]:
    """Warnings for forwarded ports that this host's kernel may give to outgoing connections."""
    from reconciler.source.manifests.warnings import ManifestWarning  # noqa: PLC0415 - loads the manifest models
    from reconciler.vmm.port_availability import ephemeral_ports, reserved_ports  # noqa: PLC0415 - as above

    taken, reserved = ephemeral_ports(), reserved_ports()
    for name, spec in desired.vms.items():
        for index, network in spec.user_interfaces:
            for number, forward in enumerate(network.forwards):
                port = forward.host
                if port in taken and port not in reserved:
                    yield ManifestWarning(
                        name,
                        f"spec.interfaces[{index}].forward[{number}].host",
                        f"an outgoing connection of the host may take port {port} at any time"
                        f" (ip_local_port_range {taken.start}-{taken.stop - 1}): choose another, or"
                        f" sysctl -w net.ipv4.ip_local_reserved_ports={port}",
                    )


def _settings(config: Path | None) -> Config | None:
    """The host's config, if it was named or exists at the default path. Raises ConfigError."""
    from reconciler.config import config_path, load_config  # noqa: PLC0415 - loads pydantic

    path = config_path(config)
    try:
        return load_config(path) if config is not None or path.exists() else None
    except (ConfigError, PermissionError) as error:
        denied = isinstance(error, PermissionError) or isinstance(error.__cause__, PermissionError)
        if config is not None or not denied:
            raise
        complain(
            f"{path} may not be read: the host's policy is not checked", "use sudo, or --config"
        )
        return None


def _load(path: Path, settings: Config | None) -> tuple[DesiredState, list[ManifestWarning]]:
    from reconciler.cli.image_warnings import image_warnings  # noqa: PLC0415 - as below
    from reconciler.source.manifests.folder import load_folder  # noqa: PLC0415 - loads the manifest models

    if settings is None:
        return load_folder(path, advise=image_warnings)
    return load_folder(
        path, settings.policy, settings.kernels, settings.source, advise=image_warnings
    )


def _show_problems(problems: tuple[Problem, ...], more: int, output: Output) -> None:
    if output is Output.json:
        answer = {"valid": False, "problems": problems, "more": more, "vms": [], "groups": []}
        typer.echo(encode(answer, indent=2))
        return
    for problem in problems:
        typer.echo(clean(str(problem)))
    if more:
        typer.echo(f"... and {more} more")
    files = len({problem.file for problem in problems})
    least = "at least " if more else ""
    complain(f"{count(len(problems) + more, 'error')} in {least}{count(files, 'file')}")


def schema(output: OutputOption = Output.text) -> None:
    """Print the JSON schema of manifests, for editors.

    The output is JSON with and without `-o json`.
    """
    from reconciler.source.manifests.json_schema import manifest_schema  # noqa: PLC0415 - loads the manifest models

    del output
    typer.echo(encode(manifest_schema(), indent=2))
