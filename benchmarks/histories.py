"""A long training, made quickly: its rounds are written straight through the gateway, many on their way at once."""

import asyncio
import hashlib
from collections.abc import Sequence

from services.chain.events import TrainingConfig
from services.chain.training import CheckInCall, TrainingGateway

ON_THEIR_WAY = 256
LAYOUT = hashlib.sha256(b"layout").digest()


def names_of(count: int) -> list[str]:
    return [f"sl-{number}" for number in range(1, count + 1)]


def digest_of(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


async def enrol(training: TrainingGateway, names: Sequence[str]) -> None:
    """All of them, each under a fingerprint of its own; merges need all."""
    config = TrainingConfig(len(names), 16, "mean", False, 60_000)
    await asyncio.gather(*(training.enrol(name, digest_of("certificate", name), True, config) for name in names))


async def write_rounds(
    training: TrainingGateway, names: Sequence[str], rounds: range, *, on_their_way: int = ON_THEIR_WAY
) -> None:
    """Accepted rounds, in which all check in and then report; the first of ``rounds`` is the one that runs.

    ``on_their_way``: about so many check-ins go together into a block.
    """
    at_once = max(1, on_their_way // len(names))
    for start in range(rounds.start, rounds.stop, at_once):
        calls = []
        for number in range(start, min(rounds.stop, start + at_once)):
            calls += [training.check_in(_check_in(name, number)) for name in names]
            leader = names[(number + 1) % len(names)]
            # Where a training begins, one node's own parameters go to all.
            digest = digest_of("merged", number) if number > 1 else digest_of(leader, number)
            calls.append(training.publish(number, 1, leader, digest, 1024, ()))
            calls += [training.report(number, name, 1.0 / number, 0.5, number, rounds.stop) for name in names]
        await asyncio.gather(*calls)


def _check_in(name: str, number: int) -> CheckInCall:
    return CheckInCall(
        number, number - 1, name, digest_of(name, number), 1024, LAYOUT, 100, False, f"{name}.example.org", 30305
    )
