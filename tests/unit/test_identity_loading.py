"""A node judges its own identity at start: one named error for each thing that can be wrong with it."""

import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from services.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    CertificateUnreadable,
    CertificateUntrusted,
    FileExists,
    IdentityError,
    KeyMismatch,
    NoIdentity,
    SettingsError,
    WrongRole,
)
from services.identity.authority import Authority
from services.identity.certificates import read_key
from services.identity.identity import Identity, identity_of_certificate
from services.identity.spiffe import SpiffeId

YESTERDAY = datetime.now(UTC) - timedelta(days=1)
TOMORROW = datetime.now(UTC) + timedelta(days=1)


def test_identity_has_role_name_and_fingerprint_of_its_certificate(pki):
    files = pki.issue("sl", "sl-7")
    identity = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert, expected_role="sl")
    der = x509.load_pem_x509_certificate(files.cert.read_bytes()).public_bytes(Encoding.DER)
    peer = identity_of_certificate(der)
    assert (identity.role, identity.name) == (peer.role, peer.name) == ("sl", "sl-7")
    assert identity.fingerprint == peer.fingerprint
    assert len(bytes.fromhex(identity.fingerprint)) == 32


@pytest.mark.parametrize(
    ("missing", "option"), [("cert", "SWARM_ID_CERT"), ("key", "SWARM_ID_KEY"), ("cacert", "SWARM_ID_CACERT")]
)
def test_missing_file_names_are_told_by_option(pki, missing, option):
    files = pki.issue("sl", "sl-1")
    given = {"cert": files.cert, "key": files.key, "cacert": files.cacert} | {missing: None}
    with pytest.raises(NoIdentity, match=f"No identity specified.*{option}"):
        Identity.load(**given)


@pytest.mark.parametrize("which", ["cert", "key", "cacert"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_unreadable_file_is_named(pki, tmp_path, which, content):
    files = pki.issue("sl", "sl-1")
    broken = tmp_path / "broken.pem"
    if content is not None:
        broken.write_bytes(content)
    with pytest.raises(CertificateUnreadable, match=r"broken\.pem cannot be read as a"):
        Identity.load(**{"cert": files.cert, "key": files.key, "cacert": files.cacert} | {which: broken})


def test_encrypted_key_is_used_with_its_passphrase_file_and_never_stored_plain(pki, tmp_path):
    files = pki.issue("sl", "sl-1", out_dir=tmp_path / "node")
    plain = files.key.read_bytes()
    encryption = BestAvailableEncryption("Über Nacht".encode())
    key = load_pem_private_key(plain, None)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("Über Nacht\n", encoding="utf-8")
    wrong.write_text("another\n")
    given = {"cert": files.cert, "key": files.key, "cacert": files.cacert}

    identity = Identity.load(**given, key_passphrase_file=right)

    assert read_key(identity.credentials.key).private_numbers() == key.private_numbers()
    identity.server_context()
    identity.grpc_server_credentials()
    assert identity.key == files.key
    assert plain not in [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(CertificateUnreadable, match="does not open it"):
        Identity.load(**given, key_passphrase_file=wrong)
    (tmp_path / "empty").touch()
    with pytest.raises(CertificateUnreadable, match="its first line is empty"):
        Identity.load(**given, key_passphrase_file=tmp_path / "empty")


def test_key_with_a_passphrase_is_refused_and_nobody_is_asked(pki, tmp_path):
    files = pki.issue("sl", "sl-1")
    locked = tmp_path / "locked.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(CertificateUnreadable, match="passphrase"):
        Identity.load(cert=files.cert, key=locked, cacert=files.cacert)


def test_expired_certificate_is_refused(pki):
    files = pki.issue("sl", "sl-old", not_before=YESTERDAY - timedelta(days=1), not_after=YESTERDAY)
    with pytest.raises(CertificateExpired, match="sl-old expired at 20"):
        Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)


def test_certificate_of_tomorrow_is_refused(pki):
    files = pki.issue("sl", "sl-new", not_before=TOMORROW)
    with pytest.raises(CertificateNotYetValid, match="sl-new is valid only from 20"):
        Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)


def test_certificate_of_another_ca_is_refused(pki, foreign_pki):
    files = foreign_pki.issue("sl", "sl-1")
    with pytest.raises(CertificateUntrusted, match=r"does not end in a CA of .*ca-cert\.pem"):
        Identity.load(cert=files.cert, key=files.key, cacert=pki.cacert)


def test_key_of_another_certificate_is_refused(pki):
    files, others = pki.issue("sl", "sl-1"), pki.issue("sl", "sl-2")
    with pytest.raises(KeyMismatch):
        Identity.load(cert=files.cert, key=others.key, cacert=files.cacert)


def test_role_that_does_not_fit_the_command_is_refused(pki):
    files = pki.issue("sl", "sl-1")
    with pytest.raises(WrongRole, match=r"sl-1 has the role sl, but .* needs sn"):
        Identity.load(cert=files.cert, key=files.key, cacert=files.cacert, expected_role="sn")


def test_certificate_without_a_spiffe_uri_is_no_identity(pki):
    ca = pki.authority
    with pytest.raises(IdentityError, match="spiffe://"):
        Identity.load(cert=ca.cacert, key=ca.directory / "ca-key.pem", cacert=ca.cacert)
    with pytest.raises(IdentityError):
        identity_of_certificate(b"no certificate at all")


def test_bundle_of_two_cas_accepts_both(pki, foreign_pki, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(pki.cacert.read_bytes() + foreign_pki.cacert.read_bytes())
    for files in (pki.issue("sl", "sl-1"), foreign_pki.issue("sl", "sl-2")):
        assert Identity.load(cert=files.cert, key=files.key, cacert=bundle).role == "sl"


def test_directory_of_cas_needs_no_hashed_names_and_ignores_other_files(pki, foreign_pki, tmp_path):
    (tmp_path / "hospital a").write_bytes(pki.cacert.read_bytes())
    (tmp_path / "b.crt").write_bytes(foreign_pki.cacert.read_bytes())
    (tmp_path / "README").write_text("the CAs of our partners")
    for files in (pki.issue("sl", "sl-1"), foreign_pki.issue("sl", "sl-2")):
        assert Identity.load(cert=files.cert, key=files.key, capath=tmp_path).role == "sl"


@pytest.mark.parametrize("exists", [True, False])
def test_directory_without_a_ca_is_refused(pki, tmp_path, exists):
    files = pki.issue("sl", "sl-1")
    directory = tmp_path / "cas"
    if exists:
        directory.mkdir()
    with pytest.raises(CertificateUnreadable, match="cas cannot be read"):
        Identity.load(cert=files.cert, key=files.key, capath=directory)


def test_ca_that_has_expired_is_named(pki, tmp_path):
    files = pki.issue("sl", "sl-1")
    ca = pki.authority
    past = datetime.now(UTC) - timedelta(days=2)
    old = _reissued(ca, past - timedelta(days=1), past)
    (tmp_path / "old-ca.pem").write_bytes(old)
    with pytest.raises(CertificateExpired, match=r"old-ca\.pem of Test hospital swarm CA expired"):
        Identity.load(cert=files.cert, key=files.key, cacert=tmp_path / "old-ca.pem")


def test_keys_are_for_their_owner_only_and_certificates_for_all(pki):
    files = pki.issue("sl", "sl-1")
    for key in (files.key, pki.authority.directory / "ca-key.pem"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.cert.stat().st_mode) == 0o644


def test_existing_key_is_overwritten_only_by_force(pki, tmp_path):
    first = pki.issue("sl", "sl-1", out_dir=tmp_path).key.read_bytes()
    with pytest.raises(FileExists, match=r"sl-sl-1-key\.pem exists already"):
        pki.issue("sl", "sl-1", out_dir=tmp_path)
    assert (tmp_path / "sl-sl-1-key.pem").read_bytes() == first
    assert pki.issue("sl", "sl-1", out_dir=tmp_path, force=True).key.read_bytes() != first
    with pytest.raises(FileExists):
        Authority.create(pki.authority.directory, "Test hospital")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sl-sl-1-cert.pem", "sl-sl-1-key.pem"]


@pytest.mark.parametrize(
    ("role", "name", "host"),
    [("boss", "sl-1", "a"), ("sl", "sl/1", "a"), ("sl", "", "a"), ("sl", "sl-1", "a b"), ("sl", "sl-1", "")],
)
def test_values_that_no_certificate_can_hold_are_refused(pki, tmp_path, role, name, host):
    with pytest.raises(SettingsError):
        pki.issue(role, name, [host], out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_certificate_does_not_outlive_its_ca(pki):
    files = pki.issue("sl", "sl-1", not_after=datetime.now(UTC) + timedelta(days=100_000))
    certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
    assert certificate.not_valid_after_utc == pki.authority.certificate.not_valid_after_utc


def test_opened_authority_issues_in_the_trust_domain_it_was_made_with(tmp_path):
    Authority.create(tmp_path, "Hospital", "hospital.example")
    files = Authority.open(tmp_path).issue("sn", "sn-1", ["localhost"], tmp_path)
    names = x509.load_pem_x509_certificate(files.cert.read_bytes()).extensions
    uris = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert uris.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://hospital.example/sn/sn-1"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://swarm.local/sl/sl-1",
        "spiffe://swarm.local/sl",
        "spiffe://swarm.local/sl/sl-1/x",
        "spiffe://swarm.local/root/sl-1",
        "spiffe:///sl/sl-1",
        "spiffe://swarm.local/sl/..%2f",
        "spiffe://swarm.local/sl/sl-1\n",
        "spiffe://swarm.local/SL/sl-1",
    ],
)
def test_uris_of_another_form_are_refused(uri):
    with pytest.raises(ValueError, match="not"):
        SpiffeId.parse(uri)


def test_loading_an_identity_does_not_load_grpc():
    code = "import sys, services.identity.identity; sys.exit('grpc' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)


def _reissued(ca: Authority, begin: datetime, end: datetime) -> bytes:
    """The CA's certificate again, same key and name, with other dates."""
    from cryptography.hazmat.primitives import hashes

    builder = x509.CertificateBuilder().subject_name(ca.certificate.subject).issuer_name(ca.certificate.issuer)
    builder = builder.public_key(ca.key.public_key()).serial_number(1).not_valid_before(begin).not_valid_after(end)
    for extension in ca.certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.PEM)
