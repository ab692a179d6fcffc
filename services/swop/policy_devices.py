"""Which GPUs and privileges of a profile a program may get. No I/O."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from services.swop.policy_file import Policy

PRIVATE_IPC = frozenset({"", "none", "private", "shareable"})
HARMLESS_SECURITY = frozenset({"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"})

Value = str | int | bool | None


def device_reasons(policy: Policy, options: Iterable[Mapping[str, Value]]) -> Iterator[str]:
    """Why options of a profile (``usrcontaineropts``) may not be given to a task's program."""
    for option in options:
        for name, value in option.items():
            text = "" if value is None else str(value)
            if name == "gpus":
                yield from _gpus(policy, text)
            elif name == "device":
                yield from _devices(policy, text)
            elif _is_privilege(name, text) and name not in policy.privileged:
                yield f"the profile gives programs '{name}: {text}', which the policy does not allow (privileged)"


def _is_privilege(name: str, value: str) -> bool:
    match name:
        case "privileged":
            return value.lower() == "true"
        case "cap-add":
            return True
        case "security-opt":
            return not all(part.strip() in HARMLESS_SECURITY for part in value.split(","))
        case "ipc":
            return value not in PRIVATE_IPC
        case _:
            return False


def _gpus(policy: Policy, asked: str) -> Iterator[str]:
    if policy.gpus is None or asked in {"", "0"}:
        return
    if not policy.gpus:
        yield f"the profile hands out GPUs ({asked}), which the policy does not allow"
        return
    listed = asked.removeprefix("device=").strip("\"'").split(",") if asked.startswith("device=") else None
    if listed is None or not set(listed) <= set(policy.gpus):
        yield f"the profile hands out the GPUs {asked}, but the policy allows {', '.join(policy.gpus)}"


def _devices(policy: Policy, value: str) -> Iterator[str]:
    for path in value.split(","):
        if _is_gpu(path.partition(":")[0].strip()):
            if policy.gpus == []:
                yield f"the profile hands out the GPU {path}, which the policy does not allow"
        elif "device" not in policy.privileged:
            yield f"the profile hands out the device {path}, which the policy does not allow (privileged)"


def _is_gpu(path: str) -> bool:
    """Whether it is a GPU device of ROCm or Intel, or a directory of such devices."""
    parsed = PurePosixPath(path)
    return ".." not in parsed.parts and (path == "/dev/kfd" or parsed.is_relative_to("/dev/dri"))
