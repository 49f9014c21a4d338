"""`reconciler` and `python -m reconciler`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; the answer is the exit code."""
    from reconciler.cli.app import main as run_command  # noqa: PLC0415 - importing must not start it

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
