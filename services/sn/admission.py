"""Lets a new SN into the swarm: enters and funds its account, and removes an older account of the same SN."""

import asyncio

from services.chain.abi import checksummed
from services.chain.federation import Federation
from services.chain.network import NetworkGateway
from services.errors import MalformedCall, SNAwaitsVotes
from services.runtime import logs
from services.sn.membership import Caller
from services.sn.trainings import Trainings

_log = logs.get("sn")


async def admit(who: Caller, account: str, trainings: Trainings, federation: Federation) -> int:
    """Returns the block from which ``account`` may write. Changes nothing if the account is already entered.

    Raises NameTaken if the name belongs to another key, MalformedCall if ``account`` is not an account, SNAwaitsVotes
    if the organizations have to vote first, ChainError.
    """
    trainings.membership.check_key(who)
    try:
        account = checksummed(account)
    except ValueError:
        raise MalformedCall(field="account") from None
    network = trainings.network
    voted_in = await network.is_sn(account)
    if not voted_in:
        await _require_no_votes(who, account, network)
        await network.add_sn_account(account, who.name, who.organization)
    if not await federation.balance(account):
        await federation.fund(account)
    older = [] if voted_in else [known for known in trainings.accounts.of(who.name) if known != account]
    await asyncio.gather(*(network.remove_sn_account(known) for known in older))
    _log.info("admitted", name=who.name, **who.named_by, account=account, instead_of=", ".join(older) or "none")
    return await trainings.chain.block_number()


async def _require_no_votes(who: Caller, account: str, network: NetworkGateway) -> None:
    """If organizations have to approve first: opens the proposal unless it is open, and raises SNAwaitsVotes."""
    if not await network.needs_votes(who.name, who.organization):
        return
    number = await network.request_of(who.organization, who.name, account)
    if not number:
        await network.propose("admit-sn", who.organization, by="", sn=who.name, account=account)
        number = await network.request_of(who.organization, who.name, account)
        _log.info("an SN asks to join", name=who.name, **who.named_by, account=account, proposal=number)
    raise SNAwaitsVotes(name=who.name, organization=who.organization, number=number)
