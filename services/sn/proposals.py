"""Logs what becomes of the proposals on the chain, so that those who must vote learn of them."""

from services.chain.events import CarriedOut, NetworkEvent, Proposed, Voted, Withdrawn
from services.runtime import logs

_log = logs.get("sn")


class ProposalLog:
    """Of what happened before the node started, it logs only the proposals that are still open."""

    def __init__(self) -> None:
        self._open: dict[int, Proposed] = {}
        self._tells = False

    def begin(self) -> None:
        """The past has been read: from now on, each event is logged."""
        self._tells = True
        for proposal in self._open.values():
            self._say("a proposal is open", proposal)

    def take(self, event: NetworkEvent) -> None:
        match event:
            case Proposed():
                self._open[event.number] = event
                self._tell("proposed", event)
            case Voted():
                if event.number in self._open:
                    self._tell("voted", self._open[event.number], of=event.organization, by=event.by)
            case CarriedOut():
                self._close(event.number, "proposal carried out")
            case Withdrawn():
                self._close(event.number, "proposal withdrawn", **({"by": event.by} if event.by else {}))

    def _close(self, number: int, what: str, **more: str) -> None:
        proposal = self._open.pop(number, None)
        if proposal is not None:
            self._tell(what, proposal, **more)

    def _tell(self, what: str, proposal: Proposed, **more: str) -> None:
        if self._tells:
            self._say(what, proposal, **more)

    def _say(self, what: str, proposal: Proposed, **more: str) -> None:
        facts: dict[str, object] = {"change": proposal.change, "organization": proposal.organization}
        if proposal.node:
            facts |= {"role": proposal.role, "name": proposal.node}
        _log.info(what, proposal=proposal.number, **facts, proposer=proposal.proposer, **more)
