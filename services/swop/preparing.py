"""From a task on the chain to work on this host: its hash, its text, the policy, the image, the pairs."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from services.chain.task_events import TaskHeader as ChainHeader
from services.chain.tasks import content_hash
from services.errors import SwarmError, TaskRefused
from services.identity.certificates import identity_of_certificate, read_chain
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.swop.content import ContentWork
from services.swop.executors.base import Executor
from services.swop.executors.spec import MountKind, NodeSpec
from services.swop.link import Link
from services.swop.pairs import PairSpec, Place, labels_of, pair
from services.swop.policy import Policy, refuses_program, refuses_task
from services.swop.profile import NodeDefinition, Profile
from services.swop.work import BuildWork, PairsWork, PullWork, Work, build_spec, new_secret, pull_spec
from services.tasks.definition import (
    ROOT_TASK,
    MakeSwarmUserContent,
    MakeUserContainer,
    PullImage,
    RunSwarm,
    TaskDefinition,
    TaskHeader,
    check_body,
)


@dataclass(frozen=True)
class Prepared:
    """``description``: exactly what would run, for the owner of the host."""

    content_hash: bytes
    work: Work
    description: dict[str, Any]
    needs_approval: bool


@dataclass(frozen=True)
class Workshop:
    """``usr_dir``: tasks may mount what lies below it. ``place``: without the assignment."""

    link: Link
    executor: Executor
    profile: Profile
    policy: Policy
    place: Place
    usr_dir: Path

    async def prepare(self, status: pb.RunnerStatus) -> Prepared:
        """Raises TaskRefused with the reason, ImageMissing and the like; what cannot be done here is not begun."""
        task, entry = await self._task(status.task)
        if entry.content_hash != status.content_hash:
            raise TaskRefused(task=f"The task {status.task}", problem="it is not the one that was assigned")
        if (reason := refuses_task(self.policy, task, entry.registrant)) is not None:
            raise TaskRefused(task=f"The task {status.task}", problem=reason)
        place = replace(self.place, assignment=status.assignment, secret=new_secret())
        work, runs = await self._work(task, place)
        description = {
            "task": task.header.name, "type": str(task.header.task_type), "registered by": entry.registrant,
            "content hash": status.content_hash.hex(), "assigned by": status.assigned_by, "runs": runs,
        }  # fmt: skip
        return Prepared(status.content_hash, work, description, self.policy.approval == "every")

    async def _task(self, name: str) -> tuple[TaskDefinition, pb.TaskEntry]:
        """The task as its SN tells, whose hash is what it must be."""
        request = pb.GetTaskRequest(name=name)

        async def ask(sn: SNClient) -> pb.GetTaskReply:
            return await sn.tasks.GetTask(request)

        reply = await self.link.call(ask)
        if reply is None:
            raise TaskRefused(task=f"The task {name}", problem="its SN does not tell it")
        header, entry = reply.task.header, reply.task
        chained = ChainHeader(header.name, header.type, header.author, header.prereq, header.outcome)
        if header.name != name or content_hash(chained, reply.body.encode()) != entry.content_hash:
            raise TaskRefused(task=f"The task {name}", problem="its text is not what the chain has the hash of")
        body = check_body(header.type, reply.body, f"the task {name}")
        known = TaskHeader.model_validate({
            "name": header.name, "task_type": header.type, "author": header.author, "prereq": header.prereq,
            "outcome": header.outcome,
        })  # fmt: skip
        return TaskDefinition(header=known, body=body, body_text=reply.body), entry

    async def _work(self, task: TaskDefinition, place: Place) -> tuple[Work, list[dict[str, Any]]]:
        labels = labels_of(place.swop, place.runner, place.assignment, task=task.header.name)
        match task.body:
            case RunSwarm():
                return await self._pairs(task, task.body, place)
            case MakeUserContainer():
                spec = build_spec(task.body, task.header.outcome, labels)
                return BuildWork(self.executor, spec), [{"build": list(spec.steps), "image": spec.image}]
            case PullImage():
                pull = pull_spec(task.body)
                return PullWork(self.executor, pull), [{"pull": f"{pull.repository}:{pull.tag}"}]
            case MakeSwarmUserContent():
                volumes = [task.header.outcome]
                if task.body.content_type == "SWARMCONTENT":
                    volumes = [f"{task.header.outcome}-{node.index}" for node in self.profile.definitions]
                runs = [{"fetch": operation.target, "into": volumes} for operation in task.body.operations]
                return ContentWork(self.executor, task.body, volumes), runs

    async def _pairs(self, task: TaskDefinition, body: RunSwarm, place: Place) -> tuple[Work, list[dict[str, Any]]]:
        header = task.header
        if header.prereq == ROOT_TASK:
            problem = "its Prereq is ROOTTASK, but must name the task that makes the image of its program"
            raise TaskRefused(task=f"The task {header.name}", problem=problem)
        prereq, _ = await self._task(header.prereq)
        image = await self.executor.image(prereq.header.outcome)
        given = [name for entry in body.envvars or () for name in entry]
        usr_dir = await asyncio.to_thread(self.usr_dir.resolve)
        specs: list[PairSpec] = []
        for node in self.profile.definitions:
            spec = await asyncio.to_thread(
                _with_real_sources, pair(self.profile, node, task, prereq.header.outcome, place)
            )
            own = [usr_dir, *await asyncio.to_thread(_private_data, node)]
            if (reason := refuses_program(self.policy, spec.ml, image, given, own)) is not None:
                raise TaskRefused(task=f"The task {header.name}", problem=reason)
            specs.append(spec)
        names = {node.index: name for node in self.profile.definitions if (name := sl_name(node, self.profile))}
        work = PairsWork(self.executor, specs, names, self._takes_part, self.policy.run_time_s)
        return work, [_described(spec.ml) for spec in specs]

    async def _takes_part(self, name: str) -> bool:
        """Whether an SL of this name has enrolled in any training of the swarm."""

        async def ask(sn: SNClient) -> bool:
            for entry in (await sn.network.ListContracts(pb.ListContractsRequest())).contracts:
                if entry.kind == "training":
                    status = await sn.training.GetStatus(pb.GetStatusRequest(contract=entry.name))
                    if any(who.name == name and who.active for who in status.participants):
                        return True
            return False

        return bool(await self.link.call(ask))


def sl_name(node: NodeDefinition, profile: Profile) -> str:
    """What the SL of a pair is called: by its certificate, with its idx where others of the profile share it. Empty
    where the certificate cannot be read here.
    """
    sources = [
        file.attribute.source
        for file in node.identity
        if file.attribute.kind == "CERT" and file.attribute.mount == "BIND"
    ]
    if not sources:
        return ""
    try:
        certificate = read_chain(Path(sources[0]))[0]
        return identity_of_certificate(certificate.public_bytes(Encoding.DER)).name
    except SwarmError:
        return ""


def _with_real_sources(spec: PairSpec) -> PairSpec:
    """Binds by where their sources really are: a link below an allowed directory may lead anywhere."""
    mounts = tuple(
        replace(mount, source=str(Path(mount.source).resolve())) if mount.kind is MountKind.BIND else mount
        for mount in spec.ml.mounts
    )
    return replace(spec, ml=replace(spec.ml, mounts=mounts))


def _private_data(node: NodeDefinition) -> list[Path]:
    """What the profile itself gives to a node."""
    return [Path(node.private_data.source).resolve()] if node.private_data else []


def _described(ml: NodeSpec) -> dict[str, Any]:
    return {
        "image": ml.image,
        "entrypoint": list(ml.entrypoint or ()),
        "command": list(ml.command or ()),
        "working directory": ml.working_dir,
        "environment": dict(ml.environment),
        "mounts": [f"{mount.source} at {mount.target}" for mount in ml.mounts],
        "user": str(ml.user),
    }
