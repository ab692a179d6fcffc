"""`swarm license keygen | issue | show | trust | issuers | distrust`: license files, and whose are trusted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from services.cli.license_session import JsonOut, read_file, session_of, show, write_new
from services.errors import SettingsError


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    app.command("keygen")(keygen)
    app.command("issue")(issue)
    app.command("show")(show_file)
    app.command("trust")(trust)
    app.command("distrust")(distrust)
    app.command("issuers")(issuers)


def keygen(directory: Annotated[Path, typer.Option("--dir", help="Where to write both files.")] = Path()) -> None:
    """Make an issuer's key pair: issuer-key.pem, to be kept, and issuer-pub.pem, for those who trust it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from services.licensing.license_file import key_id, public_pem

    key = Ed25519PrivateKey.generate()
    directory.mkdir(parents=True, exist_ok=True)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_new(directory / "issuer-key.pem", secret, private=True)
    write_new(directory / "issuer-pub.pem", public_pem(key.public_key()).encode(), private=False)
    print(f"Key {key_id(key.public_key())}: {directory / 'issuer-key.pem'} {directory / 'issuer-pub.pem'}")


def issue(
    *,
    key: Annotated[Path, typer.Option("--key", help="The issuer's private key, as `keygen` made it.")],
    license: Annotated[str, typer.Option("--id", help="Name of the license, such as consortium-2027.")],
    issuer: Annotated[str, typer.Option("--issuer", help="Who issues it.")],
    licensee: Annotated[str, typer.Option("--licensee", help="Whom it is for.")],
    seats: Annotated[str, typer.Option("--seats", help="Seats by feature, such as SN=4,SL=64.")],
    days: Annotated[int, typer.Option("--days", help="How long it is valid; 0: for ever.")] = 365,
    start: Annotated[
        datetime | None, typer.Option("--from", help="From when it is valid, in UTC. [default: now]")
    ] = None,
    lock_code: Annotated[str, typer.Option("--lock-code", help="Of the only server that it is for.")] = "",
    out: Annotated[Path, typer.Option("--out", help="Where to write it; it must not exist.")],
) -> None:
    """Make a license file and sign it."""
    from services.licensing.license_file import Grant, License, read_private_key
    from services.licensing.license_file import issue as sign

    now = datetime.now(UTC).replace(microsecond=0)
    begin = now if start is None else start.replace(tzinfo=UTC)
    end = None if days == 0 else begin + timedelta(days=days)
    grants = tuple(Grant(feature, count, begin, end) for feature, count in _seats(seats).items())
    content = sign(License(license, issuer, licensee, now, lock_code or None, grants), read_private_key(read_file(key)))
    write_new(out, content, private=False)
    print(f"License {license} for {licensee}: {out}")


def show_file(file: Annotated[Path, typer.Argument(metavar="FILE", help="A license file.")]) -> None:
    """Say what a license file holds; no server is asked."""
    from services.licensing.license_file import read

    signed = read(read_file(file))
    license = signed.license
    print(f"license   {license.id}\nissuer    {license.issuer}\nfor       {license.licensee}")
    print(f"issued    {license.issued:%Y-%m-%d %H:%M} UTC\nlock code {license.lock_code or 'any server'}")
    print(f"key       {signed.key_id} (whether it is good, a server says: `swarm license preview`)")
    for grant in license.grants:
        until = f"{grant.valid_until:%Y-%m-%d}" if grant.valid_until else "for ever"
        print(f"seats     {grant.feature}={grant.capacity} from {grant.valid_from:%Y-%m-%d} until {until}")


def trust(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Under which name the issuer is shown.")],
    public_key: Annotated[Path, typer.Argument(metavar="KEY", help="Its public key, issuer-pub.pem.")],
) -> None:
    """From now on licenses that this issuer signed can be installed."""
    content = {"name": name, "public_key": read_file(public_key).decode("utf-8", "replace")}
    found = session_of(context).send("POST", "/issuers", content)
    print(f"Trusts {found['name']}, key {found['key_id']}")


def distrust(context: typer.Context, key: Annotated[str, typer.Argument(metavar="KEY", help="Id of the key.")]) -> None:
    """Licenses of this issuer give no seats any more."""
    session_of(context).send("DELETE", f"/issuers/{key}")
    print(f"No longer trusts {key}")


def issuers(context: typer.Context, *, as_json: JsonOut = False) -> None:
    """List whose licenses can be installed."""
    found = session_of(context).get("/issuers")
    rows = [[it["name"], it["key_id"], it["added_by"]] for it in found]
    show(found, as_json, ["issuer", "key", "added by"], rows)


def _seats(text: str) -> dict[str, int]:
    pairs = [part.strip().partition("=") for part in text.split(",")]
    if not all(name and count.isdecimal() for name, _, count in pairs):
        raise SettingsError(name="--seats", problem=f"'{text}' is not like SN=4,SL=64", command="license issue")
    return {name: int(count) for name, _, count in pairs}
