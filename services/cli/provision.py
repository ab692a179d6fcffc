"""`swarm provision`: from one project file to a start-up kit for each organization."""

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command("provision")(provision)


def provision(
    project_file: Annotated[Path, typer.Argument(metavar="PROJECT.yaml", help="Organizations and their nodes.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write the kits. [default: next to the file]")
    ] = None,
    archives: Annotated[bool, typer.Option("--zip", help="Pack each kit as ORGANIZATION.zip too.")] = False,
    encrypted: Annotated[
        bool,
        typer.Option("--encrypt", help="The same, encrypted with AES-256; the password is in ORGANIZATION.password."),
    ] = False,
) -> None:
    """Make a start-up kit for each organization of a project; run again, it makes only what is new."""
    from services.provision.making import make_kits
    from services.provision.project import read_project
    from services.provision.trust import DIRECTORY

    project = read_project(project_file)
    directory = out or project_file.parent / project.project
    outcomes = make_kits(project, project_file.parent, directory, archives=archives, encrypted=encrypted)
    for outcome in outcomes:
        news = f"changed: {', '.join(outcome.written)}" if outcome.written else "as it was"
        print(f"{outcome.organization}: {outcome.archive or outcome.directory} ({'new' if outcome.is_new else news})")
    if any(
        not outcome.is_new and any(path.startswith(f"{DIRECTORY}/") for path in outcome.written) for outcome in outcomes
    ):
        print(
            f"Where {DIRECTORY}/ has changed, each organization puts its new files in place. Its nodes take them over "
            "for connections that are made afterwards, and refuse what is new until then."
        )
    if encrypted:
        print("Give each organization its .zip, and by another way its .password.")
