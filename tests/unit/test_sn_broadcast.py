"""How a training's states reach its watchers."""

import asyncio

from services.rpc import swarm_pb2 as pb
from services.sn.broadcast import Broadcast
from services.sn.statuses import status
from services.sn.training import Participant, TrainingView


def setting() -> tuple[TrainingView, Broadcast]:
    view = TrainingView("training", "0x0")
    return view, Broadcast(view, lambda: status(view, 0.0, lambda _: None).SerializeToString())


def enrol(view: TrainingView, name: str) -> None:
    view.participants[name] = Participant(name, b"", may_lead=True)
    view.touch()


def names(message: bytes) -> list[str]:
    return [who.name for who in pb.TrainingStatus.FromString(message).participants]


async def test_changes_that_can_wait_come_together() -> None:
    view, broadcast = setting()
    states = broadcast.states(0)
    assert names(await anext(states)) == []
    coming = asyncio.create_task(anext(states))
    for name in ("sl-1", "sl-2", "sl-3"):
        enrol(view, name)
        broadcast.wake_soon()
        await asyncio.wait({coming}, timeout=0)
        assert not coming.done()
    async with asyncio.timeout(30):
        assert names(await coming) == ["sl-1", "sl-2", "sl-3"]


async def test_one_that_cannot_wait_takes_the_others_along() -> None:
    view, broadcast = setting()
    states = broadcast.states(view.version)
    coming = asyncio.create_task(anext(states))
    await asyncio.wait({coming}, timeout=0)
    enrol(view, "sl-1")
    broadcast.wake_soon()
    enrol(view, "sl-2")
    broadcast.wake()
    async with asyncio.timeout(30):
        assert names(await coming) == ["sl-1", "sl-2"]


async def test_a_new_watcher_is_told_what_others_hear_in_a_moment() -> None:
    view, broadcast = setting()
    await anext(broadcast.states(0))
    enrol(view, "sl-1")
    broadcast.wake_soon()
    assert names(await anext(broadcast.states(0))) == ["sl-1"]
    broadcast.close()
