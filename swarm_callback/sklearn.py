"""SwarmCallback for scikit-learn estimators that learn by ``partial_fit``, in the user's own loop."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from swarm_callback.base import SwarmCallbackBase
from swarm_callback.errors import MissingParameter, ParameterError, UsageError
from swarm_callback.options import Options
from swarm_callback.params import Tensor

_LINEAR = ("coef_", "intercept_")  # SGDClassifier, SGDRegressor, Perceptron, PassiveAggressive*
_NETWORK = ("coefs_", "intercepts_")  # MLPClassifier, MLPRegressor: a list, layer by layer


class SwarmCallback(SwarmCallbackBase):
    """``SwarmCallback(syncFrequency, minPeers, model=SGDClassifier(...), ...)``; then call ``on_train_begin()``,
    ``on_batch_end()`` after each ``partial_fit``, ``on_epoch_end()`` and ``on_train_end()``.

    An estimator has no parameters before its first ``partial_fit``: call it once, with all ``classes``, before
    ``on_train_begin``. Coefficients and intercepts are shared. ``adsValData``: (X, y). The metric is ``score``. The
    loss is the log loss for a classifier that gives probabilities, the error rate for other classifiers, and the mean
    squared error for a regressor.
    """

    PLATFORMS: ClassVar[tuple[str, ...]] = ("SKLEARN",)
    COUNTS_EXAMPLES: ClassVar[bool] = True
    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("lossFunction", "lossFunctionArgs", "metricFunction", "metricFunctionArgs"),
            "loss and metric are those of scikit-learn",
        ),
        "adsValBatchSize": "all data is evaluated at once",
        "hfMode": "the whole estimator is shared",
        "optimizer": "an estimator has its own",
    }

    def verify_platform(self, options: Options) -> None:
        if not callable(getattr(options.model, "partial_fit", None)):
            raise MissingParameter(name="model", problem="an estimator that has partial_fit")
        self._model = options.model
        self._data: tuple[Any, Any] | None = None

    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise ParameterError(name="adsValData", value=type(data).__name__, problem="it must be (X, y)")
        self._data = (data[0], data[1])

    def try_evaluation(self) -> bool:
        if self._data is None or not self._has_begun:
            return self._data is None
        self.evaluate()
        return True

    def examples_seen(self) -> int:
        return int(getattr(self._model, "t_", 0))  # estimators count it themselves, for their learning rates

    def extract_parameters(self) -> Mapping[str, Tensor]:
        return {name: np.atleast_1d(array) for name, array in self._arrays().items()}

    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        for name, array in self._arrays().items():
            array[...] = np.asarray(tensors[name]).reshape(array.shape)

    def evaluate(self) -> tuple[float, float]:
        if self._data is None:
            raise UsageError(problem="There is no validation data to evaluate on")
        return _loss(self._model, *self._data), float(self._model.score(*self._data))

    @property
    def _has_begun(self) -> bool:
        return any(hasattr(self._model, name) for name in (*_LINEAR, *_NETWORK))

    def _arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The estimator's own arrays, so that it computes with what is written into them. Raises UsageError."""
        if not self._has_begun:
            raise UsageError(
                problem="The estimator has no parameters before partial_fit was called once, with all classes"
            )
        found = {name: getattr(self._model, name) for name in _LINEAR if hasattr(self._model, name)}
        for name in _NETWORK:
            for layer, array in enumerate(getattr(self._model, name, ())):
                found[f"{name}.{layer}"] = array
        return found


def _loss(model: Any, inputs: Any, wanted: Any) -> float:
    from sklearn.base import is_classifier  # noqa: PLC0415 - only to evaluate
    from sklearn.metrics import log_loss  # noqa: PLC0415

    if not is_classifier(model):
        return float(np.mean((np.asarray(model.predict(inputs)) - np.asarray(wanted)) ** 2))
    if hasattr(model, "predict_proba"):
        return float(log_loss(wanted, model.predict_proba(inputs), labels=model.classes_))
    return 1.0 - float(model.score(inputs, wanted))
