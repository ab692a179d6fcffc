"""A participant's word, signed, that it holds a result which is not published yet: without it no SN takes that."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.errors import NoSecondCopy
from services.identity.peers import TrustBundle
from services.identity.signing import NotSigned, Signed, Signer
from services.rpc import swarm_pb2 as pb

LABEL = "swarm copy of a result, version 1"

ROLE = "sl"

# With a chain of long RSA keys; what is longer is not looked at.
COPY_BYTES = 32 * 1024


@dataclass(frozen=True)
class CopyClaim:
    """``holder`` has all bytes of ``digest`` (hex), which may become the result of this round and term.

    ``location``: of the training, on the chain.
    """

    location: str
    round: int
    term: int
    digest: str
    holder: str

    def signed(self, signer: Signer) -> pb.ResultCopy:
        """By the holder. Raises IdentityError."""
        made = signer.sign(self._content)
        return pb.ResultCopy(holder=self.holder, certificates=made.certificates, signature=made.signature)

    def check(self, copy: pb.ResultCopy, keys: Collection[str], trust: TrustBundle) -> None:
        """``keys``: by which the holder is known now, in hex. Raises NoSecondCopy."""
        try:
            if copy.ByteSize() > COPY_BYTES:
                raise NotSigned(f"it has {copy.ByteSize()} bytes")
            Signed(tuple(copy.certificates), copy.signature).require(self._content, ROLE, self.holder, keys, trust)
        except NotSigned as error:
            raise NoSecondCopy(round=self.round, problem=f"what {self.holder} has signed: {error}") from None

    @property
    def _content(self) -> bytes:
        words = (LABEL, self.location.lower(), str(self.round), str(self.term), self.digest, self.holder)
        return "\n".join(words).encode()


def may_hold(leader: str, checked_in: Sequence[str], left_out: Collection[str], there: Collection[str]) -> list[str]:
    """Who may vouch for the result of a merge: those who checked in and are still there, those who are in it first.

    None where the leader is alone in it, which is for a training that lets one node go on alone, or is alone at all.
    """
    others = [name for name in checked_in if name != leader]
    if all(name in left_out for name in others):
        return []
    return sorted((name for name in others if name in there), key=lambda name: name in left_out)
