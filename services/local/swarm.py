"""`swarm up`: starts a whole swarm on this machine, watches over it, and stops it in order."""

import asyncio
import contextlib
import shlex
from collections.abc import Awaitable, Callable
from typing import Any

from services.errors import ChannelError, NetworkError, NeverTrained, SwarmError
from services.local.certificates import admin_identity, certificates
from services.local.plan import ADMIN, HOST, LICENSE_SERVER, SN, Plan
from services.local.process import Child, Launch
from services.local.state import Running, SwarmState, claimed, remember_ports, remembered_ports
from services.local.view import View
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.runtime.ready import ReadySocket

CONTRACT = "defaultbb.cqdb.sml.hpe"
SETTLE_S = 10.0  # an SL whose program has ended well ends within this, or the program never used it
PARTNER_S = 3.0  # when one of a pair fails, the other one may know why
RECONNECT_S = 0.5

WhenDone = Callable[[], Awaitable[None]]


async def leave() -> None:
    """What `swarm up` does when its training is over: nothing more."""


async def stay() -> None:
    """What it does where the SN shall run on."""
    await asyncio.Event().wait()


async def up(
    plan: Plan, view: View, stop: asyncio.Event, when_done: WhenDone = leave, ready: ReadySocket | None = None
) -> bool:
    """Runs the swarm of ``plan`` until its training is over and ``when_done`` has returned (True), or until
    ``stop`` is set (False). ``ready`` reports the port of the SN once all SLs are ready.

    Everything that was started is stopped when this returns or raises: programs, SLs, SN, license server.
    Raises AlreadyRunning, DirUnusable, SettingsError before anything starts; ChildFailed, NotReady, NeverTrained.
    """
    plan.check()
    with claimed(plan.directory):
        swarm = LocalSwarm(plan, view, when_done, ready)
        try:
            return await swarm.run_until(stop)
        finally:
            await swarm.stop()
            view.close()


class LocalSwarm:
    """The children of one plan, from the first to be started to the last to be stopped."""

    def __init__(self, plan: Plan, view: View, when_done: WhenDone, ready: ReadySocket | None) -> None:
        self._plan = plan
        self._view = view
        self._when_done = when_done
        self._ready = ready
        self._children: dict[str, Child] = {}
        self._ports: dict[str, int] = {}
        self._chain = ""
        self._stopping = False
        self._broken: asyncio.Future[Child] = asyncio.get_running_loop().create_future()

    async def run_until(self, stop: asyncio.Event) -> bool:
        """True: the training is over. False: ``stop`` came first."""
        work = asyncio.create_task(self._work())
        stopped = asyncio.create_task(stop.wait())
        waiting: set[asyncio.Future[Any]] = {work, stopped, self._broken}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                raise await self._cause(self._broken.result())
            if work.done():
                work.result()
                return True
            return False
        finally:
            for task in (work, stopped):
                task.cancel()
            await asyncio.gather(work, stopped, return_exceptions=True)

    async def stop(self) -> None:
        """Programs, then SLs, then the SN, then the license server; says who had to be killed."""
        self._stopping = True
        for role in ("ml-", "sl-", SN, LICENSE_SERVER):
            stage = [
                child for name, child in self._children.items() if name.startswith(role) and not child.exited.done()
            ]
            for child, killed in zip(stage, await asyncio.gather(*(child.stop() for child in stage)), strict=True):
                self._view.say(f"{child.name} {'did not stop and was killed' if killed else 'has stopped'}")
        SwarmState.forget(self._plan.directory)

    async def _work(self) -> None:
        plan = self._plan
        files = certificates(plan)
        had = remembered_ports(plan.directory, HOST)
        # All at once, for each takes most of a second to load its code; they begin in the order in which they need
        # each other, each told the ports of those before it.
        license_server = self._start(plan.license_server(files[LICENSE_SERVER], had.get(LICENSE_SERVER, 0)))
        sn = self._start(plan.sn(files[SN], free_port=had.get(SN, 0)))
        sls = [
            self._start(plan.sl(index, files[name], free_port=had.get(name, 0))) for index, name in enumerate(plan.sls)
        ]
        await self._ready_node(license_server)
        sn.go(apls_port=self._ports[LICENSE_SERVER])
        await self._ready_node(sn)
        async with SNClient(self._sn_address, admin_identity(plan.directory, ADMIN)) as client:
            self._chain = (await client.network.GetInfo(pb.GetInfoRequest())).chain
            self._remember()
            self._view.say(f"the chain is {self._chain}")
            self._view.connected(client, self._chain)
            await self._make_room(client)
            watching = asyncio.create_task(self._watch(client))
            try:
                started = await asyncio.gather(*(self._start_pair(index, sl) for index, sl in enumerate(sls)))
                remember_ports(plan.directory, self._ports)
                if not plan.command:
                    self._view.say(how_to_attach(plan))
                if self._ready is not None:
                    self._ready.report(port=self._ports[SN])
                await asyncio.gather(*(self._finish_pair(sl, program, client) for sl, program in started))
                self._view.update(await self._status(client))
                self._view.say("the training is over")
                await self._when_done()
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _ready_node(self, child: Child) -> None:
        facts = await child.ready()
        self._ports[child.name] = int(facts.get("port", 0))
        self._remember()
        self._view.say(f"{child.name} is ready on port {self._ports[child.name]}")

    async def _start_pair(self, index: int, sl: Child) -> tuple[Child, Child | None]:
        """Lets an SL begin, and starts its program as soon as the SL is ready."""
        sl.go(apls_port=self._ports[LICENSE_SERVER], sn_api_port=self._ports[SN])
        await self._ready_node(sl)
        if not self._plan.command:
            return sl, None
        program = self._start(self._plan.program(index))
        self._view.say(f"{program.name} has started, its output is in {program.log}")
        return sl, program

    async def _finish_pair(self, sl: Child, program: Child | None, client: SNClient) -> None:
        """Both end with 0. A program that ends without ever having trained leaves its SL waiting: that is an error."""
        if program is not None:
            await program.wait()
            await asyncio.wait({sl.exited}, timeout=SETTLE_S)
            if not sl.exited.done() and not await self._takes_part(sl.name, client):
                raise NeverTrained(program=program.name, node=sl.name, log=program.log)
        await sl.wait()

    async def _takes_part(self, name: str, client: SNClient) -> bool:
        status = await self._status(client)
        return any(node.name == name and node.active for node in status.participants)

    def _start(self, launch: Launch) -> Child:
        child = Child.start(launch)
        self._children[launch.name] = child
        child.exited.add_done_callback(lambda _: self._ended(child))
        self._remember()
        return child

    def _ended(self, child: Child) -> None:
        """Programs and SLs may end well; anything else breaks the swarm."""
        well = child.exited.result() == 0 and child.name.startswith(("ml-", "sl-"))
        if not well and not self._stopping and not self._broken.done():
            self._broken.set_result(child)

    async def _cause(self, first: Child) -> SwarmError:
        """The failure to show: of a pair that failed together, the one whose last lines say why."""
        kind, _, number = first.name.partition("-")
        partner = self._children.get(f"{'sl' if kind == 'ml' else 'ml'}-{number}") if kind in ("ml", "sl") else None
        if partner is None:
            return first.failure()
        await asyncio.wait({partner.exited}, timeout=PARTNER_S)
        if not partner.exited.done() or partner.exited.result() == 0:
            return first.failure()
        sl, program = (first, partner) if kind == "sl" else (partner, first)
        return (program if sl.exited.result() == ChannelError.exit_code else sl).failure()

    async def _make_room(self, client: SNClient) -> None:
        """What an earlier run in this directory left: a complete training makes room, an interrupted one goes on."""
        status = await self._status(client)
        if status.state == pb.RoundState.COMPLETE:
            await client.admin.ResetContract(pb.ResetContractRequest(name=CONTRACT))
            self._view.say("the last training here was complete: another one begins")
        elif status.state != pb.RoundState.UNCONFIGURED:
            self._view.say(f"a training was interrupted here and goes on in round {status.round}")

    async def _status(self, client: SNClient) -> pb.TrainingStatus:
        return await client.training.GetStatus(pb.GetStatusRequest(contract=CONTRACT))

    async def _watch(self, client: SNClient) -> None:
        seen = 0
        while True:
            with contextlib.suppress(NetworkError):
                async for status in client.watch(CONTRACT, seen):
                    seen = status.version
                    self._view.update(status)
            await asyncio.wait({self._broken}, timeout=RECONNECT_S)

    @property
    def _sn_address(self) -> str:
        return f"{HOST}:{self._ports[SN]}" if SN in self._ports else ""

    def _remember(self) -> None:
        processes = tuple(Running.child(child, self._ports.get(name, 0)) for name, child in self._children.items())
        state = SwarmState(Running.this_process(), processes, self._sn_address, self._chain)
        state.write(self._plan.directory)


def how_to_attach(plan: Plan) -> str:
    """What to type to train with this swarm."""
    lines = ["The swarm is ready. Start a training script for each SL, in shells of their own:", ""]
    for index, name in enumerate(plan.sls):
        variables = " ".join(f"{key}={shlex.quote(value)}" for key, value in plan.channel_variables(index).items())
        lines.append(f"  {name}:  {variables} python train.py")
    lines += ["", f"Ctrl-C here, or `swarm down --dir {plan.directory}`, stops it."]
    return "\n".join(lines)
