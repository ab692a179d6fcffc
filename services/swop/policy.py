"""What the owner of a host lets tasks do there: a file, and plain decisions from it. No I/O but reading that file.

Without a file, tasks of the swarm's commanders may build and run, but bind no directory of the host outside the SWOP's
own ``usr`` directory and what the profile itself gives to its nodes.
"""

import fnmatch
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from services.errors import FileUnreadable
from services.swop.executors.spec import Image, MountKind, NodeSpec
from services.tasks.definition import AbsolutePath, Line, MakeUserContainer, PullImage, TaskDefinition
from services.tasks.document import SIZE_LIMIT_BYTES, parse
from services.tasks.validation import Schema, validate

# Variables by which a loader or an interpreter takes code from elsewhere, or which lead the callback elsewhere.
FORBIDDEN_VARIABLES = (
    "LD_*", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PATH", "BASH_ENV", "ENV", "IFS",
    "SL_REQUEST_CHANNEL", "SL_RESPONSE_CHANNEL", "SWARM_ID_*",
)  # fmt: skip


class Policy(Schema):
    """Lists name what is allowed; ``~`` stands for everything, an empty list for nothing.

    Patterns are those of a shell (``*``). Authors are role/name of the certificate that registered a task, never the
    YAML's word.
    """

    authors: list[Line] | None = Field(None, description="Who may have registered a task, as role/name.")
    task_types: list[Line] | None = Field(None, alias="tasktypes")
    images: list[Line] | None = Field(None, description="Names by pattern, or digests (sha256:…), of images to run.")
    base_images: list[Line] | None = Field(None, alias="baseimages", description="What builds may begin FROM.")
    registries: list[Line] | None = Field(None, description="Where images may be pulled from.")
    entrypoints: list[Line] | None = None
    bind_sources: list[AbsolutePath] = Field(
        default=[], alias="bindsources", description="Directories of this host that tasks may mount, with all below."
    )
    variables: list[Line] | None = Field(default=None, description="Names of variables that a task may set.")
    gpus: bool = True
    run_time_s: Annotated[int, Field(ge=1)] | None = Field(None, alias="runtime", description="Seconds a pair may run.")
    memory_bytes: Annotated[int, Field(ge=1)] | None = Field(None, alias="memory")
    approval: Literal["none", "every"] = Field("none", description="every: the owner confirms each task.")


def default_policy() -> Policy:
    """Where the profile names none."""
    return Policy.model_validate({})


def read_policy(path: Path) -> Policy:
    """Raises FileUnreadable, DocumentUnusable."""
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT_BYTES + 1)
    except OSError as error:
        raise FileUnreadable(path=path, problem=error.strerror or str(error)) from None
    return validate(parse(raw, path.name), Policy)


def refuses_task(policy: Policy, task: TaskDefinition, registrant: str) -> str | None:
    """Why a task may not be done here at all; None where it may, as far as its text tells."""
    if not _allowed(policy.authors, registrant):
        return f"tasks registered by {registrant} are not accepted on this host"
    if not _allowed(policy.task_types, task.header.task_type):
        return f"tasks of type {task.header.task_type} are not accepted on this host"
    if isinstance(task.body, MakeUserContainer):
        return _refuses_build(policy, task.body)
    if isinstance(task.body, PullImage) and not _allowed(policy.registries, task.body.registry):
        return f"images from {task.body.registry} are not accepted on this host"
    return None


def refuses_program(
    policy: Policy, ml: NodeSpec, image: Image, given: Iterable[str], own: Iterable[Path]
) -> str | None:
    """Why an ML program may not be started; None where it may.

    ``given``: names of the variables that the task sets; ``own``: directories that tasks may mount without being
    allowed to, real paths. Sources of binds must be real paths too.
    """
    if not _allowed(policy.images, ml.image) and not _allowed(policy.images, image.digest):
        return f"the image {ml.image} ({image.digest[:19]}) is not accepted on this host"
    entrypoint = " ".join(ml.entrypoint or ())
    if not _allowed(policy.entrypoints, entrypoint):
        return f"the entrypoint '{entrypoint}' is not accepted on this host"
    for name in given:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in FORBIDDEN_VARIABLES):
            return f"the variable {name} would change which code runs, or whom it speaks to"
        if not _allowed(policy.variables, name):
            return f"the variable {name} may not be set by tasks on this host"
    allowed = [*(PurePosixPath(path) for path in policy.bind_sources), *(PurePosixPath(path) for path in own)]
    for mount in ml.mounts:
        if mount.kind is MountKind.BIND and not _is_below(mount.source, allowed):
            return f"the directory {mount.source} of this host may not be mounted; bindsources of the policy allows it"
    if ml.devices.gpus and not policy.gpus:
        return "GPUs may not be used on this host"
    return None


def _refuses_build(policy: Policy, body: MakeUserContainer) -> str | None:
    for step in body.build_steps:
        words = step.split()
        if words and words[0].upper() == "FROM":
            base = next((word for word in words[1:] if not word.startswith("--")), "")
            if not _allowed(policy.base_images, base):
                return f"an image may not be built from {base or 'nothing'} on this host"
        if "--mount=type=ssh" in step or "--mount=type=secret" in step or "--security=insecure" in step:
            return f"the build step '{step[:60]}' asks for what the host does not give"
    return None


def _allowed(patterns: list[str] | None, value: str) -> bool:
    return patterns is None or any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)


def _is_below(source: str, allowed: Iterable[PurePosixPath]) -> bool:
    path = PurePosixPath(source)
    return ".." not in path.parts and any(path == root or root in path.parents for root in allowed)
