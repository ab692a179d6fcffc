"""What trainings stand on dies or stands still: the license server, SNs, their geth; in the end everything at once."""

import asyncio
import os
import signal

from benchmarks.log_traps import Trap
from tests.chaos.ground import Fault, Ground, Inject
from tests.chaos.world import LOST_AFTER_S
from tests.pacing import pause


async def license_server_killed(ground: Ground) -> None:
    """Rounds go on without it; it comes back later, or only when the training is over (I8)."""
    world = ground.world
    world.nodes["license"].process.kill()
    await world.nodes["license"].process.wait(10.0)
    ground.hits("the license server")
    await ground.traffic.rounds(ground.dice.randint(1, 4))
    if ground.dice.random() < 0.5 or not ground.last:  # without it no node starts
        await world.restart("license")
        return
    ground.went.hit += " until the end"
    ground.healing.append(lambda: world.restart("license"))


async def sn_killed(ground: Ground) -> None:
    """At a moment of its own: with a transaction under way, or a result that nobody was told of."""
    world, sn = ground.world, ground.dice.choice(ground.world.sns)
    moment = ground.dice.choice(["merging", "round accepted"])
    process = world.nodes[sn].process
    trap = Trap(f"{sn} {moment}", {"event": moment}, ground.traffic.accepted + 1, (sn,), ground.traffic.contract)
    await ground.traffic.spring_in(trap, world.traps, process)
    process.kill()
    await process.wait(10.0)
    await pause(ground.dice.uniform(0.0, 2.0))
    await world.restart(sn)
    ground.hits(f"{sn} at '{moment}'")


async def sn_stopped(ground: Ground) -> None:
    """Stands still for a while, and finds the world changed."""
    world, sn = ground.world, ground.dice.choice(ground.world.sns)
    await world.nodes[sn].process.freeze()
    seconds = ground.dice.uniform(0.5, 4.0)
    await pause(seconds)
    world.nodes[sn].process.thaw()
    ground.hits(f"{sn} for {seconds:.1f} s")


async def sn_restarted(ground: Ground) -> None:
    """In order, as for a new version."""
    world, sn = ground.world, ground.dice.choice(ground.world.sns)
    if await world.nodes[sn].process.stop():
        ground.traffic.note(f"{sn} had to be killed")
    await world.restart(sn)
    ground.hits(f"{sn} in order")


async def geth_killed(ground: Ground) -> None:
    """The SN starts it again; what was under way is not lost."""
    sn = ground.dice.choice(ground.world.sns)
    os.kill(ground.world.geth_pid(sn), signal.SIGKILL)
    ground.hits(f"geth of {sn}")
    await ground.traffic.rounds(1)


async def geth_stopped(ground: Ground) -> None:
    sn, seconds = ground.dice.choice(ground.world.sns), ground.dice.uniform(0.5, 4.0)
    pid = ground.world.geth_pid(sn)
    os.kill(pid, signal.SIGSTOP)
    await pause(seconds)
    os.kill(pid, signal.SIGCONT)
    ground.hits(f"geth of {sn} for {seconds:.1f} s")


async def leader_killed_unheard(ground: Ground) -> None:
    """Its result is accepted, and it is gone before anybody is told of it."""
    world, traffic = ground.world, ground.traffic
    sn = world.nodes[world.sns[0]].process
    trap = Trap("accepted, nobody told", {"event": "round accepted"}, traffic.accepted + 1, contract=traffic.contract)
    await traffic.spring_in(trap, world.traps, sn)
    leader = traffic.pairs[traffic.now.leader]
    await ground.kill(leader)
    sn.thaw()
    ground.hits(leader.name)
    ground.went.round += 1  # the one that is accepted and not seen yet
    await ground.come_back(leader)


async def everything_killed(ground: Ground) -> None:
    """The lights go out in the whole house: SLs, programs, SNs, geth, the license server. All start again from disk."""
    world, traffic = ground.world, ground.traffic
    processes = [node.process for node in world.nodes.values()]
    for sn in world.sns:
        os.kill(world.geth_pid(sn), signal.SIGKILL)
    pairs = traffic.well
    for pair in pairs:
        pair.expected_exit = True
        processes += [pair.sl, pair.ml]
    for process in processes:
        process.kill()
    await asyncio.gather(*(process.wait(10.0) for process in processes))
    await world.restart("license")
    await asyncio.gather(*(world.restart(sn) for sn in world.sns))
    for pair in pairs:
        await traffic.restart(pair.name)
    ground.hits("everything")


RESTART_S = 6.0  # of an SN, with the replay of what it holds

FAULTS_OF_THE_WORLD = (
    Fault("leader killed before its result is told", leader_killed_unheard),
    Fault("license server killed", license_server_killed, may_depose=False),
    Fault("SN killed", sn_killed, allowed_s=LOST_AFTER_S + 2 * RESTART_S),
    Fault("SN stopped", sn_stopped, allowed_s=LOST_AFTER_S + 2 * RESTART_S),
    Fault("SN restarted", sn_restarted, allowed_s=LOST_AFTER_S + 2 * RESTART_S),
    Fault("geth killed", geth_killed, allowed_s=LOST_AFTER_S + 2 * RESTART_S),
    Fault("geth stopped", geth_stopped, allowed_s=LOST_AFTER_S + 2 * RESTART_S),
    Fault("everything killed", everything_killed, allowed_s=LOST_AFTER_S + 2 * RESTART_S),
)


# --- several SNs -------------------------------------------------------------------------------------------------


def sn_lost(which: str) -> Inject:
    """One of three is gone: its SLs go on through another. It comes back while they train, or after."""

    async def inject(ground: Ground) -> None:
        world, traffic = ground.world, ground.traffic
        sn = world.sns[0] if which == "the sentinel" else ground.dice.choice(world.sns[1:])
        moment = ground.dice.choice(["merging", "round accepted"])
        process = world.nodes[sn].process
        trap = Trap(f"{sn} {moment}", {"event": moment}, traffic.accepted + 1, (sn,), traffic.contract)
        await traffic.spring_in(trap, world.traps, process)
        process.kill()
        await process.wait(10.0)
        ground.hits(f"{sn} at '{moment}'")
        await traffic.rounds(2)
        if ground.dice.random() < 0.5:
            await world.restart(sn)
            return
        ground.went.hit += " until the end"
        ground.healing.append(lambda: world.restart(sn))

    return inject


async def sn_data_lost(ground: Ground) -> None:
    """Its disk is gone too: it joins as at its first start."""
    world, sn = ground.world, ground.dice.choice(ground.world.sns[1:])
    process = world.nodes[sn].process
    process.kill()
    await process.wait(10.0)
    await world.forget(sn)
    ground.hits(f"{sn} with all its data")
    await ground.traffic.rounds(1)
    await world.restart(sn)


SN_FAILOVER_S = LOST_AFTER_S + 2 * RESTART_S

FAULTS_OF_SEVERAL_SNS = (
    Fault("sentinel lost", sn_lost("the sentinel"), sns=3, alone=True, allowed_s=SN_FAILOVER_S),
    Fault("one SN of three lost", sn_lost("another"), sns=3, alone=True, allowed_s=SN_FAILOVER_S),
    Fault("one SN of three lost with its data", sn_data_lost, sns=3, alone=True, allowed_s=SN_FAILOVER_S),
    Fault("one SN of three stopped", sn_stopped, sns=3, alone=True, allowed_s=SN_FAILOVER_S),
    Fault("one SN of three restarted", sn_restarted, sns=3, alone=True, allowed_s=SN_FAILOVER_S),
    Fault("one geth of three killed", geth_killed, sns=3, alone=True, allowed_s=SN_FAILOVER_S),
)
