"""py-evm as a chain of one account, which mines what it gets and keeps it in one file. Synchronous, for one thread."""

import time
from collections.abc import Sequence
from pathlib import Path

from eth import constants
from eth.abc import BlockHeaderAPI, ComputationAPI, ReceiptAPI, VirtualMachineAPI
from eth.chains.base import MiningChain
from eth.consensus.noproof import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.exceptions import CanonicalHeadNotFound, Revert
from eth.typing import AccountState, HeaderParams
from eth.vm.forks.london import LondonVM
from eth_typing import BlockNumber
from eth_utils.address import to_canonical_address

from services.chain.abi import checksummed
from services.chain.account import BALANCE_WEI, GAS_LIMIT, Account, SignedTransaction
from services.chain.embedded_store import EmbeddedStore
from services.chain.receipts import Log, Position, Receipt
from services.chain.reverts import error_of
from services.errors import ChainError, SwarmError

BLOCK_GAS_LIMIT = 2**40
CHAIN_ID = 1701

# A transaction before it is signed: to (None creates a contract), data.
Request = tuple[str | None, bytes]


class _Chain(MiningChain):
    chain_id = CHAIN_ID
    vm_configuration = ((constants.GENESIS_BLOCK_NUMBER, LondonVM.configure(consensus_class=NoProofConsensus)),)


class EmbeddedEvm:
    """A chain in this process; its genesis funds ``account``. ``path`` None keeps it in memory.

    Raises StorageError if the file cannot be written.
    """

    chain_id = CHAIN_ID

    def __init__(self, path: Path | None, account: Account) -> None:
        self.account = account
        self._store = EmbeddedStore(path)
        database = AtomicDB(self._store)
        try:
            self._chain: MiningChain = _Chain(database)
        except CanonicalHeadNotFound:
            self._chain = _genesis(database, account)
            self._store.commit([])
        self.head: BlockHeaderAPI = self._chain.get_canonical_head()

    @property
    def block_number(self) -> int:
        return int(self.head.block_number)

    def mine(self, requests: Sequence[Request]) -> list[Receipt | SwarmError]:
        """Mines one block with all of these, in order; returns a receipt or the contract's error for each.

        Durable when it returns. If the block fails, raises ChainError or StorageError, and nothing has changed.
        """
        nonce = self._vm_after(self.head).state.get_nonce(to_canonical_address(self.account.address))
        signed = [self.account.sign(nonce + i, CHAIN_ID, to, data) for i, (to, data) in enumerate(requests)]
        decode = self._chain.get_vm(self.head).get_transaction_builder().decode
        timestamp = max(int(time.time()), self.head.timestamp + 1)
        self._chain.header = self._chain.create_header_from_parent(
            self.head, timestamp=timestamp, gas_limit=BLOCK_GAS_LIMIT
        )
        result, receipts, computations = self._chain.mine_all([decode(item.raw) for item in signed])
        header = result.imported_block.header
        outcomes = _outcomes(header.block_number, signed, receipts, computations)
        self._store.commit(log for outcome in outcomes if isinstance(outcome, Receipt) for log in outcome.logs)
        self.head = header
        return outcomes

    def block_hash(self, number: int) -> str:
        if number > self.block_number:
            return ""
        return self._chain.get_canonical_block_header_by_number(BlockNumber(number)).hash.hex()

    def call(self, to: str, data: bytes, block: int | None = None) -> bytes:
        """The answer of a view in the state after ``block``. Raises the contract's error."""
        header = self.head if block is None else self._chain.get_canonical_block_header_by_number(BlockNumber(block))
        vm = self._vm_after(header)
        target = to_canonical_address(to)
        sender = to_canonical_address(self.account.address)
        computation = vm.execute_bytecode(
            origin=sender, gas_price=0, gas=GAS_LIMIT * 50, to=target, sender=sender, value=0, data=data,
            code=vm.state.get_code(target),
        )  # fmt: skip
        if computation.is_error:
            raise error_of(computation.output)
        return bytes(computation.output)

    def logs(self, address: str, after: Position, to_block: int, count: int) -> list[Log]:
        """Up to ``count`` events of a contract after a place on the chain, in order."""
        return self._store.logs(address, after, to_block, count)

    def close(self) -> None:
        self._store.close()

    def _vm_after(self, header: BlockHeaderAPI) -> VirtualMachineAPI:
        return self._chain.get_vm(self._chain.create_header_from_parent(header))


def _genesis(database: AtomicDB, account: Account) -> MiningChain:
    parameters: dict[str, HeaderParams] = {
        "coinbase": constants.ZERO_ADDRESS,
        "difficulty": 1,
        "gas_limit": BLOCK_GAS_LIMIT,
        "timestamp": int(time.time()),
    }
    state: AccountState = {
        to_canonical_address(account.address): {"balance": BALANCE_WEI, "nonce": 0, "code": b"", "storage": {}}
    }
    _Chain.from_genesis(database, parameters, state)
    return _Chain(database)


def _outcomes(
    block: int,
    signed: Sequence[SignedTransaction],
    receipts: Sequence[ReceiptAPI],
    computations: Sequence[ComputationAPI],
) -> list[Receipt | SwarmError]:
    outcomes: list[Receipt | SwarmError] = []
    gas_before = log_index = 0
    for item, receipt, computation in zip(signed, receipts, computations, strict=True):
        gas_used, gas_before = receipt.gas_used - gas_before, receipt.gas_used
        if computation.is_error:
            outcomes.append(_refusal(computation))
            continue
        logs = tuple(
            Log(
                checksummed("0x" + log.address.hex()),
                tuple(topic.to_bytes(32, "big") for topic in log.topics),
                log.data,
                Position(block, log_index + offset),
                item.hash,
            )
            for offset, log in enumerate(receipt.logs)
        )
        log_index += len(logs)
        contract = checksummed("0x" + computation.msg.storage_address.hex()) if item.to is None else None
        outcomes.append(Receipt(item.hash, block, gas_used, contract, logs))
    return outcomes


def _refusal(computation: ComputationAPI) -> SwarmError:
    if computation.output or isinstance(computation.error, Revert):
        return error_of(computation.output)
    return ChainError(problem=f"a transaction failed with {computation.error!r}", log="the node's log")
