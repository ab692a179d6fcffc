"""SwarmCallback for scikit-learn: the proof that a platform is five methods."""

import logging

import numpy as np
import pytest
from callback_swarm import Swarm
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier

from swarm_callback import wire
from swarm_callback.errors import MissingParameter, ParameterError, UsageError
from swarm_callback.params import decode
from swarm_callback.sklearn import SwarmCallback

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")
X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)


def begun(estimator):
    if hasattr(estimator, "predict_proba") or isinstance(estimator, SGDClassifier):
        return estimator.partial_fit(X[:10], Y[:10], classes=[0, 1])
    return estimator.partial_fit(X[:10], X[:10, 0])


@pytest.mark.parametrize(
    ("estimator", "names"),
    [
        (SGDClassifier(loss="log_loss", random_state=0), ["coef_", "intercept_"]),
        (MLPClassifier((5,), random_state=0), ["coefs_.0", "coefs_.1", "intercepts_.0", "intercepts_.1"]),
        (SGDRegressor(random_state=0), ["coef_", "intercept_"]),
    ],
)
def test_an_estimator_trains_in_a_swarm(serve, estimator, names):
    regresses = isinstance(estimator, SGDRegressor)
    wanted = X[:, 0] if regresses else Y
    bodies = []
    swarm = Swarm(merge=lambda body: bodies.append(body) or body)
    served = serve(swarm)
    model = begun(estimator)
    callback = SwarmCallback(2, 1, model=model, adsValData=(X, wanted), totalEpochs=1, logger=LOGGER)
    callback.on_train_begin()
    for start in range(0, 60, 10):
        model.partial_fit(X[start : start + 10], wanted[start : start + 10])
        callback.on_batch_end()
    callback.on_epoch_end()
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert [sorted(decode(body)) for body in bodies] == [names] * 5
    last = [message for message in swarm.heard if isinstance(message, wire.Report)][-1]
    assert last.metric == pytest.approx(model.score(X, wanted))
    assert np.isfinite(last.loss)


def test_what_is_merged_is_what_the_estimator_computes_with(serve):
    served = serve(Swarm())
    model = begun(SGDClassifier(random_state=0))
    before = model.decision_function(X)
    callback = SwarmCallback(2, 1, model=model, logger=LOGGER)
    callback.on_train_begin()
    np.testing.assert_allclose(model.decision_function(X), before + X.sum(1) + 1)
    callback.on_train_end()
    served.result(DEADLINE_S)


def test_what_is_missing_is_a_sentence(monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    with pytest.raises(MissingParameter, match="an estimator that has partial_fit"):
        SwarmCallback(2, 1, model=object(), logger=LOGGER)
    with pytest.raises(ParameterError, match=r"it must be \(X, y\)"):
        SwarmCallback(2, 1, model=SGDClassifier(), adsValData=X, logger=LOGGER)
    with pytest.raises(UsageError, match="no parameters before partial_fit"):
        SwarmCallback(2, 1, model=SGDClassifier(), logger=LOGGER).on_train_begin()


def test_the_base_class_has_its_old_name_too():
    from swarm_callback.base import SwarmCallbackBase
    from swarmlearning.client import swarm

    assert swarm.SwarmCallbackBase is SwarmCallbackBase
