"""Validation data of PyTorch users: accepted in every usual form, or refused before the node enrols; without side
effects.
"""

import logging
import random

import numpy as np
import pytest
from callback_swarm import Swarm

from swarm_callback import wire
from swarm_callback.errors import CannotEvaluate, NotStorable, ParameterError

torch = pytest.importorskip("torch")
nn, DataLoader = torch.nn, torch.utils.data.DataLoader

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")
X, Y = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3
ACCURACY = {"task": "multiclass", "num_classes": 3}


class Made(torch.utils.data.Dataset):
    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return self.make(index)


class Answers(nn.Module):
    """Wraps the output of its net."""

    def __init__(self, wrap=lambda output: output):
        super().__init__()
        self.net, self.wrap = nn.Linear(4, 3), wrap

    def forward(self, one, other=None):
        return self.wrap(self.net(one))


class Output(dict):
    """An output like that of transformers: a dictionary that also holds the loss."""

    loss = torch.tensor(0.25)


def callback_of(model, data, **options):
    from swarm_callback.torch import SwarmCallback

    given = {"lossFunction": "CrossEntropyLoss", "metricFunction": "Accuracy", "metricFunctionArgs": ACCURACY}
    return SwarmCallback(5, 1, model=model, adsValData=data, totalEpochs=1, logger=LOGGER, **(given | options))


def broken(_index):
    raise OSError("the picture cannot be read")


def expected(net):
    with torch.no_grad():
        outputs = net(X)
    return float(nn.functional.cross_entropy(outputs, Y)), float((outputs.argmax(1) == Y).float().mean())


@pytest.mark.parametrize(
    ("make", "wrap"),
    [
        (lambda i: (X[i], Y[i]), None),
        (lambda i: (X[i], Y[i], i), None),
        (lambda i: {"image": X[i], "label": Y[i], "id": i}, None),
        (lambda i: {"one": X[i], "other": X[i], "labels": Y[i]}, None),
        (lambda i: ((X[i], X[i]), Y[i]), None),
        (lambda i: ({"one": X[i]}, Y[i]), None),
        (lambda i: (X[i], Y[i]), lambda output: (output, output)),
        (lambda i: (X[i], Y[i]), lambda output: {"out": output}),
        (lambda i: (X[i], Y[i]), lambda output: Output(logits=output)),
    ],
)
def test_batches_and_answers_of_every_usual_form_are_evaluated(monkeypatch, make, wrap):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    model = Answers() if wrap is None else Answers(wrap)
    callback = callback_of(model, DataLoader(Made(make), 6))
    assert callback.evaluate() == pytest.approx(expected(model.net), rel=1e-5)


def test_a_model_that_gives_its_own_loss_needs_no_other(monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    model = Answers(lambda output: Output(logits=output))
    data = DataLoader(Made(lambda i: (X[i], Y[i])), 6)
    assert callback_of(model, data, lossFunction=None, metricFunction=None).evaluate() == pytest.approx((0.25, None))


@pytest.mark.parametrize("adaptive", [False, True])
def test_validation_that_gives_no_loss_is_told(monkeypatch, caplog, adaptive):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    data = DataLoader(Made(lambda i: (X[i], Y[i])), 6)
    callback_of(Answers(), data, lossFunction=None, useAdaptiveSync=adaptive)
    told = [message for message in caplog.messages if "Validation gives no loss" in message]
    assert [message.endswith("no say in useAdaptiveSync") for message in told] == [adaptive]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tf": 1, "sess": 2}, ["No effect here: tf, sess (there are no sessions of TensorFlow 1)"]),
        ({"optimizer": 1}, ["No effect here: optimizer (optimizerState is not reset)"]),
        ({"lossFunction": None}, ["No effect here: lossFunctionArgs (lossFunction is not given)"]),
        (
            {"evaluate": lambda _: 0.5, "adsValData": DataLoader(Made(broken), 6)},
            [
                "No effect here: adsValData, lossFunction, lossFunctionArgs, metricFunction, metricFunctionArgs "
                "(evaluate is given)"
            ],
        ),
        ({"sess": None, "hfMode": "peft"}, []),
    ],
)
def test_what_is_given_for_nothing_is_told(monkeypatch, caplog, options, told):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    given = {"lossFunctionArgs": {"reduction": "sum"}} | options
    callback_of(Answers(), given.pop("adsValData", None), **given)
    assert [message for message in caplog.messages if message.startswith("No effect here")] == told


@pytest.mark.parametrize(
    "options",
    [
        {"lossFunctionArgs": {"reduction": "none"}},
        {"lossFunctionArgs": {"weight": [1.0, 1.0, 1.0]}},
        {"metricFunctionArgs": ACCURACY | {"average": None}},
    ],
)
def test_arguments_of_every_usual_form_are_evaluated(monkeypatch, options):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    model = Answers()
    loss, _ = callback_of(model, DataLoader(Made(lambda i: (X[i], Y[i])), 6), **options).evaluate()
    assert loss == pytest.approx(expected(model.net)[0], rel=1e-5)


class Weighted(nn.Module):
    """A loss with a weight that stays on the device where it was made, such as class weights."""

    def __init__(self, reduction, weight):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, outputs, wanted):
        assert outputs.device == wanted.device == self.weight.device == torch.device("meta")
        return torch.tensor(0.5)


@pytest.mark.parametrize("weight", [[1.0, 2.0, 3.0], torch.ones(3)])
def test_the_loss_is_where_the_model_is(monkeypatch, weight):
    """A GPU is not always there: the device "meta", which computes no values, stands for one."""
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    monkeypatch.setattr(nn, "Weighted", Weighted, raising=False)
    data = DataLoader(Made(lambda i: (X[i], Y[i])), 5)
    options = {"lossFunction": "Weighted", "lossFunctionArgs": {"weight": weight}, "metricFunction": None}
    callback = callback_of(Answers().to("meta"), data, **options)
    assert callback.evaluate()[0] == pytest.approx(4 * 0.5 / 20)


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (lambda i: X[i], {}, "a batch must be (inputs, targets, ...) or a dictionary with labels"),
        (lambda i: (X[i, :2], Y[i]), {}, "adsValData cannot be evaluated with this model (RuntimeError"),
        (lambda i: (X[i], Y[i : i + 1]), {}, "adsValData cannot be evaluated with this model (RuntimeError"),
        (
            lambda i: (X[i], Y[i]),
            {"lossFunction": "BCEWithLogitsLoss"},
            "cannot be evaluated with this model (ValueError",
        ),
        (broken, {}, "OSError: the picture cannot be read"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_the_node_enrols(serve, make, options, sentence):
    with pytest.raises((ParameterError, CannotEvaluate)) as refused:
        callback_of(Answers(), DataLoader(Made(make), 6), **options)
    assert sentence in str(refused.value)


def test_data_without_a_batch_is_refused(serve):
    with pytest.raises(ParameterError, match="at least one batch"):
        callback_of(Answers(), DataLoader(torch.utils.data.TensorDataset(X[:0], Y[:0]), 6))


def test_data_without_an_end_is_read_up_to_a_limit(monkeypatch, caplog):
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            while True:
                yield X[0], Y[0]

    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    caplog.set_level(logging.INFO)
    model = Answers()
    loss, _ = callback_of(model, DataLoader(Endless(), 2)).evaluate()
    assert loss == pytest.approx(float(nn.functional.cross_entropy(model.net(X[:1]).detach(), Y[:1])), rel=1e-4)
    assert any("at most 1000 batches" in message for message in caplog.messages)


def test_an_error_while_evaluating_costs_the_report_and_not_the_training(serve, caplog):
    calls = []

    def sometimes(index):
        calls.append(index)
        if len(calls) > 25:
            raise OSError("the picture cannot be read")
        return X[index], Y[index]

    swarm = Swarm()
    served = serve(swarm)
    model = Answers()
    callback = callback_of(model, DataLoader(Made(sometimes), 5))
    callback.on_train_begin()
    state = torch.get_rng_state()
    callback.count_batches(5)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    callback.on_train_end()
    served.result(DEADLINE_S)
    reports = [message for message in swarm.heard if isinstance(message, wire.Report)]
    assert np.isfinite(reports[0].loss)
    assert (reports[-1].loss, reports[-1].metric) == (None, None)
    assert any("could not be evaluated (OSError: the picture cannot be read)" in message for message in caplog.messages)


@pytest.mark.parametrize("answer", [(0.5, 0.25), {"loss": 0.5, "f1": 0.25}, torch.tensor(0.5)])
def test_a_function_of_ones_own_evaluates_what_has_another_form(serve, answer):
    swarm = Swarm()
    served = serve(swarm)
    seen = []
    model = Answers()
    callback = callback_of(model, None, evaluate=lambda given: seen.append(given) or answer)
    callback.on_train_begin()
    callback.on_train_end()
    served.result(DEADLINE_S)
    reports = [message for message in swarm.heard if isinstance(message, wire.Report)]
    assert [report.loss for report in reports] == [0.5, 0.5]
    assert reports[0].metric == (None if isinstance(answer, torch.Tensor) else 0.25)
    assert all(given is model for given in seen)


def test_a_function_of_ones_own_sees_a_model_in_evaluation_mode_and_leaves_no_trace(serve):
    served = serve(Swarm())
    model = nn.Sequential(nn.Linear(4, 3), KeepsState())
    model[0].eval()
    modes = []

    def by_hand(given):
        modes.append([part.training for part in given])
        given[1].state = X
        given.train()
        return 0.5

    callback = callback_of(model, None, evaluate=by_hand)
    callback.on_train_begin()
    assert modes == [[False, False]]
    assert [part.training for part in model] == [False, True]
    assert model[1].state is None
    callback.on_train_end()
    served.result(DEADLINE_S)


def test_a_dry_run_fails_where_a_swarm_would(monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    callback = callback_of(Answers(), None, evaluate=lambda model: {"accuracy": 1})
    with pytest.raises(ParameterError, match=r"evaluate is {'accuracy': 1}, but it must answer with a loss"):
        callback.on_train_begin()


@pytest.mark.parametrize("buffer", [torch.zeros(3, dtype=torch.complex64), torch.eye(3).to_sparse()])
def test_a_dry_run_encodes_what_a_round_would_send(monkeypatch, buffer):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    model = Answers()
    model.register_buffer("waves", buffer)
    callback = callback_of(model, DataLoader(Made(lambda i: (X[i], Y[i])), 5))
    with pytest.raises(NotStorable, match="waves cannot be shared"):
        callback.on_train_begin()


def test_a_dry_run_evaluates_as_a_swarm_would(monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    with pytest.raises(CannotEvaluate, match="adsValData cannot be evaluated with this model"):
        callback_of(Answers(), DataLoader(Made(lambda i: (X[i, :2], Y[i])), 5))


# --- no trace ---------------------------------------------------------------------------------------------------


class KeepsState(nn.Module):
    """Carries its hidden state from batch to batch, like stateful recurrent nets."""

    def __init__(self):
        super().__init__()
        self.cell, self.out, self.state = nn.GRUCell(4, 8), nn.Linear(8, 3), None

    def forward(self, data):
        state = self.state if self.state is not None and len(self.state) == len(data) else None
        self.state = self.cell(data, state).detach()
        return self.out(self.cell(data, state))


class Recurrent(nn.Module):
    """Also of layers that take another path in evaluation mode than in training."""

    def __init__(self):
        super().__init__()
        self.attention, self.out = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1), nn.Linear(8, 3)
        self.cells = nn.LSTM(4, 8, dropout=0.5, num_layers=2)

    def forward(self, data):
        return self.out(self.cells(self.attention(data[None]))[0][0])


def normalized():
    """Statistics, some of them frozen, dropout, and a weight that is re-estimated in each step in training mode."""
    hidden = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 8))
    model = nn.Sequential(hidden, nn.BatchNorm1d(8), nn.Dropout(0.3), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model[3].eval()
    return model


def trained(serve, model, validation, generator):
    """Losses of a short training with exchanges that change nothing; ``serve`` None: without any."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    net = model()
    data = torch.utils.data.TensorDataset(X, Y)
    own = torch.Generator().manual_seed(3) if generator else None
    loader = DataLoader(data, 5, shuffle=True, generator=own)
    served = serve(Swarm(merge=bytes)) if serve else None
    callback = callback_of(net, validation(own)) if serve else None
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    losses = []
    if callback:
        callback.on_train_begin()
    for _ in range(2):
        for inputs, wanted in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(inputs), wanted)
            loss.backward()
            optimizer.step()
            losses.append((float(loss.detach()), random.random(), np.random.rand()))
            if callback:
                callback.on_batch_end()
    if callback and served:
        callback.on_train_end()
        served.result(DEADLINE_S)
    return losses


@pytest.mark.parametrize(
    ("model", "make", "generator"),
    [
        (Answers, lambda i: (X[i] + float(np.random.normal()), Y[i]), False),
        (Answers, lambda i: (X[i] + random.random(), Y[i]), False),
        (Answers, lambda i: (X[i] + torch.randn(4), Y[i]), False),
        (Answers, lambda i: (X[i], Y[i]), True),
        (KeepsState, lambda i: (X[i], Y[i]), False),
        *((model, lambda i: (X[i], Y[i]), False) for model in (Recurrent, normalized)),
    ],
)
def test_an_evaluation_leaves_no_trace_in_the_training(serve, model, make, generator):
    def validation(own):
        return DataLoader(Made(make), 5, shuffle=generator, generator=own)

    assert trained(serve, model, validation, generator) == trained(None, model, validation, generator)
