"""A certificate, key or CA is not usable, or a peer's is not acceptable: exit code 10."""

from services.errors.base import Fact, SwarmError


class IdentityError(SwarmError):
    code = "identity"
    grpc_status = "UNAUTHENTICATED"
    exit_code = 10
    problem = Fact(str, "problem")
    message = "The identity {path} is not usable: {problem}"
    remedy = "Give --cert, --key and --cacert (or --capath, or --trust); `swarm certs` makes them for a trial."


class NoIdentity(IdentityError):
    code = "no-identity"
    message = "No identity specified: {missing} is not given"


class WorkloadApiFailed(IdentityError):
    code = "workload-api-failed"
    message = "The SPIFFE Workload API at {path} gave no identity: {problem}"
    remedy = (
        "Give --socket-path the socket of a running SPIRE agent, and check that it has an entry for this process with "
        "the SPIFFE ID spiffe://DOMAIN/ROLE/NAME."
    )


class CertificateUnreadable(IdentityError):
    code = "certificate-unreadable"
    message = "{path} cannot be read as a {kind}: {problem}"


class CertificateExpired(IdentityError):
    code = "certificate-expired"
    message = "The certificate {path} of {name} expired at {when}"
    remedy = "Issue a new one with `swarm certs issue`, and check this machine's clock."


class CertificateNotYetValid(IdentityError):
    code = "certificate-not-yet-valid"
    message = "The certificate {path} of {name} is valid only from {when}"
    remedy = "Check this machine's clock, or wait until then."


class CertificateUntrusted(IdentityError):
    code = "certificate-untrusted"
    message = "The certificate {path} of {name} does not end in a CA of {trust}"
    remedy = "Add the CA that issued it to --cacert, --capath or --trust, on this node and its peers."


class KeyMismatch(IdentityError):
    code = "key-mismatch"
    message = "The key {key} does not belong to the certificate {path}"
    remedy = "Give the key that belongs to this certificate."


class WrongRole(IdentityError):
    code = "wrong-role"
    grpc_status = "PERMISSION_DENIED"
    message = "{name} has the role {role}, but {action} needs {needed}"
    remedy = "Use a certificate with the role that is needed (`swarm certs issue --role`)."


class PeerNotAccepted(IdentityError):
    code = "peer-not-accepted"
    message = "{peer} at {address} was not accepted: {problem}"
    remedy = "Check that both sides trust each other's CA, that neither certificate is expired, and the host name."


class NotAcceptedAsExpired(PeerNotAccepted):
    """The certificate of one side has expired; a running node may get a new one in a moment."""

    code = "not-accepted-as-expired"
    remedy = (
        "Put a new certificate in the place of the one that has expired: a running node takes it over. "
        "And compare the clocks."
    )


class NotOfOrganization(IdentityError):
    """A certificate that names an organization which, according to the trust file, may not have such a node."""

    code = "not-of-organization"
    grpc_status = "PERMISSION_DENIED"
    message = "The certificate of {role} {name} is not accepted from {organization}: {problem}"
    remedy = (
        "Use a certificate that its own organization may issue, or correct the trust file of the node that refused it."
    )


class PeerCertificateExpired(NotOfOrganization):
    """It expired after the connection was made: a handshake would fail now."""

    code = "peer-certificate-expired"
    message = "The certificate of {role} {name} expired at {when}"
    remedy = "Put a new one in the place of its file: a running node takes it over. And compare the clocks."


class OrganizationNotHeld(NotOfOrganization):
    code = "organization-not-held"
    message = "The swarm has no organization {organization}"
    remedy = (
        "Have it voted in: swarm org propose and approve. A swarm that began without a trust file is one organization "
        "without a name, and stays one."
    )


class Expelled(NotOfOrganization):
    """A node that the swarm has expelled, by its organization or by vote."""

    code = "expelled"
    message = "{name} was expelled from the swarm"
    remedy = "An expelled name cannot be used again: give the node a certificate with another name."


class CANotVotedIn(NotOfOrganization):
    """A certificate of an organization in the swarm, valid by the trust file, but from a CA not voted in."""

    code = "ca-not-voted-in"
    message = "The certificate of {role} {name} is from the CA {ca} of {organization}, which the swarm has not voted in"
    remedy = (
        "Have the organization's CAs voted in (swarm org propose and approve), or use a certificate of one that was."
    )


EXPIRED: tuple[type[SwarmError], ...] = (NotAcceptedAsExpired, PeerCertificateExpired)
"""What ends as soon as the node whose certificate it is has a new one, which it may take over while it runs."""


class TrustFileUnusable(IdentityError):
    code = "trust-file-unusable"
    message = "{source}, line {line}: {path}: {problem}"
    remedy = "Correct the trust file and try again."


class RequestRefused(IdentityError):
    """A certificate request that a CA refuses to sign."""

    code = "request-refused"
    grpc_status = "INVALID_ARGUMENT"
    message = "The certificate request {path} is not signed: {problem}"
    remedy = "Make a new one with `swarm certs request` on the node's host."
