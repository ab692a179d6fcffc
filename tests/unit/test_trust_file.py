"""A trust file says what it means, or in one sentence where it does not."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from services.errors import SettingsError, TrustFileUnusable
from services.identity.authority import CA_LIFETIME, Authority
from services.identity.trust_file import read_trust_file
from services.sl.settings import SLSettings


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trust")
    authority = Authority.create(made / "a", "A", "a.example")
    authority.issue("sl", "a-1", ["localhost"], made / "a")
    (made / "empty.pem").write_text("")
    (made / "large.pem").write_bytes(bytes(1024 * 1024 + 1))
    (made / "ed25519.pem").write_bytes(of_ed25519().public_bytes(Encoding.PEM))
    return made


def of_ed25519() -> x509.Certificate:
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )


A = {"name": "A", "trust_domain": "a.example", "cas": ["a/ca-cert.pem"], "issues": {"sl": ["a-*", "guest"]}}


def read(directory: Path, *organizations: Any) -> Any:
    path = directory / "trust.yaml"
    path.write_text(yaml.safe_dump({"organizations": list(organizations)}, sort_keys=False))
    return read_trust_file(path)


def test_names_are_given_by_role_and_pattern(directory: Path) -> None:
    (a,) = read(directory, A)
    given = [("sl", "a-1"), ("sl", "a-"), ("sl", "guest")]
    assert all(a.may_name(*who) for who in given)
    assert not any(a.may_name(*who) for who in [("sl", "A-1"), ("sl", "guest2"), ("sl", "b-a-1"), ("sn", "a-1")])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": ""}, r"line 2: organizations\[0\].name: '' stands here"),
        ({"name": "a/b"}, r"organizations\[0\].name: 'a/b' stands here"),
        ({"trust_domain": "A.example"}, "'A.example' is not a trust domain"),
        ({"trust_domain": "b.example"}, "a/ca-cert.pem is for the trust domain a.example, not for b.example"),
        ({"cas": []}, r"organizations\[0\].cas: a list stands here, but at least 1 entry is needed"),
        ({"cas": ["a/ca-cert.pem"] * 17}, "at most 16 entries are allowed"),
        ({"cas": ["none.pem"]}, "none.pem cannot be read: no such file"),
        ({"cas": ["empty.pem"]}, "empty.pem holds no CA certificate: there is no PEM certificate in it"),
        ({"cas": ["large.pem"]}, "large.pem has more than 1,048,576 bytes"),
        ({"cas": ["a/sl-a-1-cert.pem"]}, "is the certificate of a node, not of a CA"),
        ({"cas": ["ed25519.pem"]}, "the key of ed25519.pem is not of RSA or of a curve of NIST"),
        ({"issues": {}}, r"organizations\[0\].issues: a mapping stands here, but"),
        ({"issues": {"boss": ["x"]}}, r"'boss' stands here, but it must be 'sn', 'sl', 'swop'"),
        ({"issues": {"sl": []}}, r"organizations\[0\].issues.sl: a list stands here, but at least 1 entry is needed"),
        ({"issues": {"sl": ["a b"]}}, r"organizations\[0\].issues.sl\[0\]: 'a b' stands here, but a name is needed"),
        ({"issues": {"sl": "a-*"}}, "'a-\\*' stands here, but a list is needed"),
        ({"cas": "a/ca-cert.pem"}, "stands here, but a list is needed"),
        ({"role": "sl"}, "this key is not known; allowed are name, trust_domain, cas, issues, crls"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(directory: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(TrustFileUnusable, match=said) as refused:
        read(directory, A | changed)
    assert str(refused.value).startswith(str(directory / "trust.yaml"))


def test_each_name_stands_once(directory: Path) -> None:
    with pytest.raises(TrustFileUnusable, match=r"organizations\[1\].name: 'A' is the name of another one \(line 2\)"):
        read(directory, A, {**A, "cas": ["a/ca-cert.pem"], "issues": {"sl": ["b"]}})


def test_a_file_that_is_not_there_or_too_large_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrustFileUnusable, match="no such file"):
        read_trust_file(tmp_path / "none.yaml")
    (tmp_path / "large.yaml").write_text(" " * (1024 * 1024 + 1))
    with pytest.raises(TrustFileUnusable, match="more than 1,048,576 bytes"):
        read_trust_file(tmp_path / "large.yaml")


@pytest.mark.parametrize("other", [{"cacert": "c"}, {"capath": "c"}, {"socket_path": "c"}])
def test_it_stands_alone(other: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="trust is not usable"):
        SLSettings.load("sl", {"host_ip": "h", "sn_ip": "h", "trust": "t", **other})
