"""The swarm's contracts: deployed at the first start, found again at every later one."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from services.chain.backend import ChainBackend
from services.chain.network import ONE_ORGANIZATION, Founding, NetworkGateway
from services.chain.runner import TaskRunnerGateway
from services.chain.tasks import TaskRegistryGateway
from services.chain.training import TrainingGateway
from services.errors import ChainError, ContractNameTaken, NotARegisteredSN, SwarmError
from services.runtime import logs
from services.sn.state import FILE, SNState

DEFAULT_TRAINING = "defaultbb.cqdb.sml.hpe"
DEFAULT_RUNNER = "defaulttaskbb.taskdb.sml.hpe"
TASK_REGISTRY = "taskdb.sml.hpe"
TRAINING_KIND = "training"
RUNNER_KIND = "taskrunner"
TASKS_KIND = "tasks"

_log = logs.get("sn")


async def establish(
    chain: ChainBackend, data_dir: Path, sn: str, founding: Sequence[Founding] = ONE_ORGANIZATION
) -> NetworkGateway:
    """The directory contract, with the default training in it. Completes a first start that was cut short.

    ``founding``: the organizations that a new swarm begins with; ``sn``, this node, belongs to the first one.

    Raises ChainError if the chain does not hold what the state file says.
    """
    state = SNState.load(data_dir)
    if state is None:
        network = await NetworkGateway.deploy(chain, sn, founding)
        state = SNState(chain="geth" if chain.kind == "geth" else "embedded", network=network.address)
        state.save(data_dir)
        _log.info("SwarmNetwork deployed", address=network.address)
    else:
        network = NetworkGateway.at(chain, state.network)
        await _check(network, data_dir)
        _log.info("SwarmNetwork found", address=network.address)
    if await network.contract_named(DEFAULT_TRAINING) is None:
        await create_training(chain, network, DEFAULT_TRAINING)
    await _establish_tasks(chain, network)
    await record(network, state, data_dir)
    return network


async def create_training(
    chain: ChainBackend, network: NetworkGateway, name: str, organizations: Sequence[str] = ()
) -> str:
    """Deploys a training and enters it in the directory; returns its address. ``organizations``: those that may take
    part; empty means all. Raises ContractNameTaken, OrganizationNotHeld.
    """
    training = await TrainingGateway.deploy(chain, network.address)
    await network.register_contract(name, TRAINING_KIND, training.address, organizations)
    _log.info("training contract created", contract=name, address=training.address)
    return training.address


async def create_runner(chain: ChainBackend, network: NetworkGateway, name: str) -> str:
    """Deploys a taskrunner and enters it in the directory; returns its address. Raises ContractNameTaken."""
    runner = await TaskRunnerGateway.deploy(chain, network.address)
    await network.register_contract(name, RUNNER_KIND, runner.address)
    _log.info("taskrunner created", runner=name, address=runner.address)
    return runner.address


async def _establish_tasks(chain: ChainBackend, network: NetworkGateway) -> None:
    """The task registry and the default taskrunner; another SN may enter them at the same time."""
    with contextlib.suppress(ContractNameTaken):
        if await network.contract_named(TASK_REGISTRY) is None:
            registry = await TaskRegistryGateway.deploy(chain, network.address)
            await network.register_contract(TASK_REGISTRY, TASKS_KIND, registry.address)
    with contextlib.suppress(ContractNameTaken):
        if await network.contract_named(DEFAULT_RUNNER) is None:
            await create_runner(chain, network, DEFAULT_RUNNER)


async def record(network: NetworkGateway, state: SNState, data_dir: Path) -> None:
    """Writes the addresses of the trainings into the state file, if they are not in it yet."""
    known = {entry.name: entry.location for entry in await network.contracts() if entry.kind == TRAINING_KIND}
    if known != state.trainings:
        state.trainings = known
        state.save(data_dir)


async def _check(network: NetworkGateway, data_dir: Path) -> None:
    """Raises ChainError or NotARegisteredSN unless this is our directory and our account may write."""
    account = network.chain.account
    try:
        may_write = await network.is_sn(account)
    except SwarmError as error:
        problem = f"it does not hold the contract {network.address} of {data_dir / FILE} ({error})"
        raise ChainError(problem=problem, log=data_dir) from None
    if not may_write:
        raise NotARegisteredSN(account=account)
