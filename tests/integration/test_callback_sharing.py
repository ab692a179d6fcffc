"""Which parts of a model travel: all, the trained, or those that match patterns. The rest stays unchanged."""

import logging

import pytest
import torch
from callback_swarm import Swarm, plus_one

from swarm_callback.errors import ParameterError
from swarm_callback.params import decode

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")


def net():
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {"body": torch.nn.Linear(2, 2), "norm": torch.nn.BatchNorm1d(2), "head": torch.nn.Linear(2, 1, bias=False)}
    )
    model["body"].requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"share": "trainable"}, {"norm.weight", "norm.bias", "head.weight"}),
        ({"hfMode": "peft"}, {"norm.weight", "norm.bias", "head.weight"}),
        ({"share": ["body.*", "head.weight"]}, {"body.weight", "body.bias", "head.weight"}),
        ({"keep_local": ["norm.*"]}, {"body.weight", "body.bias", "head.weight"}),
        ({"share": ["*"], "keep_local": ["norm.*", "body.*"]}, {"head.weight"}),
    ],
)
def test_only_what_is_shared_travels_and_only_that_is_changed(serve, options, names):
    from swarm_callback.torch import SwarmCallback

    bodies = []
    served = serve(Swarm(merge=lambda body: bodies.append(body) or plus_one(body)))
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    callback = SwarmCallback(2, 1, model=model, logger=LOGGER, **options)
    callback.on_train_begin()
    assert set(decode(bodies[0])) == names
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] + (1 if name in names else 0)), name
    callback.on_train_end()
    served.result(DEADLINE_S)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"share": "some"}, "share is 'some', but it must be all or trainable"),
        ({"share": ["heads.*"]}, "share is 'heads.*', but no parameter of the model is called so (there are body.bias"),
        ({"keep_local": ["*"]}, "nothing of the model would be shared"),
        ({"keep_local": "norm"}, "keep_local is 'norm', but it must be a list of names or patterns"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(monkeypatch, options, sentence):
    from swarm_callback.torch import SwarmCallback

    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    with pytest.raises(ParameterError) as refused:
        SwarmCallback(2, 1, model=net(), logger=LOGGER, **options).on_train_begin()
    assert sentence in str(refused.value)
