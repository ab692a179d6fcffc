"""Whether a task may run on this host: every reason why not. No I/O."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from services.swop.build_steps import examine
from services.swop.executors.spec import Image
from services.swop.image_names import ImageName, allowed
from services.swop.policy_devices import device_reasons
from services.swop.policy_file import Policy
from services.swop.policy_mounts import mount_reasons, volume_reasons
from services.swop.profile import Profile
from services.tasks.definition import (
    Body,
    ContentOperation,
    MakeSwarmUserContent,
    MakeUserContainer,
    PullImage,
    RunSwarm,
)

TASK_LABEL = "swarm.task"
"""On each image that a task made."""

# Set by the SWOP for a program, and the variable that tells container runtimes which GPUs to hand out.
RESERVED_VARIABLES = frozenset({"SL_REQUEST_CHANNEL", "SL_RESPONSE_CHANNEL", "NVIDIA_VISIBLE_DEVICES"})
RESERVED_BEGINNINGS = ("SWARM_ID_", "SWARM_LICENSE_", "SWARM_SPIFFE_", "SWOP_", "DOCKER_", "CONTAINER_")

# With these, a program runs code other than its own.
LOADING = (
    "LD_*", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONINSPECT", "PYTHONBREAKPOINT",
    "PYTHONWARNINGS", "BASH_ENV", "ENV", "SHELLOPTS", "PATH", "PERL5OPT", "PERL5LIB", "RUBYOPT", "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS", "GCONV_PATH",
)  # fmt: skip


@dataclass(frozen=True)
class TaskRequest:
    """A task as the chain has it, and what this host has under the names in the task.

    ``registrant``: role/name of the certificate that registered it; ``fingerprint``: SHA-256 of its public key.
    ``image``: what the programs of RUN_SWARM would run, ``image_name``: its name in the task. ``replaced``: the image
    that now has the name of a build's outcome. ``real_paths``: directories of this host with links followed; None for
    one that this SWOP cannot see.
    """

    name: str
    registrant: str
    fingerprint: bytes
    outcome: str
    body: Body
    image_name: str = ""
    image: Image | None = None
    replaced: Image | None = None
    real_paths: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """What the owner of the host has set. ``own_images``: those of the swarm's own nodes. ``protected``: what no task
    may mount, such as keys, the profile, the policy and the runtime's socket.
    """

    profile: Profile
    own_images: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()


def decide(policy: Policy, request: TaskRequest, host: Host) -> tuple[str, ...]:
    """Every reason to refuse the task, as parts of a sentence; empty if it may run."""
    return tuple(dict.fromkeys(_reasons(policy, request, host)))


def _reasons(policy: Policy, request: TaskRequest, host: Host) -> Iterator[str]:
    yield from _author(policy, request)
    match request.body:
        case RunSwarm() as body:
            yield from _type(policy, "RUN_SWARM")
            yield from _program(policy, request, body, host)
            yield from mount_reasons(policy, body, request.real_paths, host.protected)
            for node in host.profile.definitions:
                yield from device_reasons(policy, node.ml_options or ())
        case MakeUserContainer() as body:
            yield from _type(policy, "MAKE_USER_CONTAINER")
            yield from _build(policy, request, body, host)
        case PullImage() as body:
            yield from _type(policy, "PULL_IMAGE")
            yield from _pull(policy, request, body, host)
        case MakeSwarmUserContent() as body:
            yield from _type(policy, "MAKE_SWARM_USER_CONTENT")
            yield from volume_reasons(policy, request.outcome)
            for operation in body.operations:
                yield from _operation(policy, operation)


def _author(policy: Policy, request: TaskRequest) -> Iterator[str]:
    if policy.authors is None:
        return
    fingerprint = f"sha256:{request.fingerprint.hex()}"
    if not any(fnmatchcase(request.registrant, author) or author == fingerprint for author in policy.authors):
        who = request.registrant or "nobody"
        yield f"it was registered by {who}, who is not among the authors of this host's policy"


def _type(policy: Policy, task_type: str) -> Iterator[str]:
    if policy.task_types is not None and task_type not in policy.task_types:
        yield f"tasks of type {task_type} are not allowed here"


def _program(policy: Policy, request: TaskRequest, body: RunSwarm, host: Host) -> Iterator[str]:
    yield from _image(policy, request.image_name, digests_of(request.image))
    yield from _own(request.image_name, host, "would be run as a training program")
    try:
        words = shlex.split(body.entrypoint)
        shlex.split(body.command)
    except ValueError as error:
        yield f"its Entrypoint or Command cannot be read: {str(error).lower()}"
        return
    if policy.entrypoints is not None and words not in [_words(entry) for entry in policy.entrypoints]:
        yield f"the entrypoint {body.entrypoint!r} is not allowed here"
    for name in (name for variable in body.envvars or () for name in variable):
        yield from _variable(policy, name)


def _words(entrypoint: str) -> list[str] | None:
    try:
        return shlex.split(entrypoint)
    except ValueError:
        return None


def _variable(policy: Policy, name: str) -> Iterator[str]:
    if name in RESERVED_VARIABLES or name.startswith(RESERVED_BEGINNINGS):
        yield f"the variable {name} is set by the SWOP alone"
        return
    if policy.env_vars is not None and not any(fnmatchcase(name, pattern) for pattern in policy.env_vars):
        yield f"the variable {name} is not allowed here"
        return
    if any(fnmatchcase(name, loading) for loading in LOADING) and name not in (policy.env_vars or ()):
        yield f"the variable {name} would change which code a program runs; a policy must name it in full"


def _image(policy: Policy, name: str, digests: Iterable[str] = ()) -> Iterator[str]:
    try:
        parsed = ImageName.parse(name)
    except ValueError as error:
        yield str(error)
        return
    if policy.images is not None and not allowed(policy.images, parsed, tuple(digests)):
        known = next(iter(digests), "")
        yield f"the image {parsed}{f' (now {known})' if known else ''} is not allowed here"


def _own(name: str, host: Host, what: str) -> Iterator[str]:
    try:
        parsed = ImageName.parse(name)
    except ValueError:
        return  # already reported
    if any(parsed.same_place(ImageName.parse(own)) for own in host.own_images):
        yield f"{parsed} is an image of the swarm's own nodes, which {what}"


def _build(policy: Policy, request: TaskRequest, body: MakeUserContainer, host: Host) -> Iterator[str]:
    steps = examine(body.build_steps)
    yield from steps.faults
    for image in steps.images:
        if "$" in image and policy.images is not None:
            yield f"a build step starts from {image!r}, which is known only while it is built"
        elif "$" not in image:
            yield from _image(policy, image)
            yield from _own(image, host, "a build would start from")
    for address in steps.downloads:
        yield from _address(policy, address)
    if body.build_context is not None:
        yield from volume_reasons(policy, body.build_context)
    yield from _outcome(policy, request, host)


def _outcome(policy: Policy, request: TaskRequest, host: Host) -> Iterator[str]:
    yield from _image(policy, request.outcome)
    yield from _own(request.outcome, host, "the task would replace")
    if request.replaced is None or TASK_LABEL in request.replaced.labels:
        return
    try:
        named = policy.images is not None and allowed(policy.images, ImageName.parse(request.outcome))
    except ValueError:
        return
    if not named:
        yield f"there is an image {request.outcome} here that no task made; it would be replaced"


def _pull(policy: Policy, request: TaskRequest, body: PullImage, host: Host) -> Iterator[str]:
    name = f"{body.registry}/{body.repository}:{body.tag}"
    try:
        parsed = ImageName.parse(name)
    except ValueError as error:
        yield str(error)
        return
    # Digests are checked when the image is run: before the pull, nobody knows its digest.
    if policy.images is not None and not allowed([_any_digest(one) for one in policy.images], parsed):
        yield f"the image {parsed} is not allowed here"
    yield from _own(name, host, "the task would replace")
    if body.auth is not None and ".." in PurePosixPath(body.auth).parts:
        yield f"Auth leads out of its directory: {body.auth!r}"


def _any_digest(pattern: str) -> str:
    place, _, digest = pattern.partition("@")
    return place if digest else pattern


def _operation(policy: Policy, operation: ContentOperation) -> Iterator[str]:
    if operation.operation == "DOWNLOAD":
        yield from _address(policy, operation.target)
    else:
        yield from _inside(operation.target, "EXTRACT")
    for option in operation.options or ():
        yield from _inside(option.path, "Out")


def _inside(path: str, what: str) -> Iterator[str]:
    parsed = PurePosixPath(path)
    if parsed.is_absolute() or ".." in parsed.parts or path.startswith("-"):
        yield f"{what} leads out of the volume: {path!r}"


def _address(policy: Policy, address: str) -> Iterator[str]:
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        yield f"{address!r} is not an address"
        return
    if parts.scheme.lower() not in {"http", "https"} or not host:
        yield f"{address!r} is not an address of the web (https://…)"
    elif parts.username is not None or parts.password is not None:
        yield f"the address of a download on {host} has a user name or password in it"
    elif policy.downloads is not None and not any(fnmatchcase(address, pattern) for pattern in policy.downloads):
        yield f"downloads from {address!r} are not allowed here"


def digests_of(image: Image | None) -> tuple[str, ...]:
    """Every digest that names the content of an image."""
    if image is None:
        return ()
    return (image.digest, *(name.rpartition("@")[2] for name in image.repository_digests))
