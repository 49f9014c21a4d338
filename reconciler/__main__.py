"""`reconciler` and `python -m reconciler`."""

from __future__ import annotations

import io
import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    from reconciler.cli.app import main as run_command  # noqa: PLC0415 - importing must not start it

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without UTF-8 shows an escape where it lacks a character, not a traceback.
            stream.reconfigure(errors="backslashreplace")
    return run_command()


if __name__ == "__main__":
    sys.exit(main())
