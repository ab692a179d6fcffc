"""The state of a torch module under names that are the same on every node, and values that reach the module."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from swarm_callback.errors import NotLoaded, NotStorable
from swarm_callback.params import RawTensor, Tensor, same_bits

_EXTRA_STATE = "_extra_state"  # what a module stores besides tensors; private to it, never merged
# Attribute names by which torch.compile, DataParallel, DistributedDataParallel, FSDP and Opacus hold what they wrap.
_WRAPPED = frozenset({"_orig_mod", "module", "_module", "_fsdp_wrapped_module"})
_ONE = 0x3F80  # 1.0 in bfloat16


class TorchState:
    """Parameters and persistent buffers, as ``state_dict`` returns them. Names omit the parts that wrappers add. Tied
    weights (the same memory) are one entry, under the first of their names; so a model with tied weights has other
    parameters than one without. ``state_dict`` may return copies (hooks, an overridden method): these are loaded by
    ``load_state_dict``, then read again and compared.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model

    def read(self) -> dict[str, Tensor]:
        """The values by name, on the CPU. Raises NotStorable, naming the tensor."""
        return {name: _to_numpy(name, tensor) for name, _, tensor in self._entries()}

    def ties(self) -> dict[str, str]:
        """Tied names, each with the name under which its memory is shared."""
        return {name: first for name, _, _, first in self._named() if first != name}

    def buffers(self) -> list[str]:
        """Names of entries that are not parameters."""
        trained = {name for name, _ in self._model.named_parameters(remove_duplicate=False)}
        return [name for name, key, _ in self._entries() if key not in trained]

    def trainable(self) -> list[str]:
        """Names of parameters that are not frozen."""
        named = self._model.named_parameters(remove_duplicate=False)
        trained = {name for name, parameter in named if parameter.requires_grad}
        return [name for name, key, _ in self._entries() if key in trained]

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The live parameters that are not frozen, each once."""
        wrappers = _wrappers(self._model)
        named = self._model.named_parameters()
        return {_unwrapped(key, wrappers): parameter for key, parameter in named if parameter.requires_grad}

    @property
    def device(self) -> torch.device:
        """The device of the first tensor; the CPU if there is none."""
        return next((tensor.device for _, _, tensor in self._entries()), torch.device("cpu"))

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Writes the values into the module. Raises NotLoaded if ``load_state_dict`` does not take one."""
        own = _storages(self._model)
        copies: dict[str, torch.Tensor] = {}
        for name, key, target in self._entries():
            if _storage(target) in own:
                target.copy_(_placed(to_torch(tensors[name]), target))
            else:
                copies[key] = to_torch(tensors[name]).to(target.device, copy=True)  # hooks may write to it
        if copies:
            self._load_copies(copies)
            self._compare(tensors)

    @torch.no_grad()
    def check(self) -> None:
        """If ``state_dict`` returns copies, checks that other values reach the module, then restores its own. Raises
        NotLoaded, naming the tensor.
        """
        own = _storages(self._model)
        if all(_storage(tensor) in own for _, _, tensor in self._entries()):
            return
        kept = [(tensor, tensor.detach().clone()) for tensor in _tensors(self._model)]
        try:
            self.load({name: _another(tensor) for name, tensor in self.read().items()})
        finally:
            for tensor, value in kept:
                tensor.detach().copy_(value)

    def _load_copies(self, copies: Mapping[str, torch.Tensor]) -> None:
        try:
            self._model.load_state_dict({**self._model.state_dict(), **copies}, strict=True)
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            problem = str(error).strip().splitlines()[-1].strip()
            raise NotLoaded(name=next(iter(copies)), problem=f"load_state_dict refuses it ({problem})") from None

    def _compare(self, tensors: Mapping[str, Tensor]) -> None:
        for name, found in self.read().items():
            if not same_bits(found, tensors[name]):
                raise NotLoaded(name=name, problem="state_dict gives another value than load_state_dict took")

    def _entries(self) -> Iterator[tuple[str, str, torch.Tensor]]:
        """Name, key in ``state_dict`` and value; tied weights once."""
        for name, key, value, first in self._named():
            if first == name:
                yield name, key, value

    def _named(self) -> Iterator[tuple[str, str, torch.Tensor, str]]:
        """Name, key in ``state_dict``, value, and the first name of the same memory."""
        wrappers = _wrappers(self._model)
        seen: dict[object, str] = {}
        for key, value in self._model.state_dict().items():
            if not key.endswith(_EXTRA_STATE):
                name = _unwrapped(key, wrappers)
                yield name, key, value, seen.setdefault(_memory(value) or key, name)


def _wrappers(model: torch.nn.Module) -> frozenset[str]:
    """Prefixes of wrapped modules, each the only content of its wrapper."""
    found = set()
    for path, module in model.named_modules(remove_duplicate=False):
        children = [name for name, _ in module.named_children()]
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if len(children) == 1 and children[0] in _WRAPPED and not own:
            found.add(f"{path}.{children[0]}" if path else children[0])
    return frozenset(found)


def _unwrapped(key: str, wrappers: frozenset[str]) -> str:
    if not wrappers:
        return key
    parts = key.split(".")
    return ".".join(part for index, part in enumerate(parts) if ".".join(parts[: index + 1]) not in wrappers)


def _tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def _storages(model: torch.nn.Module) -> frozenset[tuple[str, int]]:
    return frozenset(_storage(tensor) for tensor in _tensors(model))


def _is_sharded(tensor: Any) -> bool:
    """Whether each rank holds a part of the tensor (DTensor, as in FSDP)."""
    return callable(getattr(tensor, "full_tensor", None))


def _placed(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The whole value, which is equal on every rank; or this rank's part of it if ``like`` is sharded."""
    if not _is_sharded(like):
        return value
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415 - takes its time, and few need it

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)  # type: ignore[attr-defined]


def _storage(tensor: Any) -> tuple[str, int]:
    """Device and address of a tensor's storage; address 0 for an empty tensor, and for what is no dense tensor."""
    if _is_sharded(tensor):
        tensor = tensor.to_local()
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        return "", 0
    return str(tensor.device), tensor.untyped_storage().data_ptr() if tensor.numel() else 0


def _memory(tensor: Any) -> tuple[Any, ...] | None:
    """Equal for tensors that are wholly the same memory; None for those without memory, such as empty ones."""
    if torch.nn.parameter.is_lazy(tensor):
        return None
    device, pointer = _storage(tensor)
    if not pointer:
        return None
    return device, pointer, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _another(tensor: Tensor) -> Tensor:
    """Other values, which every dtype holds exactly: 1, or 0 where the value is 1."""
    if isinstance(tensor, RawTensor):
        bits = np.frombuffer(tensor.data, np.uint16)
        return RawTensor(tensor.dtype, tensor.shape, np.where(bits == _ONE, 0, _ONE).astype(np.uint16).tobytes())
    other: np.ndarray[Any, Any] = (tensor != 1).astype(tensor.dtype)
    return other


def _to_numpy(name: str, tensor: Any) -> Tensor:
    if not isinstance(tensor, torch.Tensor):
        raise NotStorable(name=name, problem=f"it is a {type(tensor).__name__}, not a tensor")
    if torch.nn.parameter.is_lazy(tensor):
        raise NotStorable(name=name, problem="it has no shape until the model has seen a batch")
    if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
        raise NotStorable(name=name, problem="it is no ordinary dense tensor")
    if any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)):
        problem = "several of its elements are one in memory (an expanded tensor); register a clone() of it"
        raise NotStorable(name=name, problem=problem)
    whole: Any = tensor
    if _is_sharded(tensor):
        whole = whole.full_tensor()  # all ranks take part in this
    local: torch.Tensor = whole.detach().to("cpu").contiguous()
    if local.dtype == torch.bfloat16:
        bits = local.view(torch.int16).numpy().reshape(-1)
        return RawTensor("BF16", tuple(local.shape), bits.view(np.uint8).data)
    try:
        return local.numpy()
    except TypeError:
        raise NotStorable(name=name, problem=f"its dtype {tensor.dtype} cannot be merged") from None
    except RuntimeError:  # from a subclass of Tensor, such as DTensor
        raise NotStorable(name=name, problem=f"it is a {type(tensor).__name__}, no ordinary dense tensor") from None


def to_torch(tensor: Tensor) -> torch.Tensor:
    """A tensor that shares the memory of ``tensor``."""
    if isinstance(tensor, RawTensor):
        bits = np.frombuffer(tensor.data, np.int16).reshape(tensor.shape)
        return _shared(bits).view(torch.bfloat16)
    return _shared(tensor)


def _shared(array: np.ndarray[Any, Any]) -> torch.Tensor:
    with warnings.catch_warnings():  # a read-only array is only read here
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
