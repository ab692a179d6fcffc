"""A task: its header, and the body of each type, as users of such systems write them."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, StringConstraints

from services.errors import CredentialsInTask, DocumentUnusable
from services.tasks.document import Document, parse, shown
from services.tasks.validation import Schema, validate

BODY_LIMIT_BYTES = 64 * 1024
ROOT_TASK = "ROOTTASK"


class TaskType(StrEnum):
    RUN_SWARM = "RUN_SWARM"
    MAKE_USER_CONTAINER = "MAKE_USER_CONTAINER"
    PULL_IMAGE = "PULL_IMAGE"
    MAKE_SWARM_USER_CONTENT = "MAKE_SWARM_USER_CONTENT"


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("only printable characters are allowed")
    return text


def _absolute(text: str) -> str:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or "\0" in text:
        raise ValueError("an absolute path without '..' is needed")
    return text


def _pairs(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(value) != 1:
        raise ValueError("one NAME: value is needed in each entry of the list")
    (name, text), *_ = value.items()
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"'{name}' is not the name of a variable (letters, digits and '_')")
    if isinstance(text, str) and "\0" in text:
        raise ValueError("a value cannot hold a null character")
    return value


Line = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_printable)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_printable)]
AbsolutePath = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_absolute)]
VolumeName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,159}$")]
Variable = Annotated[dict[str, str | int | float | bool | None], AfterValidator(_pairs)]
"""``NAME: value``; ``~`` means not set, ``""`` is passed as empty."""


class TaskFields(Schema):
    """What all tasks have."""

    name: Name = Field(alias="Name")
    task_type: Literal["RUN_SWARM", "MAKE_USER_CONTAINER", "PULL_IMAGE", "MAKE_SWARM_USER_CONTENT"] = Field(
        alias="TaskType"
    )
    author: Line = Field(alias="Author")
    prereq: Line = Field(alias="Prereq", description="The task whose outcome this one needs; ROOTTASK for none.")
    outcome: Line = Field(alias="Outcome", description="The image or volume that the task makes.")


class SharedMount(Schema):
    """Content mounted into every ML program of the task, at ``Tgt``."""

    source: Line = Field(alias="Src")
    target: AbsolutePath = Field(alias="Tgt")
    kind: Literal["BIND", "VOLUME"] = Field(alias="MType")


class RunSwarm(Schema):
    """A training: each SL is paired with an ML program that runs the image made by the prerequisite."""

    command: str = Field(alias="Command", max_length=8192)
    entrypoint: str = Field(alias="Entrypoint", max_length=1024)
    working_dir: AbsolutePath = Field(alias="WorkingDir")
    envvars: list[Variable] | None = Field(alias="Envvars", max_length=1000)
    private_content: AbsolutePath | None = Field(alias="PrivateContent")
    shared_content: Annotated[list[SharedMount], Field(min_length=1, max_length=100)] | None = Field(
        alias="SharedContent"
    )


class MakeUserContainer(Schema):
    """Builds an image from the lines of a Dockerfile."""

    build_context: VolumeName | None = Field(alias="BuildContext")
    build_steps: list[Annotated[str, StringConstraints(min_length=1, max_length=4096)]] = Field(
        alias="BuildSteps", min_length=1, max_length=1000
    )
    build_type: Literal["INLINE"] = Field(alias="BuildType")


class PullImage(Schema):
    """Pulls an image from a registry. Credentials stay on the host: ``Auth`` can only name a file there."""

    tag: Line = Field(alias="Tag")
    repository: Line = Field(alias="RepoName")
    registry: Line = Field(alias="OrgAndReg")
    auth: AbsolutePath | None = Field(alias="Auth")


class Output(Schema):
    path: Line = Field(alias="Out")


class ContentOperation(Schema):
    operation: Literal["DOWNLOAD", "EXTRACT"] = Field(alias="Operation")
    target: Line = Field(alias="Target")
    options: list[Output] | None = Field(alias="Options", max_length=20)


class MakeSwarmUserContent(Schema):
    """Fills a volume with files: a build context, or content for each node."""

    content_type: Literal["BUILDCONTENT", "SWARMCONTENT"] = Field(alias="ContentType")
    operations: list[ContentOperation] = Field(alias="OpsList", min_length=1, max_length=20)


Body = RunSwarm | MakeUserContainer | PullImage | MakeSwarmUserContent

BODIES: Mapping[str, type[RunSwarm | MakeUserContainer | PullImage | MakeSwarmUserContent]] = {
    TaskType.RUN_SWARM: RunSwarm,
    TaskType.MAKE_USER_CONTAINER: MakeUserContainer,
    TaskType.PULL_IMAGE: PullImage,
    TaskType.MAKE_SWARM_USER_CONTENT: MakeSwarmUserContent,
}


class TaskDefinition(Schema):
    """A whole task. ``body_text``: the YAML of its body, as registered."""

    header: TaskFields
    body: Body
    body_text: str


class _File(TaskFields):
    body: dict[str, Any] = Field(alias="Body")


def read_task(text: bytes | str, source: str) -> TaskDefinition:
    """The task in a YAML file. ``source``: its name in errors.

    Raises DocumentUnusable with file, line and key path; CredentialsInTask for a password that would get onto the
    chain.
    """
    document = parse(text, source)
    file = validate(document, _File)
    fields = {"name", "task_type", "author", "prereq", "outcome"}
    header = TaskFields.model_validate({key: getattr(file, key) for key in fields})
    body = _body(document, file.task_type, ("Body",))
    body_text = yaml.safe_dump(file.body, allow_unicode=True, sort_keys=False, default_flow_style=False, width=1000)
    if (size := len(body_text.encode())) > BODY_LIMIT_BYTES:
        raise document.problem(("Body",), f"it has {size:,} bytes, of at most {BODY_LIMIT_BYTES:,}")
    return TaskDefinition(header=header, body=body, body_text=body_text)


def check_body(task_type: str, text: str, source: str = "body") -> Body:
    """The body of a task that was written line by line. Raises as ``read_task``."""
    if task_type not in BODIES:
        raise DocumentUnusable(source=source, line=1, path="TaskType", problem=f"{shown(task_type)} is not a task type")
    return _body(parse(text, source), task_type, ())


def _body(document: Document, task_type: str, path: tuple[str, ...]) -> Body:
    value = document.data
    for part in path:
        value = value[part]
    if task_type == TaskType.PULL_IMAGE and isinstance(value, dict) and isinstance(value.get("Auth"), dict):
        raise CredentialsInTask(source=document.source, line=document.line((*path, "Auth")))
    return validate(document, BODIES[task_type], path)
