"""Commands about training contracts."""

from typing import ClassVar

from services.rpc import swarm_pb2 as pb
from services.rpc.measures import shown
from services.swci import translation
from services.swci.grammar.command import Command, Group, Say
from services.swci.grammar.kinds import CONTRACT, ORGANIZATION_NAMES, argument
from services.swci.session import CommandSession
from services.swci.wording import facts, size, table, yes
from swarmlearning.swci import models

KIND = "training"
NONE = "-"


class ContractCommand(Command):
    group = Group.CONTRACT


class CreateContract(ContractCommand):
    """Deploy and register a training contract. It is permanent: contracts are never deleted."""

    syntax: ClassVar[str] = "CREATE CONTRACT <name>"

    name: str = argument(CONTRACT)

    async def run(self, session: CommandSession, say: Say) -> models.Contract:
        client = await session.sn()
        reply = await client.admin.CreateContract(pb.CreateContractRequest(name=self.name))
        return models.Contract(self.name, KIND, reply.location)

    def show(self, result: models.Contract) -> list[str]:
        return [f"CONTRACT CREATED : {result.name}", f"LOCATION : {result.location}"]


class CreateContractFor(ContractCommand):
    """Deploy and register a training contract in which only SLs of these organizations may enrol, such as "a, b"."""

    syntax: ClassVar[str] = "CREATE CONTRACT <name> FOR <organizations>"

    name: str = argument(CONTRACT)
    organizations: str = argument(ORGANIZATION_NAMES)

    async def run(self, session: CommandSession, say: Say) -> models.Contract:
        client = await session.sn()
        names = [name.strip() for name in self.organizations.split(",")]
        reply = await client.admin.CreateContract(pb.CreateContractRequest(name=self.name, organizations=names))
        return models.Contract(self.name, KIND, reply.location, names)

    def show(self, result: models.Contract) -> list[str]:
        created = [f"CONTRACT CREATED : {result.name}", f"LOCATION : {result.location}"]
        return [*created, f"ORGANIZATIONS : {', '.join(result.organizations)}"]


class ListContracts(ContractCommand):
    """List the training contracts of the swarm."""

    syntax: ClassVar[str] = "LIST CONTRACTS"

    async def run(self, session: CommandSession, say: Say) -> models.Contracts:
        client = await session.sn()
        entries = (await client.network.ListContracts(pb.ListContractsRequest())).contracts
        return models.Contracts([translation.contract(entry) for entry in entries if entry.kind == KIND])

    def show(self, result: models.Contracts) -> list[str]:
        columns, rows = ["CONTRACT", "LOCATION"], [[it.name, it.location] for it in result.contracts]
        if any(it.organizations for it in result.contracts):
            columns.append("ORGANIZATIONS")
            named = [", ".join(it.organizations) or "all" for it in result.contracts]
            rows = [[*row, names] for row, names in zip(rows, named, strict=True)]
        return table(columns, rows)


class GetContractInfo(ContractCommand):
    """Show the configuration of a training, as set by the first node that enrolled."""

    syntax: ClassVar[str] = "GET CONTRACT INFO <name>"

    name: str = argument(CONTRACT)

    async def run(self, session: CommandSession, say: Say) -> models.ContractInfo:
        return translation.contract_info(await training(session, self.name))

    def show(self, result: models.ContractInfo) -> list[str]:
        known = [("CONTRACT", result.name), ("LOCATION", result.location), ("CONFIGURED", yes(result.configured))]
        if not result.configured:
            return facts(known)
        agreed = [
            ("MIN PEERS", result.min_peers),
            ("SYNC FREQUENCY", f"{result.sync_frequency} batches"),
            ("ADAPTIVE SYNC", yes(result.adaptive_sync)),
            ("MERGE METHOD", result.merge_method),
            ("TRANSFER COMPRESSION", result.transfer_compression),
            ("WAIT FOR FULL QUORUM", f"{result.quorum_wait_s:g} s"),
            ("MODEL LAYOUT", f"{result.layout[:16]} by {result.layout_by}" if result.layout else NONE),
            ("PARTICIPANTS", ", ".join(result.participants) or NONE),
        ]
        return facts([*known, *agreed])


class GetContractStatus(ContractCommand):
    """Show the state of a training: the running round, its leader, who is awaited, and the last result."""

    syntax: ClassVar[str] = "GET CONTRACT STATUS <name>"

    name: str = argument(CONTRACT)

    async def run(self, session: CommandSession, say: Say) -> models.ContractStatus:
        return translation.contract_status(await training(session, self.name))

    def show(self, result: models.ContractStatus) -> list[str]:
        lines = facts(
            [
                ("CONTRACT", result.name),
                ("STATE", result.state),
                ("SUMMARY", result.summary),
                ("ROUND", result.round),
                ("LEADER", result.leader or NONE),
                ("MIN PEERS", result.min_peers),
                ("CHECKED IN", ", ".join(result.checked_in) or NONE),
                ("AWAITED", ", ".join(result.awaited) or NONE),
                ("MERGE PROGRESS", _progress(result.progress)),
                ("LAST RESULT", _last(result.last_round)),
            ]
        )
        if not result.participants:
            return lines
        columns = ["UID", "STATE", "ROUND", "LOSS", "METRIC", "EPOCHS", "ADDRESS"]
        rows = [
            [it.uid, it.doing, it.round or NONE, shown(it.loss, ".4f"), shown(it.metric, ".4f"),
             _epochs(it.epochs_done, it.epochs_total), f"{it.host}:{it.port}" if it.host else NONE]
            for it in result.participants
        ]  # fmt: skip
        if any(it.organization for it in result.participants):
            columns.append("ORGANIZATION")
            rows = [[*row, it.organization or NONE] for row, it in zip(rows, result.participants, strict=True)]
        return [*lines, "", *table(columns, rows)]


class ResetContract(ContractCommand):
    """Reset a training to its beginning. Only when it is complete, or everyone has left it.

    It is needed before the contract is used again.
    """

    syntax: ClassVar[str] = "RESET CONTRACT <name>"

    name: str = argument(CONTRACT)

    async def run(self, session: CommandSession, say: Say) -> models.Message:
        client = await session.sn()
        await client.admin.ResetContract(pb.ResetContractRequest(name=self.name))
        return models.Message(f"CONTRACT RESET : {self.name}")

    def show(self, result: models.Message) -> list[str]:
        return [result.text]


class PerfData(ContractCommand):
    """Show loss, metric and epochs of each SL-ML pair of a training, as they last reported them."""

    syntax: ClassVar[str] = "PERFDATA <name>"

    name: str = argument(CONTRACT)

    async def run(self, session: CommandSession, say: Say) -> models.PerformanceData:
        return translation.performance(await training(session, self.name))

    def show(self, result: models.PerformanceData) -> list[str]:
        if not result.pairs:
            return [f"Nobody has enrolled in {result.contract} yet."]
        columns = ("UID", "SL ADMIN", "ROUND", "LOSS", "METRIC", "TOTAL EPOCHS", "COMPLETED EPOCHS")
        rows = [
            (it.uid, yes(it.sl_admin), it.round or NONE, shown(it.loss, ".4f"), shown(it.metric, ".4f"),
             it.epochs_total or NONE, it.epochs_done)
            for it in result.pairs
        ]  # fmt: skip
        return table(columns, rows)


async def training(session: CommandSession, name: str) -> pb.TrainingStatus:
    """Raises UnknownContract, and the SN's errors."""
    client = await session.sn()
    return await client.training.GetStatus(pb.GetStatusRequest(contract=name))


def _epochs(done: int, total: int) -> str:
    if not done and not total:
        return NONE
    return f"{done}/{total}" if total else str(done)


def _progress(progress: models.MergeProgress | None) -> str:
    if progress is None:
        return NONE
    return f"{size(progress.bytes_done)} of {size(progress.bytes_total)}"


def _last(result: models.Round | None) -> str:
    if result is None:
        return NONE
    left_out = "; left out " + ", ".join(f"{it.uid} ({it.reason})" for it in result.left_out) if result.left_out else ""
    merged = f"led by {result.leader}, merged {' '.join(result.merged)}{left_out}"
    return f"round {result.round}, {size(result.size)}, digest {result.digest[:16]}, {merged}"
