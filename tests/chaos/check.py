"""The invariants I1 to I9, as pure functions over a history: each gives the violations that it finds, in words.

What a node did when it died is not known: a contribution that its program was about to send may have arrived or not,
and both histories are right. So a check-in must be one of those that its node may have made.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.chaos.history import Diary, History
from tests.chaos.model import Illegal, State, states

MIN_ROUNDS = 3
CLOSE = 1e-9  # relative: the merge and this check may add in different orders


def violations(history: History) -> list[str]:
    """All that is wrong with a run; empty for a good one."""
    found = list(_without_model(history))
    if not history.chain:  # it could not be read, which is said already
        return found
    try:
        told = states(history.chain, history.first_keys)
    except Illegal as error:
        return [str(error), *found]
    for check in (views_are_of_the_chain, one_digest_a_round, contributions, merges, nothing_is_lost):
        found += check(history, told)
    return list(dict.fromkeys(found))


def _without_model(history: History) -> Iterator[str]:
    for check in (
        went_well, one_merge_a_round, finite, recovery, order, leaders_that_move, leaders_that_lie,
        left_out_for_a_reason,
    ):  # fmt: skip
        yield from check(history)


# --- checks that need no model -----------------------------------------------------------------------------------


def went_well(history: History) -> Iterator[str]:
    """Liveness: rounds before and after each fault, faults that hit, nobody dead whom no fault has touched."""
    for text in history.trouble:
        yield f"liveness: {text}"
    for fault in history.faults:
        if not fault.hit:
            yield f"traffic: the fault '{fault.kind}' did not hit"
    rounds = sum(event.kind == "RoundAccepted" for event in history.chain)
    if rounds < MIN_ROUNDS:
        yield f"traffic: {rounds} rounds are too few to show anything"
    for end in history.exits:
        if end.code and not end.expected:
            yield f"liveness: {end.part} of {end.node} ended with {end.code}: {end.tail}"


def one_merge_a_round(history: History) -> Iterator[str]:
    """I1: at most one merge is accepted per round."""
    seen: set[int] = set()
    for event in history.chain:
        if event.kind == "RoundAccepted":
            if event.facts["round"] in seen:
                yield f"I1: round {event.facts['round']} is accepted twice"
            seen.add(event.facts["round"])


def finite(history: History) -> Iterator[str]:
    """I6: no non-finite parameter is accepted."""
    for line in history.diaries:
        if line.did == "gets" and not all(math.isfinite(float(value)) for value in line.facts["probe"]):
            yield f"I6: {line.node} was given {line.facts['probe']} in round {line.facts['round']}"


def recovery(history: History) -> Iterator[str]:
    """I7: recovery takes at most the failure timeout plus one round."""
    for fault in history.faults:
        if fault.recovered_t and fault.recovery_s > fault.allowed_s:
            yield f"I7: {fault.recovery_s:.1f} s to recover from '{fault.kind}', {fault.allowed_s:.1f} s are allowed"


def order(history: History) -> Iterator[str]:
    """I9: the order in the audit log is the order on the chain, at every SN."""
    places = [event.at for event in history.chain]
    if places != sorted(set(places)):
        yield "I9: the chain's own events are out of order"
    for sn, record in history.records.items():
        told = history.chain[: len(record)]
        if record != told:
            at = next((n for n, (a, b) in enumerate(zip(record, told, strict=False)) if a != b), len(told))
            yield f"I9: the record of {sn} is not the chain: they part at event {at}"
        upto = history.record_blocks.get(sn, 0)  # none where its record could not be read, which stands in ``trouble``
        missing = [event.at for event in history.chain[len(record) :] if event.at[0] <= upto]
        if missing:
            yield f"I9: the record of {sn} lacks {len(missing)} events, the first at {missing[0]}"


def leaders_that_move(history: History) -> Iterator[str]:
    """Nobody is deposed in a run in which no fault has given a reason."""
    if any(fault.may_depose for fault in history.faults):
        return
    for event in history.chain:
        if event.kind == "LeaderDeposed":
            yield f"liveness: {event.facts['leader']} is deposed in round {event.facts['round']} without a reason"


def leaders_that_lie(history: History) -> Iterator[str]:
    """I2: no result is accepted that nobody holds, and the chain names the leader that published it."""
    accepted = {event.facts["digest"] for event in history.chain if event.kind == "RoundAccepted"}
    fallen = {
        (event.facts["leader"], event.facts["round"], event.facts["term"])
        for event in history.chain
        if event.kind == "LeaderDeposed"
    }
    for lie in (lie for fault in history.faults for lie in fault.false_results):
        if lie.digest in accepted:
            yield f"I2: {lie.digest[:16]} is accepted in round {lie.round}, and {lie.leader} has made it up"
        elif (lie.leader, lie.round, lie.term) not in fallen:
            yield f"liveness: {lie.leader} published what nobody holds in round {lie.round}, and was not deposed"


def left_out_for_a_reason(history: History) -> Iterator[str]:
    """Nobody is left out of a round in a run in which no fault has given a reason."""
    if any(fault.may_leave_out for fault in history.faults):
        return
    for event in history.chain:
        if event.kind == "LeftOut":
            facts = event.facts
            yield f"liveness: {facts['name']} is left out of round {facts['round']} without a reason: {facts['reason']}"


# --- checks against the model ------------------------------------------------------------------------------------


def views_are_of_the_chain(history: History, told: list[State]) -> Iterator[str]:
    """Every state that an SN has shown is one that the chain went through; and an SN never goes back (I5)."""
    newest: dict[str, tuple[int, float]] = {}
    for seen in history.seen:
        count = (seen.version >> 20) - 1
        before, t = newest.get(seen.sn, (0, 0.0))
        if count < before and not _catches_up(history, seen.sn, t, seen.t):
            yield f"I5: {seen.sn} shows {count} events after {before}"
        newest[seen.sn] = (count, seen.t)
        if count >= len(told):
            yield f"I5: {seen.sn} has shown {count} events, and the chain holds {len(told) - 1}"
            continue
        state = told[count]
        last = (state.last, state.accepted[state.last].digest) if state.accepted else None
        real = (state.phase, state.round, state.leader, set(state.check_ins), set(state.active), last)
        shown = (seen.state, seen.round, seen.leader, set(seen.checked_in), set(seen.active), seen.result)
        if real != shown:
            yield f"I5: {seen.sn} showed {shown} where the chain says {real}"


def _catches_up(history: History, sn: str, after: float, until: float) -> bool:
    """One of several SNs that was started again fetches from the others what it has missed or lost."""
    several = len(history.records) > 1
    return several and any(name == sn and after < t <= until for t, name in history.restarts)


def one_digest_a_round(history: History, told: list[State]) -> Iterator[str]:
    """I2: every node that finishes a round holds the same digest, and all end with the final model."""
    final = told[-1]
    for line in history.diaries:
        if line.did == "gets" and line.facts["digest"]:
            accepted = final.accepted.get(line.facts["round"])
            if accepted is None or accepted.digest != line.facts["digest"]:
                says = accepted.digest[:16] if accepted else "nothing"
                yield (
                    f"I2: {line.node} holds {line.facts['digest'][:16]} after round {line.facts['round']}, "
                    f"and the chain says {says}"
                )
            elif line.facts["contributed"] and line.node not in accepted.merged:
                yield f"I3: {line.node} is told that it contributed to round {line.facts['round']}, and it did not"
        if (
            line.did == "ends"
            and final.phase == "COMPLETE"
            and line.facts["digest"] != final.accepted[final.last].digest
        ):
            yield f"I2: {line.node} ends with {line.facts['digest'][:16]}, which is not the final model"


@dataclass(frozen=True)
class Sent:
    """What a program may have contributed. ``base``: the round whose result it had trained from."""

    base: int
    probe: tuple[float, ...]


def contributions(history: History, told: list[State]) -> Iterator[str]:
    """I3: what is checked in was made by that node, from the result of the round before."""
    sent, given = _sent(history.diaries), _given(history.diaries)
    rogue = {digest for fault in history.faults for digest in fault.rogue_digests}
    for before, event in zip(told, history.chain, strict=False):
        if event.kind != "CheckedIn":
            continue
        name, digest = event.facts["name"], event.facts["digest"]
        if digest in rogue:
            continue
        mine = sent[name].get(digest, [])
        again = event.facts["finished"] and (mine or digest in given)
        stands_for = before.last - event.facts.get("staleness", 0)
        if not again and not any(entry.base == stands_for for entry in mine):
            bases = [entry.base for entry in mine]
            yield (
                f"I3: {name} checks in to round {before.round} with {digest[:16]}, "
                f"trained from {bases or 'nothing it made'}, not from round {stands_for}"
            )


def merges(history: History, told: list[State]) -> Iterator[str]:
    """I3: a result is the mean of exactly those whom the chain names; the first may be the own set of one of them."""
    sent, given = _sent(history.diaries), _given(history.diaries)
    first = min(told[-1].accepted, default=0) if told[-1].first_merge == "leader" else 0
    for number, accepted in told[-1].accepted.items():
        if accepted.digest not in given:
            continue  # nobody was given it
        probes = {}
        for name, entry in accepted.merged.items():
            mine = sent[name].get(entry.digest)
            probe = mine[0].probe if mine else given.get(entry.digest)
            if probe is None:
                yield f"I3: round {number} holds {entry.digest[:16]} of {name}, which that node never made"
                break
            probes[name] = probe
        else:
            if number == first:  # the leader's, or that of the first after it that could be used
                one = min(probes, key=lambda name: (name != accepted.leader, name))
                yield from _compare(number, {one: 1}, probes, given[accepted.digest])
                continue
            # What comes late weighs a fraction; nothing here is so heavy that a merger would round it.
            merged = accepted.merged
            weights = {name: entry.weight / (1 + min(entry.staleness, 9)) for name, entry in merged.items()}
            if any(weights.values()):  # else the last result stands, which its digest shows
                yield from _compare(number, weights, probes, given[accepted.digest])


def nothing_is_lost(history: History, told: list[State]) -> Iterator[str]:
    """I5: an accepted round survives: what any SN has ever shown as a result is still on the chain."""
    accepted = told[-1].accepted
    for seen in history.seen:
        if seen.result and (seen.result[0] not in accepted or accepted[seen.result[0]].digest != seen.result[1]):
            yield f"I5: {seen.sn} has shown a result of round {seen.result[0]} that the chain no longer holds"


def _compare(
    number: int, weights: Mapping[str, float], probes: Mapping[str, tuple[float, ...]], found: tuple[float, ...]
) -> Iterator[str]:
    total = sum(weights.values())
    for position, value in enumerate(found):
        parts = [weight * probes[name][position] for name, weight in weights.items()]
        scale = sum(abs(part) for part in parts) / total
        mean = math.fsum(parts) / total
        if not abs(mean - value) <= CLOSE * max(scale, 1e-300):
            yield f"I3: round {number} is {value!r} at {position}, and the mean of {sorted(weights)} is {mean!r}"
            return


def _sent(diaries: list[Diary]) -> Mapping[str, Mapping[str, list[Sent]]]:
    """By node and digest; every incarnation of a program begins from nothing."""
    found: dict[str, dict[str, list[Sent]]] = defaultdict(lambda: defaultdict(list))
    bases: dict[int, int] = {}
    for line in diaries:
        if line.did == "started":
            bases[line.pid] = 0
        elif line.did == "gets":
            bases[line.pid] = line.facts["round"]
        elif line.did == "sends":
            entry = Sent(bases.get(line.pid, 0), _floats(line))
            found[line.node][line.facts["digest"]].append(entry)
    return found


def _given(diaries: list[Diary]) -> dict[str, tuple[float, ...]]:
    """The merged probes by digest, as programs got them."""
    return {line.facts["digest"]: _floats(line) for line in diaries if line.did == "gets" and line.facts["digest"]}


def _floats(line: Diary) -> tuple[float, ...]:
    return tuple(float(value) for value in line.facts["probe"])
