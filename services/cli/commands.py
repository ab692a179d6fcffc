"""The commands of `swarm`, and the one place where an error becomes a sentence and an exit code."""

import sys
from importlib.metadata import version as distribution_version

import typer

from services.cli import audit, chain, local, nodes, preflight, provision, service, swci
from services.errors import SwarmError
from services.runtime.interrupts import INTERRUPTED
from services.runtime.output import print_error

DISTRIBUTION = "swarm-learning"

app = typer.Typer(
    name="swarm",
    help="Sites train one model together; data stays home; no central server.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
nodes.add_to(app)
local.add_to(app)
audit.add_to(app)
chain.add_to(app)
swci.add_to(app)
preflight.add_to(app)
provision.add_to(app)
service.add_to(app)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def certs(context: typer.Context) -> None:
    """Make a development CA and certificates for nodes (see `swarm certs --help`)."""
    from services.cli.certs import app as certs_app  # cryptography loads only here

    certs_app(args=context.args, prog_name="swarm certs")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def license(context: typer.Context) -> None:  # the word that is typed
    """Make and sign licenses, and administer a license server (see `swarm license --help`)."""
    from services.cli.license import app as license_app  # its many commands load only here

    license_app(args=context.args, prog_name="swarm license")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def org(context: typer.Context) -> None:
    """Show the organizations that share a swarm, and vote on them (see `swarm org --help`)."""
    from services.cli.org import app as org_app  # its commands load only here

    org_app(args=context.args, prog_name="swarm org")


@app.command()
def version() -> None:
    """Print the version."""
    print(distribution_version(DISTRIBUTION))


def execute(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; whatever fails ends in one line on stderr."""
    try:
        app(args=arguments, prog_name="swarm")
    except SwarmError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:  # while commands are still being put together: later each ends by itself
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
