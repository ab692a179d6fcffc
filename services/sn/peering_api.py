"""Service Peering: what SNs ask each other."""

from collections.abc import AsyncIterator
from typing import Any

from services.errors import ServesOneSN
from services.rpc import swarm_pb2 as pb
from services.rpc.server import caller
from services.sn import requests
from services.sn.admission import admit
from services.sn.api import ApiContext
from services.sn.fetching import block_pages
from services.sn.membership import DirectoryMember
from services.sn.peering import Peering


class PeeringApi:
    """``peering``: None if the chain serves one SN only."""

    def __init__(self, context: ApiContext, peering: Peering | None) -> None:
        self._context = context
        self._peering = peering

    async def Join(self, request: pb.JoinRequest, _context: Any) -> pb.JoinReply:
        who, trainings = self._context.caller(), self._context.trainings
        federation = trainings.chain.federation
        if federation is None or self._peering is None:
            raise self._alone()
        block = await admit(who, request.account, trainings, federation)
        return pb.JoinReply(
            name=self._context.name,
            genesis=federation.genesis,
            chain_id=trainings.chain.chain_id,
            network_contract=trainings.network.address,
            block=block,
            sns=[_address(member) for member in trainings.membership.sns() if member.present],
        )

    async def Meet(self, request_iterator: AsyncIterator[pb.PeerNews], context: Any) -> AsyncIterator[pb.PeerNews]:
        if self._peering is None:
            raise self._alone()
        self._context.trainings.membership.check_key(self._context.caller())
        async for news in self._peering.serve(
            request_iterator, caller().name, context, organization=caller().organization
        ):
            yield news

    async def FindHolder(self, request: pb.FindHolderRequest, _context: Any) -> pb.FindHolderReply:
        self._context.caller()
        address = await self._context.names.found(
            request.role, request.name, requests.process(request.process), requests.reason(request.address)
        )
        return pb.FindHolderReply(held=bool(address), address=address)

    async def GetBlocks(self, request: pb.GetBlocksRequest, _context: Any) -> AsyncIterator[pb.BlocksPage]:
        federation = self._context.trainings.chain.federation
        if federation is None:
            raise self._alone()
        async for page in block_pages(federation, request.since):
            yield page

    def _alone(self) -> ServesOneSN:
        return ServesOneSN(name=self._context.name, kind=self._context.trainings.chain.kind)


def _address(member: DirectoryMember) -> pb.SnAddress:
    return pb.SnAddress(name=member.name, host=member.host, port=member.port)
