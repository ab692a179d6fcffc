"""`swarm org`: the organizations that share a swarm, and what they vote on."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.asking import whom_to_ask
from services.cli.nodes import CACert, CAPath, Cert, Key, SNPort, Trust

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
Directory = Annotated[
    Path | None, typer.Option("--dir", help="Directory of a local swarm, instead of --sn-ip. [default: .swarm]")
]
SNAddress = Annotated[str | None, typer.Option("--sn-ip", help="Address of an SN: for a vote, of the own one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("list")
def list_(
    *,
    as_json: AsJson = False,
    directory: Directory = None,
    sn_ip: SNAddress = None,
    sn_api_port: SNPort = None,
    cert: Cert = None,
    key: Key = None,
    cacert: CACert = None,
    capath: CAPath = None,
    trust: Trust = None,
) -> None:
    """List organizations, and open proposals with the votes for them and those that are missing."""
    from services.swci.commands.organization import ListOrganizations

    asked = _asked(sn_ip, sn_api_port, cert, key, cacert, capath, trust)
    _run(ListOrganizations(), asked, directory, as_json=as_json)


@app.command()
def propose(
    name: Name,
    *,
    ca: Annotated[
        list[Path] | None,
        typer.Option("--ca", help="File with CA certificates of it; may be repeated. [default: those in --trust]"),
    ] = None,
    as_json: AsJson = False,
    directory: Directory = None,
    sn_ip: SNAddress = None,
    sn_api_port: SNPort = None,
    cert: Cert = None,
    key: Key = None,
    cacert: CACert = None,
    capath: CAPath = None,
    trust: Trust = None,
) -> None:
    """Propose an organization with its CAs, or other CAs for one that the swarm has, and vote for it."""
    from services.swci.commands.organization import ProposeOrganization

    asked = _asked(sn_ip, sn_api_port, cert, key, cacert, capath, trust)
    fingerprints = " ".join(_fingerprints(name, ca or [], trust))
    _run(ProposeOrganization(name=name, fingerprints=fingerprints), asked, directory, as_json=as_json)


@app.command()
def approve(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Of the proposal, as `swarm org list` shows it.")],
    *,
    as_json: AsJson = False,
    directory: Directory = None,
    sn_ip: SNAddress = None,
    sn_api_port: SNPort = None,
    cert: Cert = None,
    key: Key = None,
    cacert: CACert = None,
    capath: CAPath = None,
    trust: Trust = None,
) -> None:
    """Vote for an open proposal."""
    from services.swci.commands.organization import ApproveProposal

    asked = _asked(sn_ip, sn_api_port, cert, key, cacert, capath, trust)
    _run(ApproveProposal(number=number), asked, directory, as_json=as_json)


@app.command()
def remove(
    name: Name,
    *,
    as_json: AsJson = False,
    directory: Directory = None,
    sn_ip: SNAddress = None,
    sn_api_port: SNPort = None,
    cert: Cert = None,
    key: Key = None,
    cacert: CACert = None,
    capath: CAPath = None,
    trust: Trust = None,
) -> None:
    """Propose to remove an organization with all its nodes, and vote for it."""
    from services.swci.commands.organization import RemoveOrganization

    asked = _asked(sn_ip, sn_api_port, cert, key, cacert, capath, trust)
    _run(RemoveOrganization(name=name), asked, directory, as_json=as_json)


def _asked(*values: object) -> dict[str, object]:
    names = ("sn_ip", "sn_api_port", "cert", "key", "cacert", "capath", "trust")
    return dict(zip(names, values, strict=True))


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


def _run(command: "OrganizationCommand", asked: dict[str, object], directory: Path | None, *, as_json: bool) -> None:
    import dataclasses
    import json

    from services.swci.contexts import SnContext, SnContexts
    from services.swci.session import CommandSession, WaitLimits
    from services.swci.usr_dir import UsrDir

    address, identity = whom_to_ask("org", directory, asked)

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
