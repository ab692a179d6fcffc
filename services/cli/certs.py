"""`swarm certs`: a development CA, certificates of nodes, and what is in a certificate."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from services.errors import SettingsError
from services.identity.authority import Authority
from services.identity.certificates import key_fingerprint, read_chain
from services.identity.files import CERT_MODE, make_directory, write_whole
from services.identity.peers import read_trust
from services.identity.requests import read_request
from services.identity.rotation import request_rotation
from services.identity.rotation import rotate as rotated
from services.identity.spiffe import ROLES
from services.provision.asking import make_requests

app = typer.Typer(
    name="certs",
    help="Make a development CA and certificates for nodes. Real swarms bring the CAs of their organizations.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Directory = Annotated[Path, typer.Option("--dir", help="Directory of the CA.")]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files, for good.")]


@app.command()
def ca(
    directory: Directory,
    organization: Annotated[
        str,
        typer.Option("--organization", "--organisation", help="Whose CA this is."),  # scripts have either spelling
    ],
    trust_domain: Annotated[
        str, typer.Option("--trust-domain", help="First part of the nodes' SPIFFE URIs.")
    ] = "swarm.local",
    *,
    force: Force = False,
) -> None:
    """Make a CA: ca-cert.pem, to be given to every node, and ca-key.pem, to be kept."""
    authority = Authority.create(directory, organization, trust_domain, force=force)
    print(f"CA of {organization} for spiffe://{trust_domain}: {authority.cacert}")


@app.command()
def issue(
    *,
    directory: Directory,
    role: Annotated[str, typer.Option("--role", help=f"One of {', '.join(ROLES)}.")],
    name: Annotated[str, typer.Option("--name", help="Name of the node, such as sl-1.")],
    host: Annotated[list[str], typer.Option("--host", help="Host name or address of the node; may be repeated.")],
    days: Annotated[int, typer.Option("--days", help="How long it is valid.")] = 365,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write it. [default: --dir]")] = None,
    force: Force = False,
) -> None:
    """Issue a certificate for a node: ROLE-NAME-cert.pem and ROLE-NAME-key.pem."""
    not_after = _not_after(days, "certs issue")
    files = Authority.open(directory).issue(role, name, host, out or directory, not_after=not_after, force=force)
    print(f"--cert {files.cert} --key {files.key} --cacert {files.cacert}")


@app.command()
def request(
    file: Annotated[Path, typer.Argument(metavar="REQUESTS", help="certs/requests.yaml of a start-up kit.")],
) -> None:
    """Make a key and a certificate request for each node of a kit that has none; run it where the nodes run."""
    made = make_requests(file)
    for path in made.new:
        print(path)
    if not made.new + made.waiting:
        print("Every node has its certificate or key.")
        return
    if made.waiting:
        print(f"Still without a certificate: {', '.join(str(path) for path in made.waiting)}")
    # Not all of the directory: those of before have been signed.
    print(f"Have your CA sign them: swarm certs sign --dir YOUR-CA {' '.join(map(str, made.new + made.waiting))}")


@app.command()
def sign(
    *,
    directory: Directory,
    requests: Annotated[list[Path], typer.Argument(metavar="REQUEST...", help="Certificate requests, NAME.csr.")],
    days: Annotated[int, typer.Option("--days", help="How long the certificates are valid.")] = 365,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write them. [default: next to each]")] = None,
    force: Force = False,
) -> None:
    """Answer certificate requests: NAME-cert.pem for each NAME.csr. What is signed is shown; all or nothing is."""
    authority = Authority.open(directory)
    not_after = _not_after(days, "certs sign")
    asked = [read_request(path) for path in requests]
    signed = [authority.sign(one, not_after) for one in asked]
    for one, certificate in zip(asked, signed, strict=True):
        target = (out or one.path.parent) / f"{one.path.stem}-cert.pem"
        make_directory(target.parent)
        write_whole(target, certificate.public_bytes(Encoding.PEM), CERT_MODE, force=force)
        print(f"{target}: {one.spiffe_id} for {', '.join(one.hosts)}")


@app.command()
def renew(
    *,
    directory: Directory,
    certificates: Annotated[list[Path], typer.Argument(metavar="CERT...", help="Certificates that this CA issued.")],
    days: Annotated[int, typer.Option("--days", help="How long the new ones are valid.")] = 365,
) -> None:
    """Put a new certificate in the place of each, for the same key and names: its node goes on under its name."""
    authority = Authority.open(directory)
    not_after = _not_after(days, "certs renew")
    renewed = [authority.renew(path, not_after) for path in certificates]
    for path, certificate in zip(certificates, renewed, strict=True):
        write_whole(path, certificate.public_bytes(Encoding.PEM), CERT_MODE, force=True)
        print(f"{path}: valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")


@app.command()
def rotate(
    *,
    cert: Annotated[Path, typer.Option("--cert", help="Certificate of the node.")],
    key: Annotated[Path, typer.Option("--key", help="Its key.")],
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir", help="Directory of its CA, if it is on this machine; the CA then issues the certificate."
        ),
    ] = None,
    days: Annotated[int, typer.Option("--days", help="How long the certificate is valid.")] = 365,
    passphrase: Annotated[
        Path | None,
        typer.Option(
            "--key-passphrase-file",
            envvar="SWARM_ID_KEY_PASSPHRASE_FILE",
            help="Passphrase of the key, if it is encrypted; the new key is encrypted with it too.",
        ),
    ] = None,
) -> None:
    """Give a node a new key, which the old one hands over to: the node goes on under its name."""
    if directory is not None:
        certificate = rotated(cert, key, Authority.open(directory), _not_after(days, "certs rotate"), passphrase)
        print(f"{cert}: for a new key, valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        return
    new_key, request = request_rotation(cert, key, passphrase)
    print(
        f"Have your CA sign {request}. Then put its certificate in the place of {cert}, and {new_key} in that of {key}."
    )


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A certificate, or several in one file.")],
    trust: Annotated[Path | None, typer.Option("--trust", help="Also say whether this trust file accepts it.")] = None,
) -> None:
    """Show what certificates say: subject, names, dates, issuer, fingerprints of certificate and key."""
    chain = read_chain(file)
    print("\n\n".join(_described(certificate) for certificate in chain))
    if trust is not None:
        own, *others = (certificate.public_bytes(Encoding.DER) for certificate in chain)
        peer = read_trust(None, None, trust).peer(own, tuple(others))
        print(f"\nThe trust file accepts it from {peer.organization}: {peer.role} {peer.name}.")


def _not_after(days: int, command: str) -> datetime:
    if not 1 <= days <= 36_500:
        raise SettingsError(name="--days", problem=f"it is {days}, and must be 1 to 36500", command=command)
    return datetime.now(UTC) + timedelta(days=days)


def _described(certificate: x509.Certificate) -> str:
    now = datetime.now(UTC)
    state = "valid"
    if now > certificate.not_valid_after_utc:
        state = "EXPIRED"
    elif now < certificate.not_valid_before_utc:
        state = "NOT YET VALID"
    facts = {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "names": ", ".join(_names(certificate)) or "none",
        "from": f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC",
        "until": f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC ({state})",
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "public key": _key(certificate),
    }
    return "\n".join(f"{fact:<12} {value}" for fact, value in facts.items())


def _key(certificate: x509.Certificate) -> str:
    """What others know the node by."""
    try:
        return key_fingerprint(certificate)
    except (UnsupportedAlgorithm, ValueError):
        return "of a kind that is not known here"


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]
