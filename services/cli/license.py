"""`swarm license`: licenses, seats, people and the log of a license server, over its REST API."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import license_files, license_people
from services.cli.license_session import JsonOut, LicenseSession, session_of, show
from services.cli.options import CACert, CAPath, Cert, Key, LocalSwarm, Trust
from services.errors import NoSuchThing

app = typer.Typer(
    name="license",
    help="Make and sign licenses, and administer a license server.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
license_files.add_to(app)
license_people.add_to(app)

License = Annotated[Path, typer.Argument(metavar="FILE", help="A license file.")]
Feature = Annotated[str, typer.Option("--feature", help="Only of this one: SN, SL, SWOP or SWCI.")]


@app.callback()
def common(
    context: typer.Context,
    server: Annotated[str | None, typer.Option("--server", help="HOST[:PORT] of the license server.")] = None,
    *,
    directory: LocalSwarm = None,
    cert: Cert = None,
    key: Key = None,
    cacert: CACert = None,
    capath: CAPath = None,
    trust: Trust = None,
) -> None:
    """Options of every command that asks a server."""
    flags = {"server": server, "cert": cert, "key": key, "cacert": cacert, "capath": capath, "trust": trust}
    context.obj = LicenseSession(flags, directory)


@app.command("list")
def list_(context: typer.Context, *, as_json: JsonOut = False) -> None:
    """List the licenses that are installed."""
    found = session_of(context).get("/licenses")
    rows = [[it["id"], it["issuer"], it["signature"], _grants(it["grants"]), it["installed_by"]] for it in found]
    show(found, as_json, ["license", "issuer", "signature", "seats", "installed by"], rows)


@app.command()
def preview(context: typer.Context, file: License) -> None:
    """Say what a license file holds and whether the server would install it."""
    found = session_of(context).send("POST", "/licenses/preview", {"file": _encoded(file)})
    facts = {
        "license": found["id"],
        "issuer": found["issuer"],
        "for": found["licensee"],
        "signature": found["signature"],
    }
    facts |= {"seats": _grants(found["grants"]), "lock code": found["lock_code"] or "any server"}
    facts["can be installed"] = found["problem"] or "yes"
    print("\n".join(f"{name:<18} {value}" for name, value in facts.items()))


@app.command()
def install(context: typer.Context, file: License) -> None:
    """Install a license file."""
    found = session_of(context).send("POST", "/licenses", {"file": _encoded(file)})
    print(f"Installed {found['id']} of {found['issuer']}: {_grants(found['grants'])}")


@app.command()
def remove(context: typer.Context, license: Annotated[str, typer.Argument(metavar="LICENSE")]) -> None:
    """Remove a license; nodes that hold a seat keep it for the grace period."""
    session_of(context).send("DELETE", f"/licenses/{license}")
    print(f"Removed {license}")


@app.command()
def pools(context: typer.Context, *, as_json: JsonOut = False) -> None:
    """Show the seats of each feature."""
    found = session_of(context).get("/pools")
    rows = [
        [it["feature"], it["capacity"], it["used"], it["reserved"], ", ".join(it["allowed"]) or "every node"]
        for it in found
    ]
    show(found, as_json, ["feature", "seats", "used", "reserved", "serves"], rows)


@app.command()
def restrict(
    context: typer.Context,
    feature: Annotated[str, typer.Argument(metavar="FEATURE")],
    allowed: Annotated[list[str] | None, typer.Argument(metavar="[PATTERN]...")] = None,
) -> None:
    """Serve only nodes whose name matches a pattern such as hospital-a-*; without one, every node."""
    found = session_of(context).send("PUT", f"/pools/{feature}/allowed", {"allowed": allowed or []})
    print(f"{feature} serves {', '.join(found['allowed']) or 'every node'}")


@app.command()
def reserve(
    context: typer.Context,
    feature: Annotated[str, typer.Argument(metavar="FEATURE")],
    clients: Annotated[str, typer.Argument(metavar="PATTERN")],
    seats: Annotated[int, typer.Argument(metavar="SEATS")],
) -> None:
    """Keep seats for nodes whose name matches a pattern; 0 seats: no longer."""
    session = session_of(context)
    if seats == 0:
        pool: dict[str, Any] = next(
            (it for it in session.get("/pools") if it["feature"] == feature), {"reservations": []}
        )
        for place in pool["reservations"]:
            if place["clients"] == clients:
                session.send("DELETE", f"/reservations/{place['id']}")
    else:
        session.send("POST", f"/pools/{feature}/reservations", {"clients": clients, "seats": seats})
    print(f"{seats} seats for {feature} are reserved for {clients}")


@app.command()
def leases(
    context: typer.Context,
    *,
    feature: Feature = "",
    search: Annotated[str, typer.Option("--search", help="Part of a name or address.")] = "",
    as_json: JsonOut = False,
) -> None:
    """List who holds a seat."""
    found = session_of(context).get("/leases", feature=feature, search=search)
    rows = [
        [it["id"], it["feature"], it["node"], it["address"], it["taken_at"][:19], it["revoke_reason"] or "held"]
        for it in found
    ]
    show(found, as_json, ["lease", "feature", "node", "address", "since", "state"], rows)


@app.command()
def revoke(
    context: typer.Context,
    lease: Annotated[str, typer.Argument(metavar="LEASE|NODE", help="A lease, or the name of a node.")],
    reason: Annotated[str, typer.Option("--reason", help="What the node's log will say.")],
) -> None:
    """Take a seat away: its node ends after its round, and gets none until it is readmitted."""
    session = session_of(context)
    named = [it["id"] for it in session.get("/leases", search=lease) if it["node"] == lease]
    for lease_id in named or [lease]:
        found = session.send("POST", f"/leases/{lease_id}/revoke", {"reason": reason})
        print(f"Revoked the seat of {found['node']} for {found['feature']}")


@app.command()
def readmit(context: typer.Context, node: Annotated[str, typer.Argument(metavar="NODE")]) -> None:
    """Let a node take seats again that was expelled from its swarm, or whose seat was revoked."""
    session = session_of(context)
    revoked = [it for it in session.get("/revocations") if it["node"] == node]
    expelled = [it for it in session.get("/expulsions") if it["name"] == node]
    if not revoked and not expelled:
        raise NoSuchThing(what="revoked or expelled node", name=node)
    for it in revoked:
        session.send("DELETE", f"/revocations/{it['id']}")
        print(f"{node} may take a seat for {it['feature']} again")
    for it in expelled:
        session.send("DELETE", f"/expulsions/{it['id']}")
        print(f"{it['role']} {node} may take seats again; its swarm does not take it back")


@app.command()
def usage(context: typer.Context, *, feature: Feature = "") -> None:
    """Print who held a seat in the last week, as CSV."""
    query = f"?feature={feature}" if feature else ""
    print(session_of(context).ask("GET", f"/usage/checkouts.csv{query}").decode(), end="")


@app.command()
def denials(context: typer.Context, *, as_json: JsonOut = False) -> None:
    """List who was turned away in the last week."""
    found = session_of(context).get("/usage/denials")
    rows = [[it["last_at"][:19], it["feature"], it["node"], it["count"], it["code"]] for it in found]
    show(found, as_json, ["at", "feature", "node", "times", "why"], rows)


@app.command()
def audit(
    context: typer.Context,
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Check the chain of hashes instead.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="How many entries.")] = 50,
    as_json: JsonOut = False,
) -> None:
    """List who did what, newest first."""
    session = session_of(context)
    if verify:
        found = session.get("/audit/verify")
        if found["broken_at"] is not None:
            print(f"The log is BROKEN at entry {found['broken_at']} of {found['entries']}")
            raise typer.Exit(1)
        print(f"{found['entries']} entries, each follows from the one before; the last hash is {found['head']}")
        return
    found = session.get("/audit", limit=limit)
    rows = [
        [it["seq"], it["at"][:19], it["actor"], it["action"], it["target"], json.dumps(it["details"])] for it in found
    ]
    show(found, as_json, ["entry", "at", "who", "did", "to", "details"], rows)


@app.command()
def settings(
    context: typer.Context,
    changes: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...")] = None,
) -> None:
    """Show the settings of the server, or change some."""
    session = session_of(context)
    asked = dict(_setting(change) for change in changes or [])
    found = session.send("PATCH", "/settings", asked) if asked else session.get("/settings")
    print("\n".join(f"{name:<22} {value}" for name, value in found.items()))


@app.command()
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; it must not exist.")],
) -> None:
    """Write a backup of everything. It holds password hashes: keep it safe."""
    from services.cli.license_session import write_new

    content = session_of(context).ask("GET", "/backup")
    write_new(file, content, private=True)
    print(f"Backup of {len(content)} bytes: {file}")


@app.command()
def restore(context: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE")]) -> None:
    """Put everything back as a backup has it. Everybody is signed out."""
    from services.cli.license_session import read_file

    session_of(context).ask("POST", "/backup/restore", read_file(file), "application/octet-stream")
    print(f"Restored {file}")


def _setting(change: str) -> tuple[str, Any]:
    name, _, value = change.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _grants(grants: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{it['feature']}={it['capacity']}" + (f" until {it['valid_until'][:10]}" if it["valid_until"] else "")
        for it in grants
    )


def _encoded(file: Path) -> str:
    import base64

    from services.cli.license_session import read_file

    return base64.b64encode(read_file(file)).decode()
