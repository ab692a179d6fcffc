"""Access control for tests of how parameters travel, not of who may read them."""

from collections.abc import Callable
from dataclasses import dataclass

from services.identity.identity import PeerIdentity
from services.runtime.signals import ChangeSignal
from services.sl.transfer.readers import Readers


@dataclass(frozen=True)
class Everything(Readers):
    """Participants are those for whom ``takes_part`` is true; each may read everything."""

    takes_part: Callable[[PeerIdentity], bool] = lambda _: True

    def seats(self, peer: PeerIdentity) -> int:
        return int(self.takes_part(peer))

    def may_read(self, peer: PeerIdentity, digest: str) -> bool:
        return True


def everything(takes_part: Callable[[PeerIdentity], bool] = lambda _: True) -> Everything:
    return Everything(lambda: None, frozenset, ChangeSignal(), takes_part)
