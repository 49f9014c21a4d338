"""The command line: builds its commands, and turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import sys

import typer
import typer.core

from reconciler.cli import completion
from reconciler.cli.daemon_client import DaemonError
from reconciler.cli.exit_codes import ExitCode, complain, report
from reconciler.cli.options import ConfigOption, SocketOption
from reconciler.cli.terminal import count
from reconciler.errors import ManifestErrors, ReconcilerError
from reconciler.safe_text import clean

SHARED = ("-c", "--config", "--socket")
"""Options that may also stand before the command."""
# Typer may bundle click or use the installed one; either way this is the base of its usage errors.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

# Help is plain text here (`rich_markup_mode`); typer escapes `[default: 1]` for markup all the same.
typer.core.HAS_RICH = False

MODULES = {
    "status": ("status",),
    "why": ("why",),
    "plan": ("plan",),
    "reconcile": ("reconcile",),
    "generations": ("history", "diff", "rollback"),
    "rollouts": ("promote", "abort", "confirm", "accept-rewrite"),
    "operate": ("retry", "suspend", "resume", "restart", "remove", "adopt"),
    "images": ("images",),
    "follow": ("logs", "events"),
    "manifests": ("validate", "schema"),
    "doctor": ("doctor",),
    "setup": ("notify", "token"),
    "run": ("run", "version", "front"),
}
"""The commands of each module, in the order of the help."""
NESTED = ("images",)
"""Commands with commands of their own."""


def build(arguments: list[str]) -> typer.Typer:
    """The command line, with only the named command if there is one: loading all takes longer than most run."""
    app = typer.Typer(
        name="reconciler",
        help="Push a manifest, get a microVM: GitOps for the microVMs of this host.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(without_command)
    completion.prepare()
    named = [
        name for name, commands in MODULES.items() if arguments[:1] and arguments[0] in commands
    ]
    for name in named or MODULES:
        importlib.import_module(f"reconciler.cli.{name}").register(app)
    return app


def without_command(
    context: typer.Context, socket: SocketOption = None, config: ConfigOption = None
) -> None:
    """Print the help if no command is given."""
    del socket, config  # `in_order` has moved them to the command
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = in_order(sys.argv[1:] if arguments is None else arguments)
    try:
        result = build(given)(given, prog_name="reconciler", standalone_mode=False)
    except ReconcilerError as error:
        if not _list_problems(error):
            report(error)
        return ExitCode.ERROR
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:
        if not isinstance(error, USAGE_ERROR):
            raise
        # Not click's 2: in scripts it would look like `plan`'s "there are changes".
        complain(_usage_message(error), _where_help_is(given))
        return ExitCode.ERROR
    return result if isinstance(result, int) else ExitCode.OK


def in_order(given: list[str]) -> list[str]:
    """Move shared options behind the command: `-c FILE status` becomes `status -c FILE`."""
    before: list[str] = []
    rest = list(given)
    while rest and rest[0].partition("=")[0] in SHARED:
        before.append(rest.pop(0))
        if "=" not in before[-1] and rest:
            before.append(rest.pop(0))
    named = 2 if rest[:1] and rest[0] in NESTED else 1
    return [*rest[:named], *before, *rest[named:]]


def _usage_message(error: Exception) -> str:
    describe = getattr(error, "format_message", None)
    words = str(describe()) if describe else str(error)
    # Typer's texts for an option without a variable, and for a bounded number.
    return words.replace(" (env var: 'None')", "").replace("a valid integer range", "a number")


def _where_help_is(given: list[str]) -> str:
    if any(given[:1] == [name] for commands in MODULES.values() for name in commands):
        return f"`reconciler {given[0]} --help` has its arguments and options"
    return "`reconciler --help` lists commands, `reconciler version` prints the version"


def _list_problems(error: ReconcilerError) -> bool:
    """Print each problem of an error on a line of its own, then their number; returns whether it has any."""
    if (
        not isinstance(error, ManifestErrors | DaemonError)
        or error.kind != ManifestErrors.default_kind
    ):
        return False
    for problem in error.problems:
        typer.echo(clean(str(problem)), err=True)
    if error.more:
        typer.echo(f"... and {error.more} more", err=True)
    complain(
        f"the revision is refused for {count(len(error.problems) + error.more, 'error')};"
        " what runs stays as it is",
        "push a corrected one; `reconciler validate FOLDER` finds all errors before a push",
    )
    return True
