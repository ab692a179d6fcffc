"""A new SN asks a running one to let it into the swarm."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chain.account import Account
from services.chain.paths import ACCOUNT_KEY
from services.errors import SNAwaitsVotes, SNUnreachable
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.runtime import logs
from services.sn.state import KnownSN

# The SN that is asked writes to the chain before it answers.
JOIN_DEADLINE_S = 90.0

ASK_AGAIN_AFTER_S = 3.0

_log = logs.get("sn")


@dataclass(frozen=True)
class Joined:
    """What the asked SN has answered. ``block``: from this block on, this node's account may write."""

    through: str
    genesis: dict[str, Any]
    chain_id: int
    network: str
    block: int
    peers: tuple[KnownSN, ...]


async def join(identity: Identity, address: str, data_dir: Path, patience_s: float = 0.0) -> Joined:
    """Joins through the SN at ``address``. If it cannot be reached, tries again for ``patience_s``: it may be starting.

    The same if organizations have to vote first. Raises SNUnreachable, PeerNotAccepted, and what the SN answers:
    SNAwaitsVotes, ServesOneSN, NameTaken, WrongRole, ChainError.
    """
    account = Account.load_or_create(data_dir / ACCOUNT_KEY).address
    _log.info("joining", through=address, account=account)
    clock = asyncio.get_running_loop().time
    gives_up_at = clock() + patience_s
    while True:
        if (reply := await _asked(identity, address, account, gives_up_at - clock())) is not None:
            break
        await asyncio.sleep(ASK_AGAIN_AFTER_S)
    peers = tuple(KnownSN(sn.name, sn.host, sn.port) for sn in reply.sns if sn.name != identity.name)
    _log.info("joined", through=reply.name, chain_id=reply.chain_id, sns=", ".join(peer.name for peer in peers))
    genesis = json.loads(reply.genesis)
    return Joined(reply.name, genesis, reply.chain_id, reply.network_contract, reply.block, peers)


async def _asked(identity: Identity, address: str, account: str, left_s: float) -> pb.JoinReply | None:
    """None if the SN must be asked again: it cannot be reached, or this SN has not been voted in yet."""
    try:
        async with SNClient(address, identity) as client:
            await client.hand_over()
            return await client.peering.Join(pb.JoinRequest(account=account), timeout=JOIN_DEADLINE_S)
    except SNUnreachable as error:
        if left_s <= 0:
            raise
        _log.warning(f"the SN at {address} cannot be reached yet ({error.problem}); giving up in {left_s:.0f} s")
        return None
    except SNAwaitsVotes as error:
        if left_s <= 0:
            raise
        number = error.facts["number"]
        _log.warning(f"proposal {number} must be approved first (swarm org approve {number}); waiting {left_s:.0f} s")
        return None
