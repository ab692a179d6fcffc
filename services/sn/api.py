"""The API on port 30304. A handler parses, asks and answers; roles.py says which roles may make which call."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from services.errors import ChainError, MalformedCall, NameInUse, NotAMember, VotesForAnother
from services.identity.peers import TrustBundle
from services.rpc import swarm_pb2 as pb
from services.rpc.server import caller, calling_process
from services.runtime import logs
from services.sn import ballot, record, requests
from services.sn.copies import require_copy
from services.sn.handing_over import hand_over, replace_key
from services.sn.live import LiveTraining
from services.sn.membership import Caller, DirectoryMember
from services.sn.names import Holder, Names
from services.sn.taskrunners import TaskRunners
from services.sn.trainings import Trainings

# Nobody connects to these: they may register without an address.
UNREACHED_ROLES = frozenset({"swop", "swci"})

FIRST_MESSAGE_S = 10.0

SHOWN_WITHIN_S = 3.0  # what people look at while the chain may be away

_log = logs.get("sn")


@dataclass(frozen=True)
class ApiContext:
    """What handlers use. ``name``, ``organization``: of this SN. ``trust``: what it trusts now."""

    name: str
    organization: str
    trust: Callable[[], TrustBundle]
    trainings: Trainings
    runners: TaskRunners
    names: Names

    def caller(self) -> Caller:
        """Who calls. Also notes that this SN has heard from the caller."""
        peer = caller()
        who = Caller(peer.role, peer.name, bytes.fromhex(peer.fingerprint), peer.organization)
        membership = self.trainings.membership
        membership.heard(who, time.time())
        membership.certificate_ends[who.role, who.name] = 0.0 if peer.is_known_by_id else peer.certificate_ends
        return who

    def node(self) -> Caller:
        """The caller, if it may write in its own name. Raises NameInUse if its process has lost the name to another
        one.
        """
        who = self.caller()
        self.names.require(who, calling_process())
        return who

    def participant(self, contract: str) -> tuple[Caller, LiveTraining]:
        """A registered caller and the training it names. Raises NotAMember, NameTaken, NameInUse, UnknownContract."""
        who = self.node()
        member = self.trainings.membership.admit(who)
        return replace(who, fingerprint=member.fingerprint), self.trainings.named(contract)


class NetworkApi:
    """Service Network."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    async def Register(self, request: pb.RegisterRequest, _context: Any) -> pb.RegisterReply:
        who, trainings = self._context.node(), self._context.trainings
        if request.host or request.port or who.role not in UNREACHED_ROLES:
            requests.address(request.host, request.port)
        await trainings.register(who, request.host, request.port, self._context.name)
        return pb.RegisterReply(sn=self._context.name, organization=who.organization)

    async def HandOver(self, request: pb.HandOverRequest, _context: Any) -> pb.HandOverReply:
        known = await hand_over(self._context.caller(), caller().spiffe_id, request.handovers, self._context.trainings)
        return pb.HandOverReply(fingerprint=known)

    async def Deregister(self, request: pb.DeregisterRequest, _context: Any) -> pb.DeregisterReply:
        await self._context.trainings.deregister(self._context.node(), requests.reason(request.reason))
        return pb.DeregisterReply()

    async def HoldName(
        self, request_iterator: AsyncIterator[pb.HoldNameRequest], context: Any
    ) -> AsyncIterator[pb.HoldNameReply]:
        who, names = self._context.caller(), self._context.names
        self._context.trainings.membership.check_key(who)
        peer = context.peer()  # asked now: gRPC may crash if the call has ended meanwhile
        address = requests.place(await _first(request_iterator), peer)
        holder = await names.claim(who, requests.process(calling_process()), address)
        # Called at once when the stream ends or its process is cut off; a generator is closed some time later.
        context.add_done_callback(lambda _context: names.drop(holder))
        answers = asyncio.create_task(_take_answers(holder, request_iterator))
        try:
            yield pb.HoldNameReply(expelled=self._expelled())
            async for question in holder.questions():
                yield pb.HoldNameReply(question=question, expelled=() if question else self._expelled())
        finally:
            answers.cancel()
            names.drop(holder)
            await asyncio.gather(answers, return_exceptions=True)  # a broken stream gives up the name; no error
        if holder.taken_by:
            raise NameInUse(name=who.name, address=holder.taken_by)

    def _expelled(self) -> list[pb.Expelled]:
        members = self._context.trainings.membership.expulsions.members
        return [pb.Expelled(role=role, name=name) for role, name in members]

    async def ListNodes(self, _request: pb.ListNodesRequest, _context: Any) -> pb.ListNodesReply:
        self._context.caller()
        membership, names, now = self._context.trainings.membership, self._context.names, time.time()
        return pb.ListNodesReply(
            nodes=[
                _node(
                    member,
                    last_heard=now if names.is_held(*key) else membership.last_heard.get(key, 0.0),
                    certificate_ends=membership.certificate_ends.get(key, 0.0),
                )
                for key, member in membership.members.items()
            ]
        )

    async def ListContracts(self, _request: pb.ListContractsRequest, _context: Any) -> pb.ListContractsReply:
        self._context.caller()
        return pb.ListContractsReply(
            contracts=[
                pb.ContractEntry(
                    name=entry.name, kind=entry.kind, location=entry.location, organizations=entry.organizations
                )
                for entry in self._context.trainings.entries
            ]
        )

    async def GetInfo(self, _request: pb.GetInfoRequest, _context: Any) -> pb.GetInfoReply:
        self._context.caller()
        network, chain = self._context.trainings.network, self._context.trainings.chain
        return pb.GetInfoReply(
            name=self._context.name,
            version=version("swarm-learning"),
            chain=chain.kind,
            chain_id=chain.chain_id,
            block=await chain.block_number(),
            account=chain.account,
            network_contract=network.address,
            now=time.time(),
        )

    async def ListOrganizations(
        self, _request: pb.ListOrganizationsRequest, _context: Any
    ) -> pb.ListOrganizationsReply:
        self._context.caller()
        chain = self._context.trainings.chain
        try:
            async with asyncio.timeout(SHOWN_WITHIN_S):
                return await ballot.listed(self._context.trainings.network)
        except TimeoutError:
            problem = chain.trouble or f"{chain.kind} has not answered for {SHOWN_WITHIN_S:.0f} s"
            raise ChainError(problem=problem, log=f"the log of {self._context.name}") from None


class TrainingApi:
    """Service Training. Every write is made in the caller's own name."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    async def Enrol(self, request: pb.EnrolRequest, _context: Any) -> pb.EnrolReply:
        who, training = self._context.participant(request.contract)
        config = requests.config(request.config)
        training.require_part(who)
        if training.view.stands(who.name, who.fingerprint, request.may_lead, config):  # nothing for the chain to say
            return pb.EnrolReply(status=training.status())
        receipt = await training.gateway.enrol(who.name, who.fingerprint, request.may_lead, config)
        return pb.EnrolReply(status=await training.status_at(receipt.block))

    async def CheckIn(self, request: pb.CheckInRequest, _context: Any) -> pb.CheckInReply:
        who, training = self._context.participant(request.contract)
        if training.view.follows_reports:  # what has been reported so far counts in this round's decisions
            await training.reports.flush()
        receipt = await training.gateway.check_in(requests.check_in(request, who.name))
        return pb.CheckInReply(block=receipt.block)

    async def ReportProgress(self, request: pb.ProgressRequest, _context: Any) -> pb.ProgressReply:
        who, training = self._context.participant(request.contract)
        training.progress(who.name, request.round, request.term, request.bytes_done, request.bytes_total)
        return pb.ProgressReply()

    async def Publish(self, request: pb.PublishRequest, _context: Any) -> pb.PublishReply:
        who, training = self._context.participant(request.contract)
        digest, left_out = requests.digest(request.digest, "digest"), requests.left_out(list(request.left_out))
        training.require_leader(who.name, request.round, request.term)
        require_copy(request, training.view, self._context.trainings.membership, self._context.trust())
        await training.gateway.publish(request.round, request.term, who.name, digest, request.size, left_out)
        return pb.PublishReply()

    async def Reopen(self, request: pb.ReopenRequest, _context: Any) -> pb.ReopenReply:
        who, training = self._context.participant(request.contract)
        left_out = requests.left_out(list(request.left_out))
        await training.gateway.reopen(request.round, request.term, who.name, left_out)
        return pb.ReopenReply()

    async def VoteOut(self, request: pb.VoteOutRequest, _context: Any) -> pb.VoteOutReply:
        who, training = self._context.participant(request.contract)
        await training.gateway.vote_out(request.round, request.term, who.name)
        return pb.VoteOutReply()

    async def Report(self, request: pb.ReportRequest, _context: Any) -> pb.ReportReply:
        who, training = self._context.participant(request.contract)
        training.report(requests.report(request, who.name))
        return pb.ReportReply()

    async def Leave(self, request: pb.LeaveRequest, _context: Any) -> pb.LeaveReply:
        who, training = self._context.participant(request.contract)
        await training.gateway.leave(who.name, requests.reason(request.reason))
        return pb.LeaveReply()

    async def GetStatus(self, request: pb.GetStatusRequest, _context: Any) -> pb.TrainingStatus:
        self._context.caller()
        return self._context.trainings.named(request.contract).status()

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[bytes]:
        who, training = self._context.caller(), self._context.trainings.named(request.contract)
        if self._context.trainings.membership.knows(who) and who.role == "sl":
            training.stream_opened(who.name)
            # Called at once when the stream ends or its node is cut off; a generator is closed some time later.
            context.add_done_callback(lambda _context: training.stream_closed(who.name))
        async for message in training.watch(request.seen, changes=request.changes):
            yield message

    async def GetRecord(self, request: pb.GetRecordRequest, _context: Any) -> AsyncIterator[pb.RecordPage]:
        self._context.caller()
        training = self._context.trainings.named(request.contract)
        location, block = training.gateway.address, await training.gateway.chain.block_number()
        yield pb.RecordPage(location=location, block=block)
        async for events in training.gateway.history(to_block=block):
            for page in await asyncio.to_thread(record.pages, location, block, events):
                yield page


class AdminApi:
    """Service Admin."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    async def CreateContract(self, request: pb.CreateContractRequest, _context: Any) -> pb.CreateContractReply:
        who = self._context.caller()
        organizations = list(dict.fromkeys(requests.organization(name) for name in request.organizations))
        location = await self._context.trainings.create(request.name, organizations)
        _log.info("contract created", contract=request.name, by=who.name)
        return pb.CreateContractReply(location=location)

    async def ResetContract(self, request: pb.ResetContractRequest, _context: Any) -> pb.ResetContractReply:
        who = self._context.caller()
        training = self._context.trainings.named(request.name)
        if training.view.state == pb.UNCONFIGURED:  # there is nothing to reset
            return pb.ResetContractReply()
        await training.gateway.reset()
        _log.info("contract reset", contract=request.name, by=who.name)
        return pb.ResetContractReply()

    async def ReplaceKey(self, request: pb.ReplaceKeyRequest, _context: Any) -> pb.ReplaceKeyReply:
        who, trainings = self._context.caller(), self._context.trainings
        self._context.trust().require_own(caller().organization, request.role, request.name)
        key = requests.digest(request.fingerprint, "fingerprint")
        names = await replace_key(request.role, request.name, key, f"{who.role}/{who.name}", trainings)
        return pb.ReplaceKeyReply(names=names)

    async def ProposeOrganization(self, request: pb.ProposeOrganizationRequest, _context: Any) -> pb.VoteReply:
        name = requests.organization(request.name)
        cas = requests.cas(request.cas)
        return await self._ballot().propose("admit", name, self._author(), cas)

    async def ProposeRemoval(self, request: pb.ProposeRemovalRequest, _context: Any) -> pb.VoteReply:
        return await self._ballot().propose("remove", requests.organization(request.name), self._author())

    async def Approve(self, request: pb.ApproveRequest, _context: Any) -> pb.VoteReply:
        return await self._ballot().approve(request.number, self._author())

    async def Withdraw(self, request: pb.WithdrawRequest, _context: Any) -> pb.WithdrawReply:
        await self._ballot().withdraw(request.number, self._author())
        return pb.WithdrawReply()

    async def Expel(self, request: pb.ExpelRequest, _context: Any) -> pb.ExpelReply:
        if "/" in request.name:
            raise MalformedCall(field="name (of the certificate, without a slot)")
        members = self._context.trainings.membership.of_certificate(request.role, request.name)
        if not members:
            raise NotAMember(name=request.name)
        return pb.ExpelReply(vote=await self._ballot().expel(members[0], self._context.organization, self._author()))

    def _author(self) -> str:
        who = self._context.caller()
        return f"{who.role}/{who.name}"

    def _ballot(self) -> ballot.Ballot:
        """Raises VotesForAnother."""
        who, context = self._context.caller(), self._context
        if who.organization != context.organization:
            raise VotesForAnother(sn=context.name, organization=context.organization, of=who.organization)
        return ballot.Ballot(context.trainings.network)


async def _first(messages: AsyncIterator[pb.HoldNameRequest]) -> pb.HoldNameRequest:
    """The first message. Raises MalformedCall if none comes in time."""
    try:
        async with asyncio.timeout(FIRST_MESSAGE_S):
            return await anext(messages)
    except (StopAsyncIteration, TimeoutError):
        raise MalformedCall(field="process") from None


async def _take_answers(holder: Holder, messages: AsyncIterator[pb.HoldNameRequest]) -> None:
    """Takes answers until the process closes its stream or the stream breaks, which ends the holder."""
    try:
        async for message in messages:
            holder.answered(message.answer)
    finally:
        holder.end()


def _node(member: DirectoryMember, last_heard: float, certificate_ends: float) -> pb.Node:
    return pb.Node(
        name=member.name,
        role=member.role,
        host=member.host,
        port=member.port,
        fingerprint=member.fingerprint,
        parent=member.parent,
        present=member.present,
        last_seen=last_heard,
        organization=member.organization,
        certificate_ends=certificate_ends,
    )
