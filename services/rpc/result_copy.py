"""A participant's signed statement that it holds a result not published yet: without it, no SN accepts the result."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.errors import NoSecondCopy
from services.identity.peers import TrustBundle
from services.identity.signing import NotSigned, Signed, Signer
from services.rpc import swarm_pb2 as pb

LABEL = "swarm copy of a result, version 1"

ROLE = "sl"

# Enough for a chain of long RSA keys; longer statements are refused unread.
COPY_BYTES = 32 * 1024


@dataclass(frozen=True)
class CopyClaim:
    """States that ``holder`` has all bytes of ``digest`` (hex), which may become the result of this round and term.

    ``location``: address of the training on the chain.
    """

    location: str
    round: int
    term: int
    digest: str
    holder: str

    def signed(self, signer: Signer) -> pb.ResultCopy:
        """The claim, signed by the holder. Raises IdentityError."""
        made = signer.sign(self._content)
        return pb.ResultCopy(holder=self.holder, certificates=made.certificates, signature=made.signature)

    def check(self, copy: pb.ResultCopy, keys: Collection[str], trust: TrustBundle) -> None:
        """Checks a signed claim. ``keys``: by which the holder is known now, in hex. Raises NoSecondCopy."""
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
    """Who may vouch for a merge: nodes that checked in and are still present, first those whose parameters are in it.

    Empty if only the leader's parameters are in it, as in a training that has one node or lets one continue alone.
    """
    others = [name for name in checked_in if name != leader]
    if all(name in left_out for name in others):
        return []
    return sorted((name for name in others if name in there), key=lambda name: name in left_out)
