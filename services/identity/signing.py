"""Content that a node signs with its certificate's key, so that others believe it without a connection to the node."""

from collections.abc import Collection
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from services.errors import IdentityError, SwarmError
from services.identity.certificates import read_chain, read_key
from services.identity.identity import Identity
from services.identity.peers import TrustBundle, identity_of_certificate
from services.identity.renewal import Credentials
from services.identity.signatures import UnsupportedKey, sign, verify

# What invalid X.509 from a peer may raise.
_DAMAGED = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class NotSigned(Exception):
    """``str()`` says why it is not."""


@dataclass(frozen=True)
class Signed:
    """``certificates``: in DER form, the signer's first, then those that lead to its CA."""

    certificates: tuple[bytes, ...]
    signature: bytes

    def require(self, content: bytes, role: str, name: str, keys: Collection[str], trust: TrustBundle) -> None:
        """Checks that the node of this role and name has signed ``content`` with one of its known ``keys``.

        Raises NotSigned.
        """
        try:
            self._require(content, role, name, keys, trust)
        except SwarmError as error:
            raise NotSigned(str(error)) from None
        except _DAMAGED as error:
            raise NotSigned(f"its certificates cannot be read ({type(error).__name__})") from None

    def _require(self, content: bytes, role: str, name: str, keys: Collection[str], trust: TrustBundle) -> None:
        own, *others = self.certificates or (b"",)
        peer = identity_of_certificate(own)
        if peer.role != role or not peer.may_act_as(name, *keys):
            raise NotSigned(f"it is not by the key of {name}")
        try:
            verify(x509.load_der_x509_certificate(own).public_key(), self.signature, content)
        except (InvalidSignature, UnsupportedKey):
            raise NotSigned(f"{name} has not signed this") from None
        trust.peer(own, tuple(others))
        if peer.fingerprint not in keys and not trust.has_issued(own, tuple(others)):  # anybody can write an ID
            raise NotSigned("its certificate comes from no CA that is trusted")


class Signer:
    """Signs as ``identity``, with its newest key; each key is read only once."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._read: tuple[Credentials, PrivateKeyTypes, tuple[bytes, ...]] | None = None

    @property
    def name(self) -> str:
        return self._identity.name

    @property
    def trust(self) -> TrustBundle:
        """What this node trusts now."""
        return self._identity.credentials.trust

    def sign(self, content: bytes) -> Signed:
        """Raises CertificateUnreadable, IdentityError if this kind of key cannot sign."""
        now = self._identity.credentials
        if self._read is None or self._read[0] != now:
            chain = tuple(one.public_bytes(Encoding.DER) for one in read_chain(now.cert))
            self._read = (now, read_key(now.key), chain)
        _, key, chain = self._read
        try:
            return Signed(chain, sign(key, content))
        except UnsupportedKey as error:
            raise IdentityError(path=now.key, problem=str(error)) from None
