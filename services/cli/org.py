"""`swarm org`: the organizations that share a swarm, and what they vote on."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.asking import Whom, asks_an_sn
from services.cli.options import AsJson

if TYPE_CHECKING:
    from services.swci.commands.organization import OrganizationCommand

app = typer.Typer(
    help="Show the organizations that share a swarm, and vote on them. An SN votes for its own organization, on the "
    "word of an administrator of it (role swci or admin).",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the organization.")]


@app.command("list")
@asks_an_sn
def list_(
    *,
    as_json: AsJson = False,
    whom: Whom,
) -> None:
    """List organizations, and open proposals with the votes for them and those that are missing."""
    from services.swci.commands.organization import ListOrganizations

    _run(ListOrganizations(), whom, as_json=as_json)


@app.command()
@asks_an_sn
def propose(
    name: Name,
    *,
    ca: Annotated[
        list[Path] | None,
        typer.Option("--ca", help="File with its CA certificates; may be repeated. [default: those in --trust]"),
    ] = None,
    as_json: AsJson = False,
    whom: Whom,
) -> None:
    """Propose an organization with its CAs, or other CAs for one that the swarm has, and vote for it."""
    from services.swci.commands.organization import ProposeOrganization

    fingerprints = " ".join(_fingerprints(name, ca or [], whom.trust))
    _run(ProposeOrganization(name=name, fingerprints=fingerprints), whom, as_json=as_json)


@app.command()
@asks_an_sn
def approve(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Of the proposal, as `swarm org list` shows it.")],
    *,
    as_json: AsJson = False,
    whom: Whom,
) -> None:
    """Vote for an open proposal."""
    from services.swci.commands.organization import ApproveProposal

    _run(ApproveProposal(number=number), whom, as_json=as_json)


@app.command()
@asks_an_sn
def withdraw(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Of the proposal, as `swarm org list` shows it.")],
    *,
    as_json: AsJson = False,
    whom: Whom,
) -> None:
    """Withdraw an open proposal of the own organization."""
    from services.swci.commands.organization import WithdrawProposal

    _run(WithdrawProposal(number=number), whom, as_json=as_json)


@app.command()
@asks_an_sn
def expel(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the node, as in its certificate.")],
    *,
    role: Annotated[str, typer.Option("--role", help="sn, sl or swop, if nodes of several roles have the name.")] = "",
    as_json: AsJson = False,
    whom: Whom,
) -> None:
    """Take a node of the own organization out of the swarm for good; propose that for one of another organization."""
    from services.swci.commands.organization import ExpelNode

    _run(ExpelNode(node=name, role=role or None), whom, as_json=as_json)


@app.command()
@asks_an_sn
def remove(
    name: Name,
    *,
    as_json: AsJson = False,
    whom: Whom,
) -> None:
    """Propose to remove an organization with all its nodes, and vote for it."""
    from services.swci.commands.organization import RemoveOrganization

    _run(RemoveOrganization(name=name), whom, as_json=as_json)


def _fingerprints(name: str, files: list[Path], trust: Path | None) -> list[str]:
    """Raises CertificateUnreadable, TrustFileUnusable, SettingsError."""
    from services.errors import SettingsError
    from services.identity.certificates import key_fingerprint, read_chain
    from services.identity.peers import read_trust

    cas = [certificate for path in files for certificate in read_chain(path)]
    if not files and trust is not None:
        organizations = read_trust(None, None, trust).organizations
        cas = [ca for one in (organizations.members if organizations else ()) if one.name == name for ca in one.cas]
    if not cas:
        problem = f"no CA of {name} is given: name its certificates by --ca, or a trust file with it by --trust"
        raise SettingsError(name="--ca", problem=problem, command="org propose")
    return list(dict.fromkeys(key_fingerprint(ca) for ca in cas))


def _run(command: "OrganizationCommand", whom: Whom, *, as_json: bool) -> None:
    import dataclasses
    import json

    from services.swci.contexts import SnContext, SnContexts
    from services.swci.session import CommandSession, WaitLimits
    from services.swci.usr_dir import UsrDir

    address, identity = whom.found("org")

    async def ask() -> object:
        contexts = SnContexts()
        contexts.add(SnContext("org", "", 0, "", address))
        session = CommandSession(identity, UsrDir(Path()), WaitLimits(), contexts)
        try:
            return await command.run(session, lambda _line: None)
        finally:
            await session.close()

    result = asyncio.run(ask())
    if as_json:
        print(json.dumps(dataclasses.asdict(result)))  # type: ignore[call-overload]  # one of swarmlearning.swci.models
    else:
        print("\n".join(command.show(result)))
