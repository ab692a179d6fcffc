"""A training's events as lines of the log."""

from services.chain import events as on_chain
from services.runtime import logs

DIGEST_CHARACTERS = 16

_log = logs.get("sn")


def narrate(contract: str, event: on_chain.TrainingEvent) -> None:
    """Says what a person who follows the log wants to know; single check-ins and reports are for DEBUG."""
    log = _log.bind(contract=contract)
    match event:
        case on_chain.Configured():
            agreed = event.config
            log.info("training configured", by=event.by, minPeers=agreed.min_peers, syncFrequency=agreed.sync_frequency)
        case on_chain.Enrolled():
            log.info("enrolled", name=event.name, may_lead=event.may_lead, round=event.round)
        case on_chain.CheckedIn():
            log.debug("checked in", name=event.name, round=event.round, size=event.size, finished=event.finished)
        case on_chain.MergeStarted():
            log.info("merging", round=event.round, term=event.term, leader=event.leader, peers=event.participants)
        case on_chain.RoundAccepted():
            digest = event.digest.hex()[:DIGEST_CHARACTERS]
            log.info("round accepted", round=event.round, leader=event.leader, merged=event.participants, digest=digest)
        case on_chain.Completed():
            log.info("training complete", round=event.round, digest=event.digest.hex()[:DIGEST_CHARACTERS])
        case on_chain.Reported():
            log.debug("reported", name=event.name, round=event.round, loss=event.loss, metric=event.metric)
        case _:
            _narrate_trouble(contract, event)


def _narrate_trouble(contract: str, event: on_chain.TrainingEvent) -> None:
    log = _log.bind(contract=contract)
    match event:
        case on_chain.LeftOut():
            log.warning("left out", name=event.name, round=event.round, reason=event.reason)
        case on_chain.RoundReopened():
            log.warning("round open again", round=event.round, have=event.have, need=event.need)
        case on_chain.LeaderVotedOut():
            log.warning(
                "vote against the leader", round=event.round, term=event.term, by=event.voter, votes=event.votes
            )
        case on_chain.LeaderDeposed():
            log.warning("leader deposed", round=event.round, term=event.term, leader=event.leader)
        case on_chain.Left():
            log.info("left", name=event.name, round=event.round, reason=event.reason)
        case on_chain.Reset():
            log.info("training reset", next_round=event.next_round)
