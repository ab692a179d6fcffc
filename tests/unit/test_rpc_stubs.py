"""The committed stubs are what swarm.proto gives, and every call of the API has its rules."""

from services.errors import SwarmError
from services.rpc import swarm_pb2 as pb
from services.rpc.client import (
    IDEMPOTENT,
    AdminCalls,
    CallContext,
    NetworkCalls,
    PeeringCalls,
    RunnersCalls,
    TasksCalls,
    TrainingCalls,
)
from services.rpc.generate import outdated
from services.sn.api import AdminApi, NetworkApi, TrainingApi
from services.sn.peering_api import PeeringApi
from services.sn.roles import ROLES
from services.sn.tasks_api import RunnersApi, TasksApi


def calls() -> set[str]:
    services = pb.DESCRIPTOR.services_by_name.values()
    return {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}


def test_committed_stubs_are_current() -> None:
    assert outdated() == [], "run: python -m services.rpc.generate"


def test_every_call_has_roles_and_no_role_is_for_a_call_that_is_gone() -> None:
    assert set(ROLES) == calls()
    assert all(ROLES.values())


def test_only_calls_that_exist_are_retried_and_none_that_may_not_come_twice() -> None:
    retried = {f"/{service}/{method}" for service, methods in IDEMPOTENT.items() for method in methods}
    assert retried < calls()
    for once in ("Publish", "Reopen", "CreateContract", "ResetContract", "Watch", "AssignTask", "CreateTask"):
        assert not any(method.endswith(f"/{once}") for method in retried)


def test_the_client_offers_every_call() -> None:
    class Stub:
        def __getattr__(self, name: str) -> str:
            return name

    async def failed(_error: object) -> SwarmError:
        return SwarmError()

    line = CallContext(failed, ())
    offered = {
        f"/swarm.v1.{service}/{name}"
        for service, made in (
            ("Network", NetworkCalls(Stub(), line)),
            ("Training", TrainingCalls(Stub(), line)),
            ("Admin", AdminCalls(Stub(), line)),
            ("Tasks", TasksCalls(Stub(), line)),
            ("Runners", RunnersCalls(Stub(), line)),
            ("Peering", PeeringCalls(Stub(), line)),
        )
        for name in vars(made)
    }
    names = (
        "Network/HoldName", "Training/Watch", "Training/GetRecord", "Runners/WatchRunner", "Peering/Meet",
        "Peering/GetBlocks",
    )  # fmt: skip
    streams = {f"/swarm.v1.{name}" for name in names}
    assert offered | streams == calls()


def test_an_sn_answers_every_call() -> None:
    apis = {
        "Network": NetworkApi, "Training": TrainingApi, "Tasks": TasksApi, "Runners": RunnersApi, "Admin": AdminApi,
        "Peering": PeeringApi,
    }  # fmt: skip
    assert {f"/swarm.v1.{service}/{name}" for service, api in apis.items() for name in vars(api)} >= calls()


def test_roles_are_those_of_the_design() -> None:
    assert ROLES["/swarm.v1.Admin/CreateContract"] == {"swci", "admin"}
    assert ROLES["/swarm.v1.Training/CheckIn"] == {"sl"}
    assert ROLES["/swarm.v1.Tasks/CreateTask"] == ROLES["/swarm.v1.Runners/AssignTask"] == {"swci", "admin"}
    assert ROLES["/swarm.v1.Runners/ReportPeer"] == {"swop"}
    assert "license" not in set().union(*ROLES.values())
