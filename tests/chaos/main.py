"""The robustness suite: `python -m tests.chaos.main --runs N --seed S`, or `--check DIR` for histories that were kept.

A world is built. Each run is a training of its own in it: rounds, a fault, rounds again, the end. What was seen is
recorded and checked. The last line is one JSON object.
"""

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from random import Random

from services.errors import SwarmError
from tests.chaos.check import violations
from tests.chaos.faults import FAULTS
from tests.chaos.ground import Fault, Ground
from tests.chaos.history import History, Injected
from tests.chaos.plan import Plan, plan_of
from tests.chaos.report import figures, last_line, line_of
from tests.chaos.traffic import Stuck, Traffic
from tests.chaos.world import World

KEPT = Path("chaos-out")
RUN_WITHIN_S = 150.0

Heal = Callable[[], Awaitable[None]]


async def one_run(world: World, plan: Plan) -> History:
    """The procedure: traffic, each fault in its turn, traffic, the end."""
    world.runs += 1
    name = f"run{world.runs}"
    history = History(plan.seed, plan.described(), str(world.directory / name))
    began = time.monotonic()
    dice = Random(f"{plan.seed} in the run")
    traffic = Traffic(world, world.directory / name, name, plan.shape, dice.randrange(2**32), history)
    healing: list[Heal] = []
    try:
        async with asyncio.timeout(RUN_WITHIN_S):
            await _traffic_and_faults(traffic, plan, dice, healing)
    except (Stuck, SwarmError, TimeoutError) as error:
        traffic.note(f"{type(error).__name__}: {error}")
    finally:
        for heal in healing:
            try:
                await heal()
            except SwarmError as error:
                traffic.note(f"not healed: {error}")
        await traffic.close()
    note_recovery(history)
    history.seconds = time.monotonic() - began
    return history


async def _traffic_and_faults(traffic: Traffic, plan: Plan, dice: Random, healing: list[Heal]) -> None:
    await traffic.start()
    for number, (kind, before) in enumerate(zip(plan.faults, plan.before, strict=True), 1):
        await traffic.rounds(before)
        last = number == len(plan.faults)
        await inject(Ground(traffic.world, traffic, dice, Injected(kind), last, healing), FAULTS[kind])
        await traffic.rounds(plan.after)
    await traffic.finish()


async def inject(ground: Ground, fault: Fault) -> None:
    """Does it, and notes when a round was accepted again."""
    went = ground.went
    went.allowed_s, went.may_depose, went.may_leave_out = fault.allowed_s, fault.may_depose, fault.may_leave_out
    ground.traffic.history.faults.append(went)
    await fault.inject(ground)


def note_recovery(history: History) -> None:
    """When a round was accepted again after each fault."""
    for went in history.faults:
        later = [seen.t for seen in history.seen if seen.result and seen.result[0] > went.round and seen.t >= went.t]
        went.recovered_t = min(later, default=0.0) if went.hit else 0.0


class Worlds:
    """One world of each kind that is asked for, built anew where a run has broken it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[tuple[int, bool], World] = {}
        self._built = 0

    async def fit_for(self, fault: Fault) -> World:
        kind = (fault.sns, fault.apart)
        if kind not in self._open:
            directory = self._directory / f"world-{self._built}"
            self._built += 1
            self._open[kind] = await World.open(directory, sns=fault.sns, apart=fault.apart)
        return self._open[kind]

    async def trouble_of(self, fault: Fault) -> str:
        """What a run has left broken; empty where the next one can go on."""
        kind = (fault.sns, fault.apart)
        try:
            await self._open[kind].sound()
        except (SwarmError, RuntimeError) as error:
            await self._open.pop(kind).close()
            return f"the world broke: {error}"
        return ""

    async def close(self) -> list[str]:
        """Names those that had to be killed."""
        ends = await asyncio.gather(*(world.close() for world in self._open.values()), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return [name for end in ends if isinstance(end, list) for name in end]


async def many_runs(
    runs: int, seed: str, kinds: Sequence[str], only: int | None, directory: Path
) -> AsyncIterator[History]:
    """``only``: the number of one run, from 0."""
    worlds = Worlds(directory)
    try:
        for number, faults in enumerate(faults_in_turn(runs, seed, [FAULTS[kind] for kind in kinds])):
            if only in {None, number}:
                world = await worlds.fit_for(faults[0])
                history = await one_run(world, plan_of(f"{seed}.{number}", faults))
                if trouble := await worlds.trouble_of(faults[0]):
                    history.trouble.append(trouble)
                yield history
    finally:
        for name in await worlds.close():
            print(f"{name} had to be killed at the end")


def faults_in_turn(runs: int, seed: str, faults: Sequence[Fault]) -> list[list[Fault]]:
    """Every kind equally often, in an order of chance; behind the first of each run the others."""
    dice = Random(seed)
    order: list[list[Fault]] = []
    while len(order) < runs:
        for fault in dice.sample(faults, len(faults)):
            fitting = [it for it in faults if it.sns <= fault.sns and it.apart <= fault.apart]
            order.append([fault, *(other for other in fitting if other is not fault)])
    return order[:runs]


def keep(history: History, found: Sequence[str], kept: Path) -> Path:
    """The history of a failed run, with the logs of its nodes and of its world."""
    place, run = kept / history.seed, Path(history.run)
    shutil.rmtree(place, ignore_errors=True)
    history.save(place)
    (place / "violations.txt").write_text("\n".join(found) + "\n")
    for log in [*run.glob("logs/*.log"), *run.parent.glob("logs/*.log")]:
        shutil.copy(log, place / log.name)
    for log in run.parent.glob("sn-*/log/geth.log"):
        shutil.copy(log, place / f"{log.parts[-3]}.geth.log")
    return place


async def run(runs: int, seed: str, kinds: Sequence[str], only: int | None, kept: Path) -> int:
    """Runs, prints, keeps what failed; gives the exit code."""
    print(f"seed {seed}", flush=True)
    me = asyncio.current_task()
    assert me is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)  # namespaces and mounts must not stay
    done: list[tuple[History, list[str]]] = []
    directory = Path(tempfile.mkdtemp(prefix="swarm-chaos-"))
    try:
        async for history in many_runs(runs, seed, kinds, only, directory):
            found = violations(history)
            done.append((history, found))
            print(line_of(len(done), history, found), flush=True)
            if found:
                print(f"      kept in {keep(history, found, kept)}", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(last_line(figures(done, seed)), flush=True)
    return int(any(found for _, found in done))


def check(directory: Path) -> int:
    """Judges kept histories once more."""
    bad = 0
    for path in sorted(directory.rglob("history.json")):
        found = violations(History.load(path.parent))
        bad += bool(found)
        print("\n".join([str(path.parent), *(f"  VIOLATION {text}" for text in found)]))
    return int(bad > 0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.main", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", default="")
    parser.add_argument("--faults", default="", help="only kinds whose name contains this")
    parser.add_argument("--only", type=int, help="only the run of this number, from 0: SEED.NUMBER")
    parser.add_argument("--keep", type=Path, default=KEPT, help="where failed histories go")
    parser.add_argument("--check", type=Path, help="check kept histories instead")
    options = parser.parse_args(arguments)
    if options.check:
        return check(options.check)
    kinds = [kind for kind in FAULTS if options.faults in kind]
    for kind in [kind for kind in kinds if FAULTS[kind].applies()]:
        kinds.remove(kind)
        print(f"left out: {kind} ({FAULTS[kind].applies()})")
    if not kinds:
        parser.error(f"no fault has '{options.faults}' in its name; there are: {', '.join(FAULTS)}")
    return asyncio.run(run(options.runs, options.seed or secrets.token_hex(4), kinds, options.only, options.keep))


if __name__ == "__main__":
    sys.exit(main())
