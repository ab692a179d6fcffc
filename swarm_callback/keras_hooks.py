"""For a Keras training: its optimizer begins anew with a merge, and a term holds it near the merged model."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from swarm_callback import keras_weights
from swarm_callback.errors import Unsupported
from swarm_callback.params import Tensor


def reset(optimizer: Any, trained: Sequence[Any]) -> None:
    """Gives the state of an optimizer of ``trained`` its first values. Its learning rate stays, and where that follows
    a schedule, so does the count of steps. Raises Unsupported.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of mixed precision
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
    """Half the squared distance of what is trained from the last merged model.

    A compiled step reads it, so the merged values lie in variables of their own, which each merge assigns.
    """

    def __init__(self) -> None:
        self._anchors: dict[str, Any] = {}
        self._asked = False
        self._looked_for: Collection[str] = frozenset()

    def follow(self, merged: Mapping[str, Tensor]) -> bool:
        """Another model was merged; True where a step was compiled before the first, without a term."""
        for name, anchor in self._anchors.items():
            anchor.assign(keras_weights.to_array(merged[name]))
        return self._asked and not self._anchors

    def of(self, model: Any, merged: Callable[[], Mapping[str, Tensor]]) -> Any:
        """A scalar, with a gradient. Raises Unsupported where Keras does not compute with TensorFlow."""
        tf = sys.modules.get("tensorflow")
        if tf is None or keras_weights.backend() not in ("", "tensorflow"):
            problem = "There is a proximal term for Keras on TensorFlow only"
            raise Unsupported(problem=problem, instead="Leave it out of the loss, or use TensorFlow.")
        self._asked = True
        trained = {name: weight for name, weight in keras_weights.named_weights(model) if weight.trainable}
        if trained.keys() - self._looked_for:  # a layer may be trained from a later phase on
            with tf.init_scope():  # also where this is called while a step is being compiled
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
