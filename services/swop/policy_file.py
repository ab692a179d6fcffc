"""The policy of a host: which tasks its owner lets a SWOP run. A YAML file, named by ``policyuri`` of the profile."""

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from services.errors import PolicyUnusable
from services.swop.executors.spec import ResourceLimits
from services.tasks.definition import Line
from services.tasks.document import read_document
from services.tasks.validation import Schema, validate

UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
READ_ONLY = ":ro"

_AUTHOR = re.compile(r"(?:swci|admin|\*)/\S+|sha256:[0-9a-f]{64}")


def _author(text: str) -> str:
    if not _AUTHOR.fullmatch(text):
        raise ValueError("an author is swci/NAME, admin/NAME or sha256:FINGERPRINT of a public key")
    return text


def _directory(text: str) -> str:
    path = text.removesuffix(READ_ONLY)
    if not path.startswith("/") or ".." in path.split("/") or not path.isprintable():
        raise ValueError("an absolute path without '..' is needed; ':ro' behind it lets tasks read only")
    return text


def _size(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,14}[kmgt]?", text, re.IGNORECASE):
        raise ValueError("a size such as 512m or 16g is needed")
    return text


Author = Annotated[str, StringConstraints(max_length=300), AfterValidator(_author)]
Directory = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_directory)]
Size = Annotated[str, AfterValidator(_size)]
Gpu = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
Privilege = Literal["privileged", "cap-add", "security-opt", "ipc", "device"]
Patterns = Annotated[list[Line], Field(max_length=1000)]


class Policy(Schema):
    """A missing list allows everything, except ``bindsources`` and ``privileged``, which then allow nothing.

    An empty list allows nothing. ``*`` in a pattern matches anything.
    """

    authors: Annotated[list[Author], Field(max_length=1000)] | None = Field(
        None,
        description="Whose tasks are accepted: the certificate that registered a task counts, not its field Author.",
    )
    task_types: list[Literal["RUN_SWARM", "MAKE_USER_CONTAINER", "PULL_IMAGE", "MAKE_SWARM_USER_CONTENT"]] | None = (
        Field(None, alias="tasktypes")
    )
    images: Patterns | None = Field(
        None,
        description="Images that programs run and builds start from: NAME, NAME:TAG, NAME@sha256:… or sha256:….",
    )
    entrypoints: Annotated[list[Annotated[str, StringConstraints(max_length=1024)]], Field(max_length=1000)] | None = (
        Field(None, description="Complete entrypoints; '' means that of the image.")
    )
    bind_sources: Annotated[list[Directory], Field(max_length=1000)] = Field(
        [],
        alias="bindsources",
        description="Directories of this host that tasks may mount, with all below them; ':ro' means read-only.",
    )
    volumes: Patterns | None = Field(None, description="Volumes of this host that tasks may mount or fill.")
    env_vars: Patterns | None = Field(
        None, alias="envvars", description="Names of variables that tasks may set for their programs."
    )
    downloads: Patterns | None = Field(
        None, description="Addresses that tasks may download from, such as https://host/*."
    )
    gpus: Annotated[list[Gpu], Field(max_length=64)] | None = Field(
        None,
        description="GPUs that the profile may give to programs, by number or UUID; missing: all in the profile.",
    )
    privileged: list[Privilege] = Field(
        [], description="Options in the profile (usrcontaineropts) that give programs privileges on this host."
    )
    max_minutes: Annotated[int, Field(ge=1, le=525_600)] | None = Field(
        None, alias="maxminutes", description="A task is ended after so many minutes."
    )
    max_memory: Size | None = Field(None, alias="maxmemory", description="Memory limit of each program, such as 16g.")
    max_processes: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, alias="maxprocesses", description="Limit of processes and threads of each program."
    )
    approval: Literal["none", "every"] = Field(
        "none", description="every: a person must first approve each task on this host (swarm swop approve)."
    )

    def allowing(self, *directories: Path) -> "Policy":
        """This policy, with more directories that tasks may mount."""
        return self.model_copy(update={"bind_sources": [*self.bind_sources, *(str(path) for path in directories)]})

    @property
    def limits(self) -> ResourceLimits:
        """What each program may use."""
        return ResourceLimits(None if self.max_memory is None else bytes_of(self.max_memory), self.max_processes)

    @property
    def max_seconds(self) -> float | None:
        """How long a task may take."""
        return None if self.max_minutes is None else self.max_minutes * 60.0


ACCEPTS_AS_DOCUMENTED = Policy.model_validate({})
"""Without a file: every task, but for bind mounts of its own and privileges."""


def read_policy(uri: str | None, directory: Path) -> Policy:
    """The policy that a profile names: a path relative to ``directory``, or a file: URI; None: none is named.

    Raises PolicyUnusable, FileUnreadable, DocumentUnusable with file, line and key path.
    """
    if uri is None:
        return ACCEPTS_AS_DOCUMENTED
    path = policy_path(uri, directory)
    document = read_document(path, path.name)
    if document.data is None:
        raise PolicyUnusable(uri=uri, problem="the file is empty; {} is a policy that restricts nothing more")
    return validate(document, Policy)


def policy_path(uri: str, directory: Path) -> Path:
    """Raises PolicyUnusable."""
    scheme, place, path, query, fragment = (
        urlsplit(uri) if "://" in uri or uri.startswith("file:") else ("", "", uri, "", "")
    )
    if scheme not in {"", "file"} or place not in {"", "localhost"} or query or fragment:
        raise PolicyUnusable(uri=uri, problem="only a file of this host can be a policy")
    return directory / (unquote(path) if scheme else path)


def bytes_of(size: str) -> int:
    """``512m`` as bytes."""
    unit = UNITS.get(size[-1].lower())
    return int(size) if unit is None else int(size[:-1]) * unit
