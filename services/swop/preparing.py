"""Turns a task on the chain into work on this host: checks hash, text and policy, finds the image, makes pairs."""

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from services.chain.task_events import TaskHeader as ChainHeader
from services.chain.tasks import content_hash
from services.errors import ImageMissing, SwarmError, TaskRefused
from services.identity.certificates import read_chain
from services.identity.peers import identity_of_certificate
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.swop.content import ContentWork
from services.swop.executors.base import Executor
from services.swop.executors.spec import Image, NodeSpec
from services.swop.link import SwopLink
from services.swop.pairs import PairPlacement, PairSpec, labels_of, pair
from services.swop.policy import Host, TaskRequest, decide
from services.swop.policy_file import Policy
from services.swop.policy_mounts import OWN_VOLUMES, confined, sources
from services.swop.profile import NodeDefinition, Profile
from services.swop.work import AssignmentWork, BuildWork, PairsWork, PullWork, build_spec, new_secret, pull_spec
from services.tasks.definition import (
    ROOT_TASK,
    MakeSwarmUserContent,
    MakeUserContainer,
    PullImage,
    RunSwarm,
    TaskDefinition,
    TaskFields,
    check_body,
)


@dataclass(frozen=True)
class Prepared:
    """``description``: exactly what would run, for the owner of the host. ``digest``: its SHA-256."""

    digest: bytes
    work: AssignmentWork
    description: dict[str, Any]
    needs_approval: bool


@dataclass(frozen=True)
class Workshop:
    """``place``: without the assignment. ``protected``: what no task may mount."""

    link: SwopLink
    executor: Executor
    profile: Profile
    policy: Policy
    place: PairPlacement
    protected: tuple[str, ...]

    async def prepare(self, status: pb.RunnerStatus) -> Prepared:
        """Raises TaskRefused with the reason, ImageMissing and the like. Nothing is begun that cannot be done here."""
        task, entry = await self._task(status.task)
        if entry.content_hash != status.content_hash:
            raise TaskRefused(task=f"The task {status.task}", problem="it is not the one that was assigned")
        request = await self._request(task, entry)
        host = Host(self.profile, (self.place.sl_image,), self.protected)
        if reasons := decide(self.policy, request, host):
            raise TaskRefused(task=f"The task {status.task}", problem="; ".join(reasons))
        place = replace(self.place, assignment=status.assignment, secret=new_secret())
        work, runs = await self._work(task, request, place)
        description = {
            "task": task.header.name, "type": str(task.header.task_type), "registered by": entry.registrant,
            "content hash": status.content_hash.hex(), "assigned by": status.assigned_by, "runs": runs,
        }  # fmt: skip
        digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).digest()
        return Prepared(digest, work, description, self.policy.approval == "every")

    async def _task(self, name: str) -> tuple[TaskDefinition, pb.TaskEntry]:
        """The task from its SN, after checking that its hash is the one on the chain."""
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
        known = TaskFields.model_validate({
            "name": header.name, "task_type": header.type, "author": header.author, "prereq": header.prereq,
            "outcome": header.outcome,
        })  # fmt: skip
        return TaskDefinition(header=known, body=body, body_text=reply.body), entry

    async def _request(self, task: TaskDefinition, entry: pb.TaskEntry) -> TaskRequest:
        """The task, with what this host has under the names in the task."""
        header = task.header
        request = TaskRequest(header.name, entry.registrant, entry.fingerprint, header.outcome, task.body)
        if isinstance(task.body, RunSwarm):
            if header.prereq == ROOT_TASK:
                problem = "its Prereq is ROOTTASK, but must name the task that makes the image of its program"
                raise TaskRefused(task=f"The task {header.name}", problem=problem)
            prereq, _ = await self._task(header.prereq)
            name = prereq.header.outcome
            image = await self.executor.image(name)
            real = await asyncio.to_thread(_real_paths, sources(self.policy, task.body))
            return replace(request, image_name=name, image=image, real_paths=real)
        if isinstance(task.body, MakeUserContainer) and self.executor.builds_images:
            return replace(request, replaced=await self._image_named(header.outcome))
        return request

    async def _image_named(self, name: str) -> Image | None:
        with contextlib.suppress(ImageMissing):
            return await self.executor.image(name)
        return None

    async def _work(
        self, task: TaskDefinition, request: TaskRequest, place: PairPlacement
    ) -> tuple[AssignmentWork, list[dict[str, Any]]]:
        labels = labels_of(place.swop, place.runner, place.assignment, authority=place.authority, task=task.header.name)
        match task.body:
            case RunSwarm():
                return await self._pairs(task, task.body, request, place)
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

    async def _pairs(
        self, task: TaskDefinition, body: RunSwarm, request: TaskRequest, place: PairPlacement
    ) -> tuple[AssignmentWork, list[dict[str, Any]]]:
        image = request.image_name
        if self.executor.builds_images and request.image is not None:
            image = request.image.digest  # the image decided on; its name may meanwhile go to another one
        specs = [
            self._confined(pair(self.profile, node, task, image, place), body) for node in self.profile.definitions
        ]
        nodes = zip(self.profile.definitions, specs, strict=True)
        names = {spec.index: name for node, spec in nodes if (name := sl_name(node, spec))}
        work = PairsWork(self.executor, specs, names, self._takes_part, self.policy.max_seconds)
        return work, [_described(spec.ml, request) for spec in specs]

    def _confined(self, spec: PairSpec, body: RunSwarm) -> PairSpec:
        """The pair, with the program's limits and mounts restricted to what the policy allows."""
        shared = {mount.target: confined(self.policy, mount) for mount in body.shared_content or ()}
        mounts = tuple(shared.get(mount.target, mount) for mount in spec.ml.mounts)
        return replace(spec, ml=replace(spec.ml, mounts=mounts, limits=self.policy.limits))

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


def sl_name(node: NodeDefinition, spec: PairSpec) -> str:
    """The name of a pair's SL: from its certificate and its slot. Empty if the certificate cannot be read here."""
    sources = [
        file.attribute.source
        for file in node.identity
        if file.attribute.kind == "CERT" and file.attribute.mount == "BIND"
    ]
    if not sources:
        return ""
    try:
        certificate = read_chain(Path(sources[0]))[0]
        identity = identity_of_certificate(certificate.public_bytes(Encoding.DER))
        return identity.in_slot(spec.sl.environment.get("SL_SLOT", "")).name
    except SwarmError:
        return ""


def _real_paths(paths: Iterable[str]) -> dict[str, str | None]:
    """The paths with links followed; None for one that this SWOP cannot see."""
    return {path: os.path.realpath(path) if Path(path).exists() else None for path in paths}


def _described(ml: NodeSpec, request: TaskRequest) -> dict[str, Any]:
    """Leaves out what differs between starts, so that the same program always has the same description."""
    mounts = [mount for mount in ml.mounts if not mount.source.startswith(OWN_VOLUMES)]
    return {
        "image": request.image_name,
        "image digest": request.image.digest if request.image else "",
        "entrypoint": None if ml.entrypoint is None else list(ml.entrypoint),
        "command": list(ml.command or ()),
        "working directory": ml.working_dir,
        "environment": dict(ml.environment),
        "mounts": [
            f"{Path(mount.source, mount.subpath or '')} at {mount.target}{' (read only)' if mount.read_only else ''}"
            for mount in mounts
        ],
        "devices": {name: value for name, value in asdict(ml.devices).items() if value},
        "limits": {name: value for name, value in asdict(ml.limits).items() if value},
        "user": str(ml.user),
    }
