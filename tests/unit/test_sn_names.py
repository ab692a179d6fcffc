"""Which of two processes holds a name, where they ask two SNs, and what frozen ones may still do."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest
import structlog

from services.errors import NameInUse
from services.sn.membership import Caller
from services.sn.names import Holder, Names

WHO = Caller("sl", "sl-1", b"\1" * 32)
ONE, TWO = b"1" * 16, b"2" * 16


async def nowhere(_claim: Holder) -> str:
    return ""


def at(*others: Names) -> Callable[[Holder], Awaitable[str]]:
    """Asks other SNs."""

    async def ask(claim: Holder) -> str:
        found = [await sn.found(claim.who.role, claim.who.name, claim.process, claim.address) for sn in others]
        return next((address for address in found if address), "")

    return ask


def two_sns() -> tuple[Names, Names]:
    a, b = Names(nowhere), Names(nowhere)
    a._elsewhere, b._elsewhere = at(b), at(a)
    return a, b


async def answer(holder: Holder) -> None:
    """As a process that is there."""
    async for question in holder.questions():
        holder.answered(question)


async def test_a_process_is_found_that_holds_the_name_with_another_sn() -> None:
    a, b = two_sns()
    first = await a.claim(WHO, ONE, "here:1")
    answers = asyncio.create_task(answer(first))
    with pytest.raises(NameInUse, match="here:1"):
        await b.claim(WHO, TWO, "there:2")
    assert not b.is_held("sl", "sl-1")
    first.end()
    await answers


async def test_one_that_is_silent_at_another_sn_loses_the_name_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.sn.names.ANSWER_S", 0.0)
    a, b = two_sns()
    first = await a.claim(WHO, ONE, "here:1")
    await b.claim(WHO, TWO, "there:2")
    assert (first.ended, first.taken_by) == (True, "there:2")
    assert not a.is_held("sl", "sl-1")


async def test_a_node_that_moves_to_another_sn_keeps_its_name() -> None:
    a, b = two_sns()
    await a.claim(WHO, ONE, "here:1")
    assert (await b.claim(WHO, ONE, "here:1")).confirmed


@pytest.mark.parametrize("_attempt", range(20))
async def test_of_two_that_claim_a_name_at_once_with_two_sns_one_has_it(_attempt: int) -> None:
    a, b = two_sns()
    started = asyncio.Barrier(2)

    def together(ask: Callable[[Holder], Awaitable[str]]) -> Callable[[Holder], Awaitable[str]]:
        async def asked(claim: Holder) -> str:
            await started.wait()
            return await ask(claim)

        return asked

    a._elsewhere, b._elsewhere = together(at(b)), together(at(a))
    answers: list[asyncio.Task[None]] = []

    async def claim(sn: Names, address: str) -> Holder:
        holder = await sn.claim(WHO, os.urandom(16), address)
        answers.append(asyncio.create_task(answer(holder)))
        return holder

    claims = await asyncio.gather(claim(a, "here:1"), claim(b, "there:2"), return_exceptions=True)
    refused = [claim for claim in claims if isinstance(claim, NameInUse)]
    assert len(refused) == 1
    assert a.is_held("sl", "sl-1") != b.is_held("sl", "sl-1")
    a.end_streams(), b.end_streams()
    await asyncio.gather(*answers)


async def test_a_name_that_each_side_of_a_cut_gave_away_is_told_of_when_they_meet_again() -> None:
    a, b = Names(nowhere), Names(nowhere)
    holders = await a.claim(WHO, ONE, "here:1"), await b.claim(WHO, TWO, "there:2")
    answers = [asyncio.create_task(answer(holder)) for holder in holders]
    a._elsewhere, b._elsewhere = at(b), at(a)
    for sn in (a, b):
        with structlog.testing.capture_logs() as told:
            await sn.compare()
        assert [(line["log_level"], line["name"], {line["one"], line["other"]}) for line in told] == [
            ("warning", "sl-1", {"here:1", "there:2"})
        ]
    assert not any(holder.ended for holder in holders)
    b.end_streams()
    with structlog.testing.capture_logs() as told:
        await a.compare()
    assert told == []
    a.end_streams()
    await asyncio.gather(*answers)


async def test_of_many_that_claim_a_name_at_once_one_has_it() -> None:
    names = Names(nowhere)
    answering: list[asyncio.Task[None]] = []

    async def claim(number: int) -> Holder:
        holder = await names.claim(WHO, bytes([number]) * 16, f"here:{number}")
        answering.append(asyncio.create_task(answer(holder)))
        return holder

    claims = await asyncio.gather(*(claim(number) for number in range(20)), return_exceptions=True)
    assert sum(isinstance(claim, NameInUse) for claim in claims) == 19
    names.end_streams()
    await asyncio.gather(*answering)


async def test_who_was_beaten_is_not_even_asked_for() -> None:
    names = Names(nowhere)
    first = await names.claim(WHO, ONE, "here:1")
    first.ended = True  # it is gone, though nobody has dropped it yet
    await names.claim(WHO, TWO, "there:2")
    names.require(WHO, TWO)
    with pytest.raises(NameInUse):
        names.require(WHO, ONE)
