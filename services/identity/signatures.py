"""Signatures by the keys of certificates, whatever kind of key they are."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes


class UnsupportedKey(ValueError):
    """It is neither an RSA key nor an elliptic curve key."""


def sign(key: PrivateKeyTypes, content: bytes) -> bytes:
    """Raises UnsupportedKey."""
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(content, ec.ECDSA(hashes.SHA256()))
        case rsa.RSAPrivateKey():
            return key.sign(content, padding.PKCS1v15(), hashes.SHA256())
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return key.sign(content)
    raise UnsupportedKey("a key of another kind")


def verify(key: PublicKeyTypes, signature: bytes, content: bytes) -> None:
    """Raises InvalidSignature, UnsupportedKey."""
    match key:
        case ec.EllipticCurvePublicKey():
            key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
        case rsa.RSAPublicKey():
            key.verify(signature, content, padding.PKCS1v15(), hashes.SHA256())
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            key.verify(signature, content)
        case _:
            raise UnsupportedKey("a key of another kind")
