"""All contracts in a bare EVM: no blocks, no signatures, the state put back in no time."""

import functools
import json
from importlib import resources
from typing import Any

from eth import constants
from eth.chains.base import MiningChain
from eth.consensus.noproof import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.vm.forks.london import LondonVM
from eth.vm.message import Message
from eth_utils.address import to_canonical_address

from services.chain.abi import checksummed, contract_abi
from services.chain.events import NetworkEvent, TrainingEvent, network_event, training_event
from services.chain.receipts import Log, Position
from services.chain.reverts import error_of
from services.chain.task_events import RegistryEvent, RunnerEvent, registry_event, runner_event

GAS = 10**12
NOWHERE = Position(0, 0)

SN = checksummed("0x" + "11" * 20)
OTHER_SN = checksummed("0x" + "22" * 20)
STRANGER = checksummed("0x" + "99" * 20)


class _Chain(MiningChain):
    chain_id = 1
    vm_configuration = ((constants.GENESIS_BLOCK_NUMBER, LondonVM.configure(consensus_class=NoProofConsensus)),)


class Bench:
    """One of each contract, deployed by ``SN``. ``founding``: names, CAs and SNs of the organizations."""

    def __init__(self, founding: Any = ([""], [[]], [[]])) -> None:
        genesis = {"coinbase": constants.ZERO_ADDRESS, "difficulty": 1, "gas_limit": 10**13, "timestamp": 1}
        chain = _Chain.from_genesis(AtomicDB(), genesis, {})
        self._state = chain.get_vm(chain.create_header_from_parent(chain.get_canonical_head(), gas_limit=GAS)).state
        self.network = self._deploy("SwarmNetwork", 1, "sn-1", *founding)
        self.training = self._deploy("TrainingContract", 2, self.network)
        self.tasks = self._deploy("TaskRegistry", 3, self.network)
        self.runner = self._deploy("TaskRunner", 4, self.network)

    @classmethod
    def shared(cls) -> "Bench":
        """One for all who put its state back; deploying takes a second."""
        return _shared()

    def send(self, function: str, *arguments: Any, by: str = SN) -> list[TrainingEvent]:
        """A transaction to the training. Gives its events, raises the error class of a refusal."""
        return [training_event(log) for log in self._send("TrainingContract", self.training, by, function, arguments)]

    def gas_of(self, function: str, *arguments: Any) -> int:
        """Sends it, and gives what it takes where nothing was touched before. Earlier snapshots are lost."""
        self._state.lock_changes()
        self.send(function, *arguments)
        return self._gas_used

    def send_network(self, function: str, *arguments: Any, by: str = SN) -> list[NetworkEvent]:
        """The same to the directory."""
        return [network_event(log) for log in self._send("SwarmNetwork", self.network, by, function, arguments)]

    def send_tasks(self, function: str, *arguments: Any, by: str = SN) -> list[RegistryEvent]:
        """The same to the task registry."""
        return [registry_event(log) for log in self._send("TaskRegistry", self.tasks, by, function, arguments)]

    def send_runner(self, function: str, *arguments: Any, by: str = SN) -> list[RunnerEvent]:
        """The same to the taskrunner."""
        return [runner_event(log) for log in self._send("TaskRunner", self.runner, by, function, arguments)]

    def read_tasks(self, function: str, *arguments: Any) -> Any:
        return self._read("TaskRegistry", self.tasks, function, arguments)

    def read_runner(self, function: str, *arguments: Any) -> Any:
        return self._read("TaskRunner", self.runner, function, arguments)

    def read(self, function: str, *arguments: Any) -> Any:
        return self._read("TrainingContract", self.training, function, arguments)

    def read_network(self, function: str, *arguments: Any) -> Any:
        return self._read("SwarmNetwork", self.network, function, arguments)

    @staticmethod
    def writing_functions() -> set[str]:
        """The functions of the training that are not views, from its artifact."""
        text = resources.files("contracts").joinpath("artifacts", "TrainingContract.json").read_text()
        abi = json.loads(text)["abi"]
        return {entry["name"] for entry in abi if entry.get("stateMutability") == "nonpayable" and "name" in entry}

    def snapshot(self) -> Any:
        return self._state.snapshot()

    def revert(self, snapshot: Any) -> None:
        self._state.revert(snapshot)

    def _deploy(self, contract: str, number: int, *arguments: Any) -> str:
        abi = contract_abi(contract)
        address = bytes([number]) * 20
        message = Message(
            gas=GAS, to=constants.CREATE_CONTRACT_ADDRESS, sender=to_canonical_address(SN), value=0, data=b"",
            code=abi.bytecode + abi.constructor.encode(*arguments), create_address=address,
        )  # fmt: skip
        self._run(message, self._state.computation_class.apply_create_message)
        return checksummed("0x" + address.hex())

    def _send(self, contract: str, to: str, by: str, function: str, arguments: tuple[Any, ...]) -> list[Log]:
        data = contract_abi(contract).functions[function].encode(*arguments)
        computation = self._call(to, by, data)
        return [
            Log(to, tuple(topic.to_bytes(32, "big") for topic in topics), text, NOWHERE, "")
            for _, topics, text in computation.get_log_entries()
        ]

    def _read(self, contract: str, to: str, function: str, arguments: tuple[Any, ...]) -> Any:
        signature = contract_abi(contract).functions[function]
        return signature.decode(self._call(to, SN, signature.encode(*arguments)).output)

    def _call(self, to: str, by: str, data: bytes) -> Any:
        target = to_canonical_address(to)
        code = self._state.get_code(target)
        message = Message(gas=GAS, to=target, sender=to_canonical_address(by), value=0, data=data, code=code)
        return self._run(message, self._state.computation_class.apply_message)

    def _run(self, message: Message, apply: Any) -> Any:
        context = self._state.get_transaction_context_class()(gas_price=0, origin=message.sender)
        computation = apply(self._state, message, context)
        if computation.is_error:
            raise error_of(computation.output)
        self._gas_used: int = computation.get_gas_used()
        return computation


@functools.cache
def _shared() -> Bench:
    return Bench()
