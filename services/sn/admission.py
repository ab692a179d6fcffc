"""Lets a new SN into the swarm: its account is entered and funded, an older one of the same SN removed."""

import asyncio

from services.chain.abi import checksummed
from services.chain.federation import Federation
from services.errors import MalformedCall
from services.runtime import logs
from services.sn.membership import Caller
from services.sn.trainings import Trainings

_log = logs.get("sn")


async def admit(who: Caller, account: str, trainings: Trainings, federation: Federation) -> int:
    """Gives the block from which on ``account`` may write. Nothing changes for one that is in already.

    Raises NameTaken where the name belongs to another key, MalformedCall for what is no account, ChainError.
    """
    trainings.membership.check_key(who)
    try:
        account = checksummed(account)
    except ValueError:
        raise MalformedCall(field="account") from None
    network = trainings.network
    if not await network.is_sn(account):
        await network.add_sn_account(account, who.name)
    if not await federation.balance(account):
        await federation.fund(account)
    older = [known for known in trainings.accounts.of(who.name) if known != account]
    await asyncio.gather(*(network.remove_sn_account(known) for known in older))
    _log.info("admitted", name=who.name, **who.named_by, account=account, instead_of=", ".join(older) or "none")
    return await trainings.chain.block_number()
