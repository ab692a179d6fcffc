"""For Keras: resets the optimizer at a merge, and gives a loss term that keeps training near the merged model."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from swarm_callback import keras_weights
from swarm_callback.errors import Unsupported
from swarm_callback.params import Tensor


def reset(optimizer: Any, trained: Sequence[Any]) -> None:
    """Resets the state of the optimizer of the variables ``trained`` to its first values. The learning rate stays; if
    it follows a schedule, the step count stays. Raises Unsupported.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # a wrapper for mixed precision
    if optimizer is None or not getattr(optimizer, "built", getattr(optimizer, "_built", False)):
        return
    fresh = type(optimizer).from_config(optimizer.get_config())
    fresh.build(trained)
    ours, first = list(optimizer.variables), list(fresh.variables)
    if len(ours) != len(first):
        problem = f"The state of the optimizer {type(optimizer).__name__} cannot be reset"
        raise Unsupported(problem=problem, instead="Use optimizerState='keep'.")
    rate = optimizer._learning_rate
    kept = rate if hasattr(rate, "assign") else optimizer.iterations
    for variable, value in zip(ours, first, strict=True):
        if variable is not kept:
            variable.assign(keras_weights.read(value))


class ProximalTerm:
    """Half the squared distance of the trained weights from the last merged model.

    Compiled train steps read the merged values, so these are in separate variables, which each merge updates.
    """

    def __init__(self) -> None:
        self._anchors: dict[str, Any] = {}
        self._asked = False
        self._looked_for: Collection[str] = frozenset()

    def follow(self, merged: Mapping[str, Tensor]) -> bool:
        """Takes a new merged model. True if a step was compiled before the first merge, without the term."""
        for name, anchor in self._anchors.items():
            anchor.assign(keras_weights.to_array(merged[name]))
        return self._asked and not self._anchors

    def of(self, model: Any, merged: Callable[[], Mapping[str, Tensor]]) -> Any:
        """A float32 scalar with a gradient. Raises Unsupported if Keras does not run on TensorFlow."""
        tf = sys.modules.get("tensorflow")
        if tf is None or keras_weights.backend() not in ("", "tensorflow"):
            problem = "There is a proximal term for Keras on TensorFlow only"
            raise Unsupported(problem=problem, instead="Leave it out of the loss, or use TensorFlow.")
        self._asked = True
        trained = {name: weight for name, weight in keras_weights.named_weights(model) if weight.trainable}
        if trained.keys() - self._looked_for:  # a later phase may train more layers
            with tf.init_scope():  # this may run while a step is being compiled
                shared = merged()
                self._looked_for = trained.keys() if shared else frozenset()
                self._anchors |= {
                    name: tf.Variable(keras_weights.to_array(shared[name]), trainable=False)
                    for name in sorted((trained.keys() & shared.keys()) - self._anchors.keys())
                }
        total = tf.zeros(())
        for name in sorted(trained.keys() & self._anchors.keys()):
            anchor = self._anchors[name]
            distance = tf.convert_to_tensor(trained[name]) - tf.convert_to_tensor(anchor)
            total += tf.reduce_sum(tf.square(tf.cast(distance, tf.float32)))
        return total / 2
