"""Which directories and volumes of a host a task may mount, and how. No I/O."""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from services.errors import MountEscapes
from services.swop.executors.spec import Mount, MountKind
from services.swop.policy_file import READ_ONLY, Policy
from services.tasks.definition import RunSwarm, SharedMount

VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,159}")
OWN_VOLUMES = "swop-"
"""How names of volumes begin that a SWOP makes for pairs: they hold models and pipes of other programs."""

# A task that mounted something here could come between a program and its SL, or reach what is the host's own.
RESERVED_TARGETS = ("/tmp/hpe-swarm", "/swarm-cert", "/platform/swarm", "/proc", "/sys", "/dev")  # noqa: S108


def mount_reasons(
    policy: Policy, body: RunSwarm, real_paths: Mapping[str, str | None], protected: Iterable[str]
) -> Iterator[str]:
    """Why the mounts of a task are refused. ``real_paths``: with links followed; None: not visible from here."""
    targets: list[str] = [] if body.private_content is None else [body.private_content]
    for shared in body.shared_content or ():
        targets.append(shared.target)
        if shared.kind == "VOLUME":
            yield from volume_reasons(policy, shared.source)
        else:
            yield from _bind_reasons(policy, shared.source, real_paths, protected)
    for target in targets:
        yield from _target_reasons(target)
    if len({str(PurePosixPath(target)) for target in targets}) < len(targets):
        yield "two of its mounts have the same target"


def volume_reasons(policy: Policy, name: str) -> Iterator[str]:
    """Why a volume may not be mounted or filled."""
    if not VOLUME_NAME.fullmatch(name):
        yield f"{name[:80]!r} is not the name of a volume (letters, digits, '_', '.' and '-')"
    elif name.startswith(OWN_VOLUMES):
        yield f"the volume {name} belongs to the SWOP"
    elif policy.volumes is not None and not any(fnmatchcase(name, pattern) for pattern in policy.volumes):
        yield f"the volume {name} is not allowed here"


def confined(policy: Policy, shared: SharedMount) -> Mount:
    """The mount for an allowed source: the directory that the policy names, and a subpath of it, so that the executor
    checks that no link leads out. Raises MountEscapes for a source that is not allowed.
    """
    if shared.kind == "VOLUME":
        return Mount(MountKind.VOLUME, shared.source, shared.target)
    found = _base(policy, shared.source)
    if found is None:
        raise MountEscapes(source=shared.source, target=shared.target, problem="the policy of this host allows no such")
    base, read_only = found
    part = PurePosixPath(shared.source).relative_to(base)
    subpath = str(part) if part.parts else None
    return Mount(MountKind.BIND, str(base), shared.target, read_only=read_only, subpath=subpath, seen_here=True)


def sources(policy: Policy, body: RunSwarm) -> list[str]:
    """The paths for which ``mount_reasons`` needs ``real_paths``."""
    binds = [shared.source for shared in body.shared_content or () if shared.kind == "BIND"]
    return [*binds, *(entry.removesuffix(READ_ONLY) for entry in policy.bind_sources)]


def _base(policy: Policy, source: str) -> tuple[PurePosixPath, bool] | None:
    """The innermost directory of the policy that contains the source, and whether it is read-only."""
    path = PurePosixPath(source)
    if not path.is_absolute() or ".." in path.parts:
        return None
    entries = [
        (PurePosixPath(entry.removesuffix(READ_ONLY)), entry.endswith(READ_ONLY)) for entry in policy.bind_sources
    ]
    fitting = [entry for entry in entries if path.is_relative_to(entry[0])]
    return max(fitting, key=lambda entry: len(entry[0].parts), default=None)


def _bind_reasons(
    policy: Policy, source: str, real_paths: Mapping[str, str | None], protected: Iterable[str]
) -> Iterator[str]:
    path = PurePosixPath(source)
    if not path.is_absolute() or ".." in path.parts:
        yield f"the bind source {source!r} is not an absolute path without '..'"
        return
    found = _base(policy, source)
    if found is None:
        bases = ", ".join(policy.bind_sources) or "nothing"
        yield f"it mounts {source} of this host, whose policy allows {bases} (bindsources)"
        return
    base, _ = found
    real, real_base = real_paths.get(source), real_paths.get(str(base))
    if real is None or real_base is None:
        if path != base:
            yield f"{source} cannot be seen from this SWOP, so that only what bindsources names itself can be mounted"
        real = source
    elif not PurePosixPath(real).is_relative_to(real_base):
        yield f"a link in {source} leads to {real}, out of {base}"
    if any(_overlap(one, candidate) for one in (source, real) for candidate in protected):
        yield f"{source} holds files of the SWOP itself, such as keys, its profile or its policy"


def _overlap(first: str, second: str) -> bool:
    one, other = PurePosixPath(first), PurePosixPath(second)
    return one.is_relative_to(other) or other.is_relative_to(one)


def _target_reasons(target: str) -> Iterator[str]:
    path = PurePosixPath(target)
    if str(path) in {"/", "//"} or any(path.is_relative_to(reserved) for reserved in RESERVED_TARGETS):
        yield f"nothing can be mounted at {target}, which is the swarm's or the system's own"
