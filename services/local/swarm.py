"""`swarm up`: starts a whole swarm on this machine, watches over it, and stops it in order."""

import asyncio
import contextlib
import itertools
import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.errors import MLChannelError, NetworkError, NeverTrained, SwarmError, TooFewSLs
from services.identity.authority import IssuedFiles
from services.local.certificates import admin_identity, certificates
from services.local.forking import OF_NODES, OF_SLS, OF_SNS, fork_server
from services.local.plan import ADMIN, HOST, LICENSE_SERVER, SN, STAGES, SWCI, SwarmPlan
from services.local.process import Child, Launch, Starter
from services.local.state import Running, SwarmState, claimed, remember_ports, remembered_ports
from services.local.swops import end_tasks, profile_of
from services.local.view import SwarmView
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.runtime.ready import ReadySocket

CONTRACT = "defaultbb.cqdb.sml.hpe"

# For each node and program, twice: the current log and the previous one.
LOG_LIMIT_BYTES = 64 * 2**20
ROTATE_EVERY_S = 60.0
SETTLE_S = 10.0  # an SL ends within this after its program succeeds, unless the program never used it
PARTNER_S = 3.0  # if one of a pair fails, the other may know why
RECONNECT_S = 0.5

WhenDone = Callable[[], Awaitable[None]]


async def leave() -> None:
    """What `swarm up` does when its training is over: nothing more."""


async def stay() -> None:
    """What it does if the SN should continue."""
    await asyncio.Event().wait()


async def up(
    plan: SwarmPlan, view: SwarmView, stop: asyncio.Event, when_done: WhenDone = leave, ready: ReadySocket | None = None
) -> bool:
    """Runs the swarm of ``plan`` until its training is over and ``when_done`` has returned (True), or until
    ``stop`` is set (False). ``ready`` reports the port of the SN once all SLs are ready.

    Everything that was started is stopped when this returns or raises: programs, SLs, SN, license server.

    If a pair of SL and program fails, the swarm ends, unless at least minPeers are left: then these train to the end
    first. Raises AlreadyRunning, DirUnusable, SettingsError before anything starts; ChildFailed, NotReady,
    NeverTrained.
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

    def __init__(self, plan: SwarmPlan, view: SwarmView, when_done: WhenDone, ready: ReadySocket | None) -> None:
        self._plan = plan
        self._view = view
        self._when_done = when_done
        self._ready = ready
        self._children: dict[str, Child] = {}
        self._ports: dict[str, int] = {}
        self._chain = ""
        self._clients: list[SNClient] = []
        self._stopping = False
        self._broken: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._lost: dict[str, Child] = {}  # which child of a pair failed first, by the pair's number
        self._judging: list[asyncio.Task[None]] = []

    async def run_until(self, stop: asyncio.Event) -> bool:
        """True: the training is over. False: ``stop`` came first."""
        work = asyncio.create_task(self._work())
        stopped = asyncio.create_task(stop.wait())
        rotating = asyncio.create_task(self._rotate_logs())
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
            for task in (work, stopped, rotating):
                task.cancel()
            await asyncio.gather(work, stopped, rotating, return_exceptions=True)

    async def stop(self) -> None:
        """Stops programs, SWOPs, SLs, SNs, then the license server; reports which had to be killed."""
        self._stopping = True
        await self._end_tasks()
        for role in STAGES:
            stage = [
                child for name, child in self._children.items() if name.startswith(role) and not child.exited.done()
            ]
            for child, killed in zip(stage, await asyncio.gather(*(child.stop() for child in stage)), strict=True):
                self._view.say(f"{child.name} {'did not stop and was killed' if killed else 'has stopped'}")
        SwarmState.forget(self._plan.directory)

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(ROTATE_EVERY_S)
            for child in list(self._children.values()):
                try:
                    child.rotate_log(LOG_LIMIT_BYTES)
                except OSError as error:
                    self._view.say(f"{child.log} grows on: {error.strerror}")

    async def _end_tasks(self) -> None:
        """Ends the tasks of SWOPs, as what a SWOP has started would continue after it stops."""
        swops = [name for name in self._plan.swops if name in self._children and not self._children[name].exited.done()]
        if not (swops and self._sn_address):
            return
        try:
            async with SNClient(self._sn_address, admin_identity(self._plan.directory, ADMIN)) as client:
                await end_tasks(client, swops)
        except (SwarmError, TimeoutError) as error:
            self._view.say(f"what {', '.join(swops)} started may go on: {error or 'it did not end in time'}")

    async def _work(self) -> None:
        plan = self._plan
        files = certificates(plan)
        had = remembered_ports(plan.directory, HOST)
        # All are started at once, as loading their code takes most of a second. They begin in the order in which they
        # need each other; each is told the ports of those before it.
        license_server = self._start(plan.license_server(files[LICENSE_SERVER], had.get(LICENSE_SERVER, 0)))
        async with fork_server(plan.log("forks"), OF_NODES + OF_SNS) as forks:
            sns = [
                self._start(plan.sn(index, files[name], free_port=had.get(name, 0)), forks)
                for index, name in enumerate(plan.sns)
            ]
            await self._ready_node(license_server)
            sns[0].go(apls_port=self._ports[LICENSE_SERVER])
            if not plan.swop_count:
                await forks.load(OF_SLS)  # meanwhile the sentinel starts geth, which takes longest
            sls = [
                self._start(plan.sl(index, files[name], free_port=had.get(name, 0)), forks)
                for index, name in enumerate(() if plan.swop_count else plan.sls)
            ]
        await self._sns_ready(sns)
        async with contextlib.AsyncExitStack() as stack:
            admin = admin_identity(plan.directory, ADMIN)
            for name in plan.sns:
                address = f"{HOST}:{self._ports[name]}"
                self._clients.append(await stack.enter_async_context(SNClient(address, admin)))
            client = self._clients[0]
            self._chain = (await client.network.GetInfo(pb.GetInfoRequest())).chain
            self._remember()
            self._view.say(f"the chain is {self._chain}")
            self._view.connected(client, self._chain)
            await self._make_room(client)
            watching = asyncio.create_task(self._watch())
            try:
                started = await self._start_pairs(sls)
                await self._begin_swops(files)
                remember_ports(plan.directory, self._ports)
                if plan.swop_count:
                    self._view.say(how_to_command(plan, files[SWCI], self._ports[SN], self._ports[LICENSE_SERVER]))
                elif not plan.command:
                    self._view.say(how_to_attach(plan))
                if self._ready is not None:
                    self._ready.report(port=self._ports[SN])
                if plan.swop_count:
                    await asyncio.Event().wait()  # tasks come and go; it runs until it is stopped
                await asyncio.gather(*(self._finish_pair(sl, program) for sl, program in started))
                await asyncio.gather(*self._judging)
                if self._broken.done():
                    return
                self._view.update(await self._status())
                self._view.say("the training is over")
                if self._lost:
                    raise await self._cause(next(iter(self._lost.values())))
                await self._when_done()
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _sns_ready(self, sns: list[Child]) -> None:
        """Waits for the sentinel, which has begun, then for all others at once, which join through it."""
        sentinel, *others = sns
        await self._ready_node(sentinel)
        for sn in others:
            sn.go(apls_port=self._ports[LICENSE_SERVER], sentinel_api_port=self._ports[sentinel.name])
        await asyncio.gather(*(self._ready_node(sn) for sn in others))

    async def _begin_swops(self, files: Mapping[str, IssuedFiles]) -> None:
        """Starts the SWOPs, each with a profile for its pairs."""
        plan, license = self._plan, self._ports[LICENSE_SERVER]
        swops = []
        plan.usr_dir.mkdir(parents=True, exist_ok=True)
        for index, name in enumerate(plan.swops):
            sn_port = self._ports[plan.sns[index % plan.sn_count]]
            pairs = [files[sl] for sl in plan.sls_of(index)]
            text = profile_of(
                name, pairs, HOST, license_port=license, sn_port=sn_port, images=plan.images,
                indexes=[plan.sls.index(sl) for sl in plan.sls_of(index)],
            )  # fmt: skip
            (plan.usr_dir / plan.profile(index)).write_text(text)
            swops.append(self._start(plan.swop(index, files[name], license, sn_port)))
        await asyncio.gather(*(self._ready_node(swop) for swop in swops))

    async def _ready_node(self, child: Child) -> None:
        facts = await child.ready()
        port = self._ports[child.name] = int(facts.get("port", 0))
        self._remember()
        self._view.say(f"{child.name} is ready" + (f" on port {port}" if port else ""))

    async def _start_pairs(self, sls: list[Child]) -> list[tuple[Child, Child | None]]:
        """Starts all pairs. If one fails, no further program is started."""
        starting = [asyncio.create_task(self._start_pair(index, sl)) for index, sl in enumerate(sls)]
        try:
            return await asyncio.gather(*starting)
        finally:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)

    async def _start_pair(self, index: int, sl: Child) -> tuple[Child, Child | None]:
        """Lets an SL begin, and starts its program as soon as the SL is ready."""
        sn = self._plan.sns[index % self._plan.sn_count]
        sl.go(apls_port=self._ports[LICENSE_SERVER], sn_api_port=self._ports[sn])
        await self._ready_node(sl)
        if not self._plan.command:
            return sl, None
        program = self._start(self._plan.program(index))
        self._view.say(f"{program.name} has started, its output is in {program.log}")
        return sl, program

    async def _finish_pair(self, sl: Child, program: Child | None) -> None:
        """Waits for both to end; ``_ended`` handles exit codes other than 0. Raises NeverTrained if the program has
        ended without training and so leaves its SL waiting.
        """
        if program is not None:
            if await program.wait():
                return
            await asyncio.wait({sl.exited}, timeout=SETTLE_S)
            if not sl.exited.done() and not await self._takes_part(sl.name):
                raise NeverTrained(program=program.name, node=sl.name, log=program.log)
        await sl.wait()

    async def _takes_part(self, name: str) -> bool:
        status = await self._status()
        return any(node.name == name and node.active for node in status.participants)

    def _start(self, launch: Launch, starter: Starter | None = None) -> Child:
        child = Child.start(launch, starter)
        self._children[launch.name] = child
        child.exited.add_done_callback(lambda _: self._ended(child))
        self._remember()
        return child

    def _ended(self, child: Child) -> None:
        """Programs and SLs may end with 0, a pair may fail if enough are left, and more than half of several SNs
        continue without the rest. Anything else breaks the swarm.
        """
        if self._stopping:
            return
        well = child.exited.result() == 0 and child.name.startswith(("ml-", "sl-"))
        if child.name in self._plan.sns and self._ports.get(child.name):
            left = [name for name in self._plan.sns if not self._children[name].exited.done()]
            if 2 * len(left) > self._plan.sn_count:
                self._view.say(f"{child.name} has ended, {' and '.join(left)} go on; its log is {child.log}")
                return
        if well:
            return
        kind, _, number = child.name.partition("-")
        if kind not in ("ml", "sl"):
            self._break(child)
        elif self._lost.setdefault(number, child) is child:
            self._judging.append(asyncio.get_running_loop().create_task(self._judge(child)))

    def _break(self, child: Child) -> None:
        if not self._broken.done():
            self._broken.set_result(child)

    async def _judge(self, child: Child) -> None:
        """Decides whether the others continue without the pair of this failed child."""
        needed = 0
        with contextlib.suppress(SwarmError):  # then it is not known whether the others may continue
            needed = (await self._status()).config.min_peers if self._clients else 0
        left = [name for name in self._plan.sls if name.partition("-")[2] not in self._lost]
        if not needed or len(left) < needed:
            self._break(child)
            return
        what, _, _ = str(await self._cause(child)).partition(". ")
        self._view.say(f"{what}; {' and '.join(left)} go on without it, as minPeers is {needed}")

    async def _cause(self, first: Child) -> SwarmError:
        """The failure to show: if both of a pair failed, that of the one whose last lines say why."""
        kind, _, number = first.name.partition("-")
        partner = self._children.get(f"{'sl' if kind == 'ml' else 'ml'}-{number}") if kind in ("ml", "sl") else None
        if partner is None:
            return first.failure()
        await asyncio.wait({partner.exited}, timeout=PARTNER_S)
        if not partner.exited.done() or partner.exited.result() == 0:
            return first.failure()
        sl, program = (first, partner) if kind == "sl" else (partner, first)
        return (program if sl.exited.result() == MLChannelError.exit_code else sl).failure()

    async def _make_room(self, client: SNClient) -> None:
        """After an earlier run in this directory: resets a complete training, continues an interrupted one."""
        status = await self._status()
        if status.state == pb.RoundState.COMPLETE:
            await client.admin.ResetContract(pb.ResetContractRequest(name=CONTRACT))
            self._view.say("the last training here was complete: another one begins")
        elif status.state != pb.RoundState.UNCONFIGURED:
            self._view.say(f"a training was interrupted here and goes on in round {status.round}")

    async def _status(self) -> pb.TrainingStatus:
        """The training's state from the first SN that answers."""
        request = pb.GetStatusRequest(contract=CONTRACT)
        for client in self._clients[:-1]:
            with contextlib.suppress(NetworkError):
                return await client.training.GetStatus(request)
        return await self._clients[-1].training.GetStatus(request)

    async def _watch(self) -> None:
        """Watches the training through one SN, and through the next one when that is gone."""
        for client in itertools.cycle(self._clients):
            with contextlib.suppress(NetworkError):
                async for status in client.watch(CONTRACT):
                    self._view.update(status)
                    self._check_size(status.config.min_peers)
            await asyncio.wait({self._broken}, timeout=RECONNECT_S)

    def _check_size(self, min_peers: int) -> None:
        """If minPeers exceeds the number of SLs, all would wait for ever. Without a command, users may attach more."""
        if self._plan.command and min_peers > self._plan.sl_count and not (self._broken.done() or self._stopping):
            self._broken.set_exception(TooFewSLs(min_peers=min_peers, sls=self._plan.sl_count))

    @property
    def _sn_address(self) -> str:
        return f"{HOST}:{self._ports[SN]}" if SN in self._ports else ""

    def _remember(self) -> None:
        processes = tuple(Running.child(child, self._ports.get(name, 0)) for name, child in self._children.items())
        state = SwarmState(Running.this_process(), processes, self._sn_address, self._chain)
        state.write(self._plan.directory)


def how_to_command(plan: SwarmPlan, files: IssuedFiles, sn_port: int, license_port: int) -> str:
    """What to type to give tasks to this swarm."""
    words = [
        "swarm", "swci", "--usr-dir", str(plan.usr_dir), "--sn-ip", HOST, "--sn-api-port", str(sn_port),
        "--apls-ip", HOST, "--apls-port", str(license_port), "--data-dir", str(plan.directory / SWCI),
        "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert),
    ]  # fmt: skip
    lines = [f"The swarm is ready, {', '.join(plan.swops)} wait for tasks. Command it in another shell:", ""]
    lines += [f"  {shlex.join(words)}", "", f"Ctrl-C here, or `swarm down --dir {plan.directory}`, stops it."]
    return "\n".join(lines)


def how_to_attach(plan: SwarmPlan) -> str:
    """What to type to train with this swarm."""
    lines = ["The swarm is ready. Start a training script for each SL, in shells of their own:", ""]
    for index, name in enumerate(plan.sls):
        variables = " ".join(f"{key}={shlex.quote(value)}" for key, value in plan.channel_variables(index).items())
        lines.append(f"  {name}:  {variables} python train.py")
    lines += ["", f"Ctrl-C here, or `swarm down --dir {plan.directory}`, stops it."]
    return "\n".join(lines)
