"""All trainings of the swarm that this SN serves, by name, and the directory that lists them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from services.chain.backend import ChainBackend
from services.chain.events import (
    ContractRegistered,
    KeyReplaced,
    MemberExpelled,
    MemberLeft,
    MemberRegistered,
    NetworkEvent,
    OrganizationAdmitted,
    OrganizationRemoved,
    SNAccountAdded,
    SNAccountRemoved,
)
from services.chain.network import ContractEntry, NetworkGateway
from services.chain.training import TrainingGateway
from services.errors import (
    ChainError,
    ContractNameTaken,
    MalformedCall,
    NameTaken,
    UnknownContract,
)
from services.runtime import logs
from services.sn.accounts import AccountNames
from services.sn.directory import RUNNER_KIND, TRAINING_KIND, create_runner, create_training
from services.sn.live import LiveTraining, NotATraining, TrainingContext
from services.sn.membership import Caller, DirectoryMember, Membership
from services.sn.organizations import HeldOrganizations
from services.sn.proposals import ProposalLog
from services.sn.training import TrainingView

NAME_LIMIT_CHARACTERS = 128
_OF_SNS = (SNAccountAdded, SNAccountRemoved, OrganizationRemoved)

_log = logs.get("sn")


class Trainings:
    """Follows the directory on the chain: contracts and members that other SNs enter appear here too."""

    def __init__(self, network: NetworkGateway, membership: Membership, around: TrainingContext) -> None:
        self.network = network
        self.membership = membership
        self.accounts = AccountNames()
        self.organizations = HeldOrganizations()
        self._proposals = ProposalLog()
        self.sns_changed: Callable[[], None] = lambda: None
        self.members_changed: Callable[[], None] = lambda: None  # or which SN looks after a SWOP
        self.entered: Callable[[ContractEntry], Awaitable[None]] = _nothing
        self.expelled: Callable[[str, str], None] = lambda _role, _name: None
        self._around = around
        self._running: dict[str, LiveTraining] = {}
        self._entries: dict[str, ContractEntry] = {}
        self._adding = asyncio.Lock()
        self._stopped = False

    @property
    def chain(self) -> ChainBackend:
        return self.network.chain

    @property
    def views(self) -> list[TrainingView]:
        """The state of each training."""
        return [training.view for training in self._running.values()]

    @property
    def entries(self) -> list[ContractEntry]:
        return list(self._entries.values())

    async def open(self) -> None:
        """Reads the directory and replays every training in it; follows both from then on."""
        block = 0
        async for page in self.network.history():
            for event in page:
                await self._take(event)
                block = event.position.block
        self._proposals.begin()
        self._around.background.run(self._follow(block), "following the directory", vital=True)

    def end_streams(self) -> None:
        """Before the API stops: ends all streams of watchers."""
        self._stopped = True
        for training in self._running.values():
            training.end_streams()

    async def close(self) -> None:
        """After the API has stopped: writes what is still unwritten."""
        self.end_streams()
        for training in self._running.values():
            await training.close()

    def named(self, contract: str) -> LiveTraining:
        """Raises UnknownContract with the known names."""
        training = self._running.get(contract)
        if training is None or not training.makes_sense:
            raise UnknownContract(contract=contract or "''", known=", ".join(self._running))
        return training

    async def create(self, name: str, organizations: Sequence[str] = ()) -> str:
        """Creates a training for SLs of these organizations, or of all if none is named; returns its address.

        Raises ContractNameTaken, MalformedCall, OrganizationNotHeld.
        """
        self._check_name(name)
        for organization in organizations:
            self.organizations.require(organization)
        location = await create_training(self.chain, self.network, name, organizations)
        await self._add(ContractEntry(name, TRAINING_KIND, location, tuple(organizations)))
        return location

    async def create_runner(self, name: str) -> str:
        """Creates a taskrunner; returns its address. Raises ContractNameTaken, MalformedCall."""
        self._check_name(name)
        location = await create_runner(self.chain, self.network, name)
        await self._add(ContractEntry(name, RUNNER_KIND, location))
        return location

    def _check_name(self, name: str) -> None:
        if not name or len(name) > NAME_LIMIT_CHARACTERS or not name.isprintable():
            raise MalformedCall(field="name")
        if name in self._entries:
            raise ContractNameTaken(name=name, existing=self._entries[name].location)

    async def register(self, who: Caller, host: str, port: int, parent: str) -> None:
        """Enters a member in the directory unless this entry exists. Raises NameTaken, TooManySlots,
        OrganizationNotHeld.
        """
        self.organizations.require(who.organization)
        wanted = self.membership.registration(who, host, port, parent)
        if wanted is None:
            return
        await self.network.register_member(who.name, who.role, host, port, wanted.fingerprint, parent, who.organization)
        self._put(wanted)
        _log.info("registered", role=who.role, name=who.name, **who.named_by, address=f"{host}:{port}")

    async def replace_key(self, member: DirectoryMember, key: bytes, by: str, overlap_s: int) -> None:
        """Raises KeyWasReplaced; NameTaken if the member's key has changed to another one meanwhile."""
        now = time.time()
        role, name, before = member.role, member.name, member.fingerprint
        try:
            await self.network.replace_key(role, name, before, key, by, round(now * 1000), overlap_s)
        except NameTaken as error:
            if error.enrolled_fingerprint != key.hex():
                raise
            # Another SN has written the same key first; its event is on the way.
        self._rekey(role, name, key, before, now + overlap_s)
        _log.info("key replaced", role=role, name=name, key=key.hex()[:16], before=before.hex()[:16], by=by)

    async def deregister(self, who: Caller, reason: str) -> None:
        """Raises NotAMember, NameTaken."""
        self.membership.admit(who)
        await self.network.mark_member_left(who.role, who.name, reason)
        self.membership.left(who.role, who.name)
        _log.info("deregistered", role=who.role, name=who.name, reason=reason)

    async def _follow(self, block: int) -> None:
        async for event in self.network.follow(block):
            await self._take(event)
        if not self._stopped:
            raise ChainError(problem="its events ended", log="the log of this node")

    async def _take(self, event: NetworkEvent) -> None:
        """Folds an event of the directory; a repeated event changes nothing."""
        self._proposals.take(event)
        match event:
            case ContractRegistered():
                await self._add(ContractEntry(event.name, event.kind, event.location, event.organizations))
            case MemberRegistered():
                self._registered(event)
            case KeyReplaced():
                self._replaced(event)
            case MemberLeft():
                self.membership.left(event.role, event.name)
            case MemberExpelled():
                self._expelled(event)
            case SNAccountAdded():
                self.accounts.added(event.account, event.name, event.organization)
            case SNAccountRemoved():
                self.accounts.removed(event.account)
            case OrganizationAdmitted():
                self.organizations.admitted(event.name, event.cas)
            case OrganizationRemoved():
                self.organizations.removed(event.name)
        if isinstance(event, _OF_SNS) or getattr(event, "role", "") == "sn":
            self._sns_changed()

    def _registered(self, event: MemberRegistered) -> None:
        known = self.membership.members.get((event.role, event.name))
        place = (event.host, event.port, event.fingerprint, event.parent)
        member = DirectoryMember(event.role, event.name, *place, organization=event.organization)
        if known is not None and known.fingerprint == member.fingerprint:
            member = replace(member, previous=known.previous, previous_until=known.previous_until)
        self._put(member)

    def _expelled(self, event: MemberExpelled) -> None:
        role, name = event.role, event.name
        if self.membership.expulsions.holds(role, name):
            return
        self.membership.expelled(role, name)
        _log.warning("expelled", role=role, name=name, by=event.by or "the votes of organizations")
        names = [member.name for member in self.membership.of_certificate(role, name)]
        if role == "sl":
            for training in self._running.values():
                training.expelled(names)
        elif role == "swop":
            self.members_changed()
        self.expelled(role, name)

    def _replaced(self, event: KeyReplaced) -> None:
        self._rekey(event.role, event.name, event.key, event.before, event.at / 1000 + event.overlap_s)

    def _rekey(self, role: str, name: str, key: bytes, before: bytes, until: float) -> None:
        member = self.membership.replace_key(role, name, key, before, until)
        if member is not None:
            self._put(member)

    def _sns_changed(self) -> None:
        """Other SNs may have to look after some nodes now."""
        for training in self._running.values():
            training.sns_changed()
        self.sns_changed()
        self.members_changed()

    @property
    def present_sns(self) -> list[str]:
        """Names of the SNs that are present, in the order of joining."""
        names = dict.fromkeys(self.accounts.names.values())
        return [name for name in names if self.membership.present("sn", name)]

    @property
    def live_accounts(self) -> list[str]:
        """Accounts of the SNs that are present, in the order of joining."""
        return [account for account, name in self.accounts.names.items() if self.membership.present("sn", name)]

    def _put(self, member: DirectoryMember) -> None:
        known = self.membership.members.get((member.role, member.name))
        self.membership.put(member)
        if member.role == "sl" and known != member:
            for training in self._running.values():
                training.registered(member.name)
        if member.role == "swop" and known != member:
            self.members_changed()

    async def _add(self, entry: ContractEntry) -> None:
        async with self._adding:
            if entry.name in self._entries:
                return
            if entry.kind == TRAINING_KIND:
                await self._serve(entry)
            await self.entered(entry)
            self._entries[entry.name] = entry

    async def _serve(self, entry: ContractEntry) -> None:
        """Serves a training. Only logs an error if the contract is not one, whatever the SN says that entered it."""
        gateway, only = TrainingGateway.at(self.chain, entry.location), entry.organizations
        try:
            self._running[entry.name] = await LiveTraining.opened(entry.name, gateway, self._around, only)
        except NotATraining as error:
            facts = {"contract": entry.name, "location": entry.location}
            _log.error("a contract in the directory is not a training", **facts, why=str(error))


async def _nothing(_entry: ContractEntry) -> None:
    """Nobody else needs to hear of contracts."""
