"""Writes a training's events to the log."""

from typing import Any

from services.chain import events as on_chain
from services.rpc.measures import shown
from services.runtime import logs
from services.sn.training import TrainingView

DIGEST_CHARACTERS = 16
WARN_AFTER_ROUNDS = 3

_log = logs.get("sn")


def narrate(view: TrainingView, event: on_chain.TrainingEvent) -> None:
    """Logs what a person who follows the log wants to know; single check-ins and reports only at DEBUG.

    Every line has contract and round, and the term if it is known. ``view`` already includes the event.
    """
    log = _log.bind(contract=view.contract, **_where(view, event))
    match event:
        case on_chain.Configured():
            agreed = event.config
            log.info("training configured", by=event.by, minPeers=agreed.min_peers, syncFrequency=agreed.sync_frequency)
        case on_chain.Enrolled():
            log.info("enrolled", name=event.name, may_lead=event.may_lead)
        case on_chain.CheckedIn():
            log.debug("checked in", name=event.name, size=event.size, finished=event.finished)
            if event.staleness >= WARN_AFTER_ROUNDS:
                log.warning("checked in late", name=event.name, rounds_without_it=event.staleness)
        case on_chain.MergeStarted():
            log.info("merging", leader=event.leader, peers=event.participants)
        case on_chain.RoundAccepted():
            digest = event.digest.hex()[:DIGEST_CHARACTERS]
            log.info("round accepted", leader=event.leader, merged=event.participants, digest=digest)
        case on_chain.IntervalChosen():
            log.info("interval", batches=event.interval, why=view.pace)
        case on_chain.BestMerged():
            log.info("best merged model so far", mean_metric=event.mean_metric)
        case on_chain.StoppedEarly():
            log.info("training stops early", best_round=event.best_round, patience=event.patience)
        case on_chain.Completed():
            log.info("training complete", digest=event.digest.hex()[:DIGEST_CHARACTERS])
        case on_chain.Reported():
            log.debug("reported", name=event.name, loss=shown(event.loss, ".6g"), metric=shown(event.metric, ".6g"))
        case _:
            _narrate_trouble(log, event)


def _narrate_trouble(log: Any, event: on_chain.TrainingEvent) -> None:
    match event:
        case on_chain.LeftOut():
            log.warning("left out", name=event.name, reason=event.reason)
        case on_chain.RoundReopened():
            log.warning("round reopened", have=event.have, need=event.need)
        case on_chain.LeaderVotedOut():
            log.warning("vote against the leader", by=event.voter, votes=event.votes)
        case on_chain.LeaderDeposed():
            log.warning("leader deposed", leader=event.leader)
        case on_chain.Left():
            log.info("left", name=event.name, reason=event.reason)
        case on_chain.Reset():
            log.info("training reset", next_round=event.next_round)


def _where(view: TrainingView, event: on_chain.TrainingEvent) -> dict[str, int]:
    """Round and term of an event; the running ones if it does not say. Without the term if it is of an old round."""
    number = getattr(event, "round", view.round)
    if hasattr(event, "term"):
        return {"round": number, "term": event.term}
    return {"round": number, "term": view.term} if number == view.round else {"round": number}
