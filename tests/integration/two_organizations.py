"""Two organizations, each with a CA, the trust file of a node that knows both, and certificates that it
does not allow.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from revoking import revocation_list

from services.identity.authority import Authority, IssuedFiles
from services.identity.certificates import read_chain
from services.identity.identity import Identity
from services.identity.peers import read_trust

HOSTS = ["localhost", "127.0.0.1"]

# Certificates that A's CA must not issue: their trust domain, role and name, and the words of the refusal.
BEYOND = {
    "trust domain of B": (
        ("b.example", "sl", "b-1"),
        "of sl b-1 is not accepted from hospital-b: none of its own CAs has issued it",
    ),
    "trust domain of nobody": (
        ("c.example", "sl", "a-1"),
        "of sl a-1 is not accepted from c.example: no organization has this trust domain",
    ),
    "role": (("a.example", "admin", "a-1"), "of admin a-1 is not accepted from hospital-a: it may not issue the role"),
    "name": (
        ("a.example", "sl", "b-1"),
        "of sl b-1 is not accepted from hospital-a: it may not give this name; of the role sl it may give a-*",
    ),
}


@dataclass(frozen=True)
class TwoOrganizations:
    """A may issue for SLs named a-*; B for all roles, under names b-*."""

    directory: Path
    a: Authority
    b: Authority

    @classmethod
    def create(cls, directory: Path) -> "TwoOrganizations":
        a, b = (Authority.create(directory / it, f"Hospital {it}", f"{it}.example") for it in ("a", "b"))
        made = cls(directory, a, b)
        made.write()
        return made

    @property
    def trust(self) -> Path:
        return self.directory / "trust.yaml"

    def write(self, **of_a: Any) -> None:
        roles = ("sn", "sl", "swop", "swci", "admin", "license")
        organizations = [
            {"name": "hospital-a", "trust_domain": "a.example", "cas": ["a/ca-cert.pem"], "issues": {"sl": ["a-*"]}}
            | of_a,
            {
                "name": "hospital-b",
                "trust_domain": "b.example",
                "cas": ["b/ca-cert.pem"],
                "issues": {role: ["b-*"] for role in roles},
            },
        ]
        self.trust.write_text(yaml.safe_dump({"organizations": organizations}))

    def revoke(self, *revoked: IssuedFiles) -> None:
        """Replaces A's revocation list atomically, as programs that renew it do."""
        new = self.directory / "new.crl"
        new.write_bytes(revocation_list(self.a, *(read_chain(files.cert)[0] for files in revoked)))
        new.replace(self.crl)

    @property
    def crl(self) -> Path:
        return self.directory / "a.crl"

    def files(self, authority: Authority, role: str, name: str, **validity: Any) -> IssuedFiles:
        out = self.directory / f"{authority.directory.name}-{authority.trust_domain}-{role}-{name}"
        return authority.issue(role, name, HOSTS, out, force=True, **validity)

    def identity(self, role: str, name: str, **validity: Any) -> Identity:
        """The identity of an honest node with the trust file."""
        files = self.files(self.a if name.startswith("a") else self.b, role, name, **validity)
        return Identity.load(cert=files.cert, key=files.key, trust=self.trust)

    def beyond(self, domain: str, role: str, name: str) -> Identity:
        """An identity with any certificate of A's CA. It trusts both CAs and checks nobody, not even itself."""
        files = self.files(replace(self.a, trust_domain=domain), role, name)
        bundle = replace(read_trust(None, None, self.trust), organizations=None)
        return Identity(role=role, name=name, fingerprint="", cert=files.cert, key=files.key, trust=bundle)


def below_an_intermediate(two: TwoOrganizations, role: str, name: str) -> IssuedFiles:
    """Files from an intermediate CA; only its root, root.pem, is known. The chain is in the certificate's file."""
    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    top = _ca("Root of A", "Root of A", root.public_key(), root)
    middle = _ca("Department of A", "Root of A", key.public_key(), root)
    (two.directory / "root.pem").write_bytes(top.public_bytes(Encoding.PEM))
    files = two.files(Authority(two.directory / "department", "a.example", middle, key), role, name)
    files.cert.write_bytes(files.cert.read_bytes() + middle.public_bytes(Encoding.PEM))
    return files


def _ca(
    name: str, issuer: str, public: ec.EllipticCurvePublicKey, signing: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, it)]) for it in (name, issuer)]
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(public)
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
    made = made.not_valid_after(now + timedelta(days=1))
    return made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
        signing, hashes.SHA256()
    )
