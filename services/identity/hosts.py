"""The hosts that a certificate is for: at any other host, a client refuses the node's certificate."""

from cryptography import x509

from services.identity.certificates import read_chain
from services.identity.identity import Identity
from services.runtime import logs

_log = logs.get("identity")


def hosts_in(certificate: x509.Certificate) -> list[str]:
    """Host names and addresses in a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """Whether a client that connects to ``host`` accepts the certificate."""
    wanted = host.strip("[]").lower()
    return any(_means(name.lower(), wanted) for name in hosts_in(certificate))


def warn_unless_for(identity: Identity, *hosts: str) -> None:
    """Warns of each host at which this node is reached but that its certificate does not name."""
    certificate = read_chain(identity.credentials.cert)[0]
    for host in dict.fromkeys(hosts):
        if not is_for(certificate, host):
            known = ", ".join(hosts_in(certificate)) or "no host"
            _log.warning(
                "others will not reach this node: its certificate is not for the address that it announces",
                announced=host,
                certificate_is_for=known,
            )


def _means(name: str, host: str) -> bool:
    """``*.example.org`` matches exactly one more label."""
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return name == host
