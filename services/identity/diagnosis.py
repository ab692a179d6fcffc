"""Explains why a TLS connection to a peer fails, when a library only says 'handshake failed'."""

import socket
import ssl
from dataclasses import dataclass

from cryptography import x509

from services.errors import CertificateExpired, IdentityError
from services.identity.certificates import read_chain
from services.identity.identity import Identity
from services.identity.peers import AnotherPeer, Expected
from services.identity.verification import (
    X509_EXPIRED,
    X509_HOSTNAME_MISMATCH,
    X509_NOT_YET_VALID,
    X509_UNTRUSTED,
    check_dates,
)

DIAGNOSIS_TIMEOUT_S = 3.0
# After this silence, the peer has accepted us: an HTTPS server waits for our request, and we send none. In HTTP/2, the
# server speaks first.
SILENCE_S = 1.0

NOTHING_WRONG = "the TLS connection is in order, but it did not answer in time"

_EXPIRED_ALERT = "CERTIFICATE_EXPIRED"

# OpenSSL's names of the alerts with which a peer ends the handshake.
_REFUSALS = {
    "UNKNOWN_CA": "it does not trust the CA that issued our certificate",
    "BAD_CERTIFICATE": "it refused our certificate as bad",
    _EXPIRED_ALERT: "it refused our certificate as expired; compare the clocks",
    "CERTIFICATE_UNKNOWN": "it refused our certificate",
    "CERTIFICATE_REVOKED": "it refused our certificate as revoked",
    "CERTIFICATE_REQUIRED": "it wants a certificate and got none",
    "ACCESS_DENIED": "it refused our certificate",
    "DECRYPT_ERROR": "it does not trust the CA that issued our certificate",
    "PROTOCOL_VERSION": "it does not speak TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "RECORD_LAYER_FAILURE": "it does not speak TLS",
}

# Says nothing about certificates: a server that judges ours has shown its own before. A port that Docker publishes is
# open even if the node behind it is not running.
_HUNG_UP = (
    "it hung up during the TLS handshake: it is starting or ending behind a port that is open, or knows no TLS 1.3"
)


@dataclass(frozen=True)
class Diagnosis:
    """``reached``: something answers there. ``accepted``: both sides accepted each other's certificate. ``expired``:
    one of them was refused because it has expired.
    """

    reached: bool
    accepted: bool
    problem: str
    expired: bool = False


def diagnose(
    host: str, port: int, identity: Identity, timeout_s: float = DIAGNOSIS_TIMEOUT_S, expected: Expected | None = None
) -> Diagnosis:
    """Connects once as gRPC and HTTPS do, with the same identity. Blocks for at most about twice ``timeout_s``."""
    try:
        raw = socket.create_connection((host, port), timeout=timeout_s)
    except (OSError, UnicodeError) as error:
        return Diagnosis(reached=False, accepted=False, problem=_connection_problem(host, error, timeout_s))
    context = identity.client_context(expected)
    context.set_alpn_protocols(["h2", "http/1.1"])  # a gRPC server hangs up on clients that do not offer h2
    with raw:
        try:
            raw.getpeername()  # raises if the connection was reset already; wrap_socket would lose the socket then
            with context.wrap_socket(raw, server_hostname=host) as tls:
                speaks = tls.selected_alpn_protocol() == "h2"
                tls.settimeout(timeout_s if speaks else min(SILENCE_S, timeout_s))
                return _after_handshake(tls, identity)
        except AnotherPeer as error:
            return _refused(str(error))
        except ssl.SSLCertVerificationError as error:
            problem = _verification_problem(host, port, identity, error)
            return _refused(problem, expired=error.verify_code == X509_EXPIRED)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):  # SSLZeroReturnError: a proper TLS close
            return Diagnosis(reached=False, accepted=False, problem=_HUNG_UP)
        except ssl.SSLError as error:
            return _refused(_alert_problem(error), expired=_EXPIRED_ALERT in (error.reason or ""))
        except TimeoutError:  # the peer hangs: this says nothing about certificates
            problem = f"it did not answer the TLS handshake within {timeout_s:g} s"
            return Diagnosis(reached=False, accepted=False, problem=problem)
        except OSError:
            return Diagnosis(reached=False, accepted=False, problem=_HUNG_UP)


def _refused(problem: str, *, expired: bool = False) -> Diagnosis:
    return Diagnosis(reached=True, accepted=False, problem=problem, expired=expired)


def _after_handshake(tls: ssl.SSLSocket, identity: Identity) -> Diagnosis:
    """In TLS 1.3, the client's handshake ends before the server has judged its certificate: the verdict comes later.

    gRPC and asyncio servers give none and just hang up; then the cause is looked for on this side.
    """
    in_order = Diagnosis(reached=True, accepted=True, problem=NOTHING_WRONG)
    try:
        if tls.recv(1):
            return in_order
    except TimeoutError:
        return in_order
    except ssl.SSLError as error:
        if not isinstance(error, ssl.SSLEOFError):
            raise
    except ConnectionError:
        pass  # hung up without a TLS close
    try:
        check_dates(identity.cert, read_chain(identity.credentials.cert))  # credentials are a copy of the file
    except IdentityError as error:
        return _refused(f"it hung up after the TLS handshake. {error}", expired=isinstance(error, CertificateExpired))
    return _refused(
        "it hung up when it had seen our certificate: most likely it does not trust the CA that issued it, "
        "or its clock puts it outside its dates"
    )


def _connection_problem(host: str, error: OSError | UnicodeError, timeout_s: float) -> str:
    if isinstance(error, UnicodeError):
        return f"no host can have the name {host}"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused: nothing listens on that port"
    if isinstance(error, TimeoutError):
        return f"no connection within {timeout_s:g} s"
    if isinstance(error, socket.gaierror):
        return f"the name {host} is not known here"
    return (error.strerror or str(error)).lower()


def _verification_problem(host: str, port: int, identity: Identity, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in X509_UNTRUSTED:
        return f"its certificate was not issued by a CA of {identity.trust.source}"
    if error.verify_code == X509_EXPIRED:
        return "its certificate has expired (or this machine's clock is ahead)"
    if error.verify_code == X509_NOT_YET_VALID:
        return "its certificate is not yet valid (or this machine's clock is behind)"
    if error.verify_code in X509_HOSTNAME_MISMATCH:
        return f"its certificate is not for {host}{_names_at(host, port, identity)}"
    return f"its certificate does not stand up: {error.verify_message}"


def _names_at(host: str, port: int, identity: Identity) -> str:
    """The host names in the peer's verified certificate; only for the message."""
    context = identity.client_context()
    context.check_hostname = False
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with (
            socket.create_connection((host, port), timeout=DIAGNOSIS_TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return ""
    hosts = [
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    ]
    return f", but for {', '.join(hosts) or 'no host name'}"


def _alert_problem(error: ssl.SSLError) -> str:
    reason = error.reason or type(error).__name__
    for alert, words in _REFUSALS.items():
        if alert in reason:
            return words
    return f"the TLS handshake failed: {reason.lower().replace('_', ' ')}"
