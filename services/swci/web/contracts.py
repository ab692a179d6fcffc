"""/api/v1/contracts: trainings, their rounds and their performance."""

from collections.abc import AsyncGenerator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import Field

from services.rpc.client import SNClient
from services.swci import translation
from services.swci.commands import contract as commands
from services.swci.following import follow
from services.swci.web import events
from services.swci.web.caller import TheSession
from services.swci.web.routes import Body, Name, NameInBody, run
from swarmlearning.swci import models

router = APIRouter()


class ContractToMake(Body):
    """``organizations``: whose SLs may take part; empty: all."""

    name: NameInBody
    organizations: list[NameInBody] = Field(default_factory=list)


@router.get("/contracts")
async def contracts(session: TheSession) -> models.Contracts:
    return await run(commands.ListContracts(), session)


@router.post("/contracts", status_code=201)
async def create(session: TheSession, wanted: ContractToMake) -> models.Contract:
    """A contract is permanent."""
    if wanted.organizations:
        command = commands.CreateContractFor(name=wanted.name, organizations=", ".join(wanted.organizations))
        return await run(command, session)
    return await run(commands.CreateContract(name=wanted.name), session)


@router.get("/contracts/{name:path}/status")
async def status(session: TheSession, name: Name) -> models.ContractStatus:
    return await run(commands.GetContractStatus(name=name), session)


@router.get("/contracts/{name:path}/performance")
async def performance(session: TheSession, name: Name) -> models.PerformanceData:
    return await run(commands.PerfData(name=name), session)


@router.get("/contracts/{name:path}/rounds")
async def rounds(session: TheSession, name: Name) -> models.Rounds:
    """All accepted rounds, from the record on the chain."""
    client = await session.sn()
    return translation.rounds(name, [event async for page in client.record(name) for event in page.events])


@router.get(
    "/contracts/{name:path}/events", response_class=StreamingResponse, responses=events.described(models.ContractStatus)
)
async def watch(session: TheSession, name: Name) -> StreamingResponse:
    """Streams the state of the training, now and after each change."""
    return await events.answer(_states(await session.sn(), name))


@router.post("/contracts/{name:path}/reset")
async def reset(session: TheSession, name: Name) -> models.Message:
    """Resets a training that is complete or that everyone has left."""
    return await run(commands.ResetContract(name=name), session)


# A name may contain slashes, so this route comes after all with the same beginning.
@router.get("/contracts/{name:path}")
async def info(session: TheSession, name: Name) -> models.ContractInfo:
    return await run(commands.GetContractInfo(name=name), session)


async def _states(client: SNClient, name: str) -> AsyncGenerator[models.ContractStatus]:
    followed = follow(lambda seen: client.watch(name, seen), client.address, lambda _line: None)
    try:
        async for state in followed:
            yield translation.contract_status(state)
    finally:
        await followed.aclose()
