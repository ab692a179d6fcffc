"""What an ML platform supplies to SwarmCallback: five methods, and optional ones."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from swarm_callback.options import Options
from swarm_callback.params import Tensor


class Platform(ABC):
    """The five required methods are the abstract ones."""

    PLATFORMS: ClassVar[tuple[str, ...]]  # accepted values of mlPlatform, the default first
    RESETS_OPTIMIZERS: ClassVar[bool] = False  # whether it has a ``reset_optimizer``
    OPENS_AT_ONCE: ClassVar[bool] = True  # if False, the platform calls ``open_session`` later
    COUNTS_EXAMPLES: ClassVar[bool] = False  # whether it has an ``examples_seen``
    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = {}  # parameters without effect here, and why

    batches_to_come: int | None = None  # in the training that begins, if the platform knows it

    @abstractmethod
    def verify_platform(self, options: Options) -> None:
        """Checks and stores the parameters that the platform needs. Raises ParameterError."""

    @abstractmethod
    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        """Checks and stores ``adsValData``. Raises ParameterError."""

    @abstractmethod
    def extract_parameters(self) -> Mapping[str, Tensor]:
        """The model's parameters, by names that are the same on every node. Arrays may be views."""

    @abstractmethod
    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        """Writes values of the same names, shapes and dtypes into the model, in place and exactly."""

    @abstractmethod
    def evaluate(self) -> tuple[float | None, float | None]:
        """Loss and metric on the validation data, or None for what has no value. Must not affect the training."""

    def check_parameters(self) -> None:  # noqa: B027  # most platforms have nothing to find out
        """Before the first round, a platform may check here that merged values will reach its model."""

    def try_evaluation(self) -> bool:
        """If the platform knows its model, evaluates one batch, before the node enrols or before the first round.
        False: not yet.
        """
        return True

    def no_trace(self) -> AbstractContextManager[None]:
        """Wraps the user's own evaluation function and then restores the state of the framework."""
        return nullcontext()

    def trainable(self) -> Collection[str]:
        """Names of parameters that are being trained, for ``share="trainable"``."""
        return set(self.extract_parameters()) - set(self.untrained())

    def untrained(self) -> Collection[str]:
        """Names of parameters that no optimizer changes and that may hold constants: masks, observers."""
        return ()

    def reset_optimizer(self) -> None:  # noqa: B027  # see RESETS_OPTIMIZERS
        """Clears the optimizer's state, which belongs to parameters that a merge has replaced."""

    def examples_seen(self) -> int:
        """How many examples the model was trained on since the callback was constructed; see COUNTS_EXAMPLES."""
        return 0
