"""This SN's part in a swarm of several: who is present, who seals, who is gone, where to find the others."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.chain.federation import Federation
from services.errors import ChainError, Expelled, NotAMember, NotInSync, OrganizationNotHeld
from services.identity.identity import Identity
from services.runtime import logs
from services.runtime.background import Background
from services.sn.liveness import LOST
from services.sn.membership import DirectoryMember
from services.sn.peering import Peering
from services.sn.state import KnownSN, remember_peers
from services.sn.succession import stands_in_after_s
from services.sn.trainings import Trainings

ENTER_WITHIN_S = 5.0
SYNC_WITHIN_S = 60.0  # without a new block

_log = logs.get("sn")


async def in_sync(federation: Federation, block: int) -> None:
    """Waits until this block is final here, as long as new blocks arrive. Raises NotInSync."""
    head = -1
    federation.await_final(block)
    while federation.final_number < block:
        before, head = head, federation.tail.head.number
        if head == before:  # or this SN is being stopped
            raise NotInSync(have=federation.final_number, need=block, seconds=round(SYNC_WITHIN_S), log="this node")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SYNC_WITHIN_S):
                async for final in federation.finals.follow():
                    if final >= block:
                        break
    if block:
        _log.info("chain in sync", block=federation.final_number)


class ClusterManager:
    """Acts when the directory on the chain or the set of connected SNs changes."""

    def __init__(
        self,
        identity: Identity,
        trainings: Trainings,
        federation: Federation,
        peering: Peering,
        background: Background,
        *,
        data_dir: Path,
        grace_s: float,
        register: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = identity.name
        self._organization = identity.organization
        self._refused = identity.credentials.trust.expulsions
        self._trainings = trainings
        self._federation = federation
        self._peering = peering
        self._background = background
        self._data_dir = data_dir
        self._grace_s = grace_s
        self._register = register
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._registered = False
        self._registering = False
        self._stopped = False
        self._leaving = False
        self._waits_to_part = False
        self._said = ""
        trainings.sns_changed = self.follow
        peering.changed = self.follow
        peering.owner_of = trainings.accounts.belongs_to
        background.keep(self._name_signers, "naming the signers")
        background.keep(self._part, "parting from SNs that were removed")

    async def open(self) -> None:
        """Enters this SN in the directory, and again whenever another SN marks it as lost.

        A swarm that restarts SN by SN cannot write before most of its signers are there, so this waits only for a
        moment and continues in the background. Raises NameTaken.
        """
        self._registered = True
        entering = asyncio.create_task(self._enter())
        await asyncio.wait({entering}, timeout=ENTER_WITHIN_S)
        if entering.done():
            entering.result()
        else:
            _log.warning(
                "not in the directory yet: most of the SNs that seal must be in touch before it can be written"
            )
            self._background.run(_result_of(entering), "entering this SN in the directory")
        self.follow()

    def stop(self) -> None:
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()

    def follow(self) -> None:
        """The directory or the set of connected SNs has changed."""
        if self._stopped:
            return
        membership, present = self._trainings.membership, self._trainings.present_sns
        for member in membership.sns():
            if self._is_out(member):
                self._peering.part_from(member.name)
                if membership.expulsions.holds("sn", member.name):
                    self._refused.put(("sn", member.name))
            else:
                self._peering.know(member.name, member.host, member.port)
        others = [KnownSN(member.name, member.host, member.port) for member in membership.sns()]
        remember_peers(self._data_dir, [peer for peer in others if peer.name != self._name])
        self._say_peers(present)
        self._federation.elect_from(self._trainings.live_accounts, self._trainings.accounts.organizations)
        missing = {name for name in present if name != self._name and not self._peering.alive[name]}
        for name in self._timers.keys() - missing:
            self._timers.pop(name).cancel()
        for name in missing - self._timers.keys():
            self._timers[name] = asyncio.get_running_loop().call_later(self._grace_s, self._lost, name)
        if not self._belongs(self._name, self._organization):
            self._leave()
        elif self._registered and self._name not in present and not self._registering:
            self._background.run(self._enter(), "entering this SN in the directory")

    def _belongs(self, sn: str, organization: str) -> bool:
        """Whether the SN has not been expelled and its organization not removed."""
        expelled = self._trainings.membership.expulsions.holds("sn", sn)
        return self._trainings.organizations.holds(organization) and not expelled

    def _is_out(self, member: DirectoryMember) -> bool:
        """Whether the SN no longer belongs to the swarm and is not needed to hand over sealing."""
        if self._belongs(member.name, member.organization):
            return False
        self._waits_to_part = self._federation.needs_others_than(self._trainings.accounts.names)
        if self._waits_to_part:
            self._federation.await_signers()
        return not self._waits_to_part

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._background.run(self._end_when_handed_over(), "leaving the swarm", vital=True)

    async def _end_when_handed_over(self) -> None:
        expelled = self._trainings.membership.expulsions.holds("sn", self._name)
        if expelled:
            _log.warning("this SN was expelled from the swarm")
        else:
            _log.warning("this SN's organization was removed from the swarm", organization=self._organization)
        async for signers in self._federation.voting.changed.follow():
            if self._federation.account not in signers:
                break
        await self._federation.handed_over()
        raise Expelled(name=self._name) if expelled else OrganizationNotHeld(organization=self._organization)

    def _say_peers(self, present: list[str]) -> None:
        others = [name for name in present if name != self._name]
        in_touch = f"{sum(name in self._peering.alive for name in others)} of {len(others)}"
        if others and in_touch != self._said:
            self._said = in_touch
            _log.info("peers", in_touch=in_touch)

    async def _enter(self) -> None:
        self._registering = True
        try:
            while not self._stopped:
                try:
                    await self._register()
                except ChainError as error:  # it took too long, or geth is being restarted
                    _log.warning("not in the directory yet", reason=str(error))
                else:
                    return
        finally:
            self._registering = False

    def _lost(self, name: str) -> None:
        """The SN was away for the whole grace period: one of the remaining SNs records that on the chain."""
        delay = stands_in_after_s(self._name, self._trainings.present_sns, {self._name, *self._peering.alive})
        if delay is None:
            self._timers.pop(name, None)
            return
        self._timers[name] = asyncio.get_running_loop().call_later(delay, self._mark, name)

    def _mark(self, name: str) -> None:
        _log.warning("SN lost", name=name, silent_s=self._grace_s)
        self._background.run(self._mark_left(name), f"marking {name} as lost")

    async def _mark_left(self, name: str) -> None:
        try:
            with contextlib.suppress(NotAMember):
                await self._trainings.network.mark_member_left("sn", name, LOST)
        finally:
            self._timers.pop(name, None)
            self.follow()  # if it is still listed: once more, after another grace period

    async def _part(self) -> None:
        async for _ in self._federation.finals.follow():
            if self._waits_to_part:
                self.follow()

    async def _name_signers(self) -> None:
        async for accounts in self._federation.voting.changed.follow():
            names = [self._trainings.accounts.owner(account) or account for account in accounts]
            _log.info("signers now", names=", ".join(sorted(names)))
            if self._waits_to_part:
                self.follow()


async def _result_of(task: asyncio.Task[None]) -> None:
    await task
