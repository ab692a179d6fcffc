"""Constants of a model that are not finite, such as the minus infinity of a causal mask, are sent as finite numbers.

Trained parameters may never be NaN or infinite, and a merging node cannot tell a mask from a failed training. So each
node replaces the non-finite values that its buffers hold before its training, as long as they do not change, by finite
codes. Codes that are equal on every node come back from the merge unchanged and are replaced again.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swarm_callback.errors import NotTheSameConstants
from swarm_callback.params import RawTensor, Tensor


@dataclass(frozen=True)
class _Form:
    """Bits of a dtype, as unsigned integers. ``infinite``, ``nan``: the codes for these values. Both survive rounding
    to 8 significant bits, and neither is the largest value of a dtype, which masks also use.
    """

    bits: str
    sign: int
    exponent: int
    infinite: int
    nan: int


_FORMS = {
    "F64": _Form("<u8", 1 << 63, 0x7FF0_0000_0000_0000, 0x7FEF_C000_0000_0000, 0x7FEF_A000_0000_0000),
    "F32": _Form("<u4", 1 << 31, 0x7F80_0000, 0x7F7E_0000, 0x7F7D_0000),
    "F16": _Form("<u2", 1 << 15, 0x7C00, 0x7BFE, 0x7BFD),
    "BF16": _Form("<u2", 1 << 15, 0x7F80, 0x7F7E, 0x7F7D),
}
_NUMPY = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class _Constant:
    """Flat indices into a tensor, the bits that are there, and the codes that are sent for them."""

    places: npt.NDArray[np.intp]
    own: npt.NDArray[Any]
    code: npt.NDArray[Any]


class Constants:
    """The constants of one model, found when its first parameters are sent to the swarm."""

    def __init__(self) -> None:
        self._known: dict[str, _Constant] | None = None
        self._sent: set[str] = set()

    def hidden(self, tensors: Mapping[str, Tensor], untrained: Collection[str]) -> dict[str, Tensor]:
        """The tensors as they are sent to the swarm. ``untrained``: names of buffers."""
        if self._known is None:
            found = {name: _find(tensors[name]) for name in untrained if name in tensors}
            self._known = {name: constant for name, constant in found.items() if constant is not None}
        given = dict(tensors)
        self._sent = set()
        for name, constant in self._known.items():
            bits = _bits(given[name])
            if bits is None or not np.array_equal(bits[constant.places], constant.own):
                continue  # it has changed: it is sent as it is, and the swarm judges
            copy = bits.copy()
            copy[constant.places] = constant.code
            given[name] = _like(given[name], copy)
            self._sent.add(name)
        return given

    def shown(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Merged tensors with the constants put back. Raises NotTheSameConstants if another node had other values
        there.
        """
        merged = dict(tensors)
        for name, constant in (self._known or {}).items():
            bits = _bits(merged[name])
            if bits is None:
                continue
            if np.array_equal(bits[constant.places], constant.code):
                copy = bits.copy()
                copy[constant.places] = constant.own
                merged[name] = _like(merged[name], copy)
            elif name in self._sent:
                raise NotTheSameConstants(name=name)
        return merged


def _find(tensor: Tensor) -> _Constant | None:
    form, bits = _form(tensor), _bits(tensor)
    if form is None or bits is None:
        return None
    kind = bits.dtype.type
    magnitude = bits & kind(form.sign - 1)
    places = np.flatnonzero(magnitude >= kind(form.exponent))
    if not len(places):
        return None
    own = bits[places].copy()
    code = np.where(magnitude[places] == kind(form.exponent), kind(form.infinite), kind(form.nan))
    return _Constant(places, own, (code | own & kind(form.sign)).astype(bits.dtype))


def _form(tensor: Tensor) -> _Form | None:
    name = tensor.dtype if isinstance(tensor, RawTensor) else _NUMPY.get(tensor.dtype.name, "")
    return _FORMS.get(name)


def _bits(tensor: Tensor) -> npt.NDArray[Any] | None:
    """The bits as a flat array, a view if possible; None for a dtype without codes."""
    form = _form(tensor)
    if form is None:
        return None
    if isinstance(tensor, RawTensor):
        return np.frombuffer(tensor.data, form.bits)
    return np.ascontiguousarray(tensor).reshape(-1).view(form.bits)


def _like(tensor: Tensor, bits: npt.NDArray[Any]) -> Tensor:
    if isinstance(tensor, RawTensor):
        return RawTensor(tensor.dtype, tensor.shape, bits.view(np.uint8).data)
    return bits.view(tensor.dtype).reshape(tensor.shape)
