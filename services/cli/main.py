"""The entry point of the `swarm` command."""

import sys

from services.runtime.interrupts import loading
from services.runtime.output import finish


def run() -> None:
    """Entry point of the `swarm` script."""
    with loading():
        import services.cli.commands  # noqa: F401
    exit_code = main(sys.argv[1:])
    finish()
    sys.exit(exit_code)


def main(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; whatever fails ends in one line on stderr."""
    from services.cli.commands import execute

    return execute(arguments)
