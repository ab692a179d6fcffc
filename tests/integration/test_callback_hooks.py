"""What users can do with each merge: a hook, a record, a fresh optimizer, a proximal term."""

import errno
import importlib
import itertools
import logging
import math
import os
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from callback_swarm import Swarm, plus_one
from test_callback_flow import Numbers, numbers

from swarm_callback import wire
from swarm_callback.digest import digest_of_file
from swarm_callback.errors import MissingParameter, NotTheSameIndices, ParameterError, Unsupported, UsageError
from swarm_callback.files import write_whole
from swarm_callback.params import decode, encode
from swarm_callback.torch import SwarmCallback

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")


def train(callback, batches=3):
    callback.on_train_begin()
    callback.count_batches(batches)
    callback.on_train_end()


def test_each_merge_is_told_to_the_hook_and_kept_as_history(serve):
    told = []
    served = serve(Swarm())
    callback = numbers(adsValData=[3.0, 2.0, 1.0], on_merged=lambda round_, info: told.append((round_, info)))
    train(callback)
    served.result(DEADLINE_S)
    assert [round_ for round_, _ in told] == [1, 2, 3]
    assert callback.history == tuple(info for _, info in told)
    second, last = callback.history[1:]
    assert (second.loss, second.metric, second.batches_done, second.next_interval) == (2.0, 0.5, 3, 3)
    assert [info.training_over for info in callback.history] == [False, False, True]
    assert second.contributed and not second.note
    assert last.loss == 1.0


def test_a_platform_may_have_a_hook_of_its_own(serve):
    class Own(Numbers):
        def on_merged(self, round_, info):
            self.values["x"] += 10 * round_

    served = serve(Swarm())
    callback = Own(3, 2, model=numbers_model(), logger=LOGGER)
    train(callback)
    served.result(DEADLINE_S)
    assert callback.values["x"].tolist() == [63, 63, 63]  # three merges add 1, the hook 10, 20, 30


def numbers_model():
    return {"x": np.zeros(3, np.float32)}


def net():
    torch.manual_seed(0)
    return torch.nn.Linear(2, 1)


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize(("state", "kept"), [("keep", True), ("reset", False)])
def test_the_state_of_the_optimizer_is_kept_or_begins_anew_with_each_merge(serve, state, kept):
    served = serve(Swarm())
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    callback = SwarmCallback(1, 1, model=model, optimizer=optimizer, optimizerState=state, logger=LOGGER)
    callback.on_train_begin()
    step(model, optimizer)
    callback.on_batch_end()
    assert bool(optimizer.state) is kept
    assert optimizer.param_groups[0]["lr"] == 0.5
    step(model, optimizer)  # it goes on
    callback.on_train_end()
    served.result(DEADLINE_S)


def test_an_optimizer_that_is_to_be_reset_must_be_known(monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    with pytest.raises(MissingParameter, match="needs optimizer"):
        SwarmCallback(1, 1, model=net(), optimizerState="reset", logger=LOGGER)
    with pytest.raises(ParameterError, match=r"optimizer is 'str', but it must be a torch\.optim\.Optimizer"):
        SwarmCallback(1, 1, model=net(), optimizerState="reset", optimizer="adam", logger=LOGGER)
    with pytest.raises(ParameterError, match="there is no optimizer of this platform"):
        numbers(optimizerState="reset")


def test_the_proximal_term_is_half_the_squared_distance_from_the_merged_model(serve):
    served = serve(Swarm())
    model = net()
    model.bias.requires_grad_(False)
    callback = SwarmCallback(1, 1, model=model, logger=LOGGER)
    assert callback.proximal_term(model) == 0  # nothing is merged yet
    callback.on_train_begin()
    assert callback.proximal_term(model) == 0
    with torch.no_grad():
        model.weight += 2.0
        model.bias += 5.0  # frozen: does not count
    term = callback.proximal_term(torch.nn.DataParallel(model))
    term.backward()
    assert term.item() == pytest.approx(2 * 2.0**2 / 2)
    assert model.weight.grad.tolist() == [[2.0, 2.0]]
    callback.on_batch_end()
    assert callback.proximal_term(model) == 0  # from the newest merge
    callback.on_train_end()
    served.result(DEADLINE_S)


def test_where_there_is_no_loss_of_ones_own_there_is_no_proximal_term(monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    with pytest.raises(Unsupported, match=r"There is no proximal term for NUMBERS\. Leave it out of the loss"):
        numbers().proximal_term(None)


def test_merges_are_tracked_in_mlflow(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # its database takes 10 s to be made
    mlflow = importlib.import_module("mlflow")
    served = serve(Swarm())
    with mlflow.start_run() as run:
        train(numbers(evaluate=lambda model: (float("nan"), 0.5), track="mlflow"))
    served.result(DEADLINE_S)
    last = mlflow.get_run(run.info.run_id).data.metrics
    assert math.isnan(last.pop("swarm/loss"))
    assert last == {"swarm/metric": 0.5, "swarm/contributed": 1.0, "swarm/epochs": 0.0, "swarm/interval": 3.0}
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "swarm/metric")
    assert [entry.step for entry in history] == [1, 2, 3]


def test_mlflow_that_cannot_be_used_is_refused_before_anything_begins(tmp_path, monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-store://here")
    with pytest.raises(ParameterError, match=r"track is 'mlflow', but MLflow cannot be used: .*no-such-store"):
        numbers(track="mlflow")


def test_a_tracker_that_fails_costs_what_is_tracked_and_not_the_training(serve, caplog, tmp_path):
    served = serve(Swarm())
    callback = numbers(track=f"tensorboard:{tmp_path}/runs")
    (file,) = (tmp_path / "runs").iterdir()
    file.unlink()
    file.mkdir()
    train(callback)
    served.result(DEADLINE_S)
    assert len(callback.history) == 3
    told = [message for message in caplog.messages if "is not tracked" in message]
    assert len(told) == 3
    assert "Round 1 is not tracked by tensorboard" in told[0] and "Is a directory" in told[0]


def test_merges_are_tracked_in_tensorboard(serve, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))  # read without TensorFlow: faster
    event_file_loader = importlib.import_module("tensorboard.backend.event_processing.event_file_loader")
    served = serve(Swarm())
    train(numbers(evaluate=lambda model: (float("nan"), 0.5), track=f"tensorboard:{tmp_path}/runs/fold-1"))
    served.result(DEADLINE_S)
    (file,) = (tmp_path / "runs" / "fold-1").iterdir()
    begin, *merges = event_file_loader.LegacyEventFileLoader(str(file)).Load()
    assert begin.file_version == "brain.Event:2"
    assert [event.step for event in merges] == [1, 2, 3]
    values = {value.tag: value.simple_value for value in merges[1].summary.value}
    assert math.isnan(values.pop("swarm/loss"))
    assert values == {"swarm/metric": 0.5, "swarm/contributed": 1.0, "swarm/epochs": 0.0, "swarm/interval": 3.0}


def test_a_folder_that_cannot_be_written_is_refused_before_anything_begins(monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    with pytest.raises(ParameterError, match=r"but /dev/null/runs cannot be written \(Not a directory\)"):
        numbers(track="tensorboard:/dev/null/runs")


@pytest.mark.parametrize(
    ("track", "sentence"),
    [
        ("wandb", "track is 'wandb', but it must be tensorboard, tensorboard:FOLDER or mlflow"),
        ("mlflow", "track is 'mlflow', but mlflow is not installed"),
        ("tensorboard:runs", "track is 'tensorboard:runs', but tensorboard is not installed"),
    ],
)
def test_a_tracker_that_is_not_there_is_refused_before_anything_begins(monkeypatch, track, sentence):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    known = [name for name in sys.modules if name.startswith("tensorboard.")]
    for name in ("mlflow", "tensorboard", *known):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(ParameterError, match=sentence):
        numbers(track=track)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_reported_and_told_as_it_is(serve, caplog, value):
    caplog.set_level(logging.INFO)
    swarm = Swarm()
    served = serve(swarm)
    train(numbers(evaluate=lambda model: (value, value)))
    served.result(DEADLINE_S)
    reports = [message for message in swarm.heard if isinstance(message, wire.Report)]
    assert [str(report.loss) for report in reports] == [str(value)] * 3
    assert f"Round 2 merged: loss {value}, metric {value}" in caplog.messages


class Judged(Swarm):
    """A swarm whose best merge is that of round 2, and whose interval grows."""

    def _answer(self, channel, message, body):
        if isinstance(message, (wire.Sync, wire.Close)):
            self.final = self.merge(body)
            over = isinstance(message, wire.Close)
            merged = wire.Merged(
                message.seq, message.seq, True, "", 3 * message.seq, over, "the loss is better", min(2, message.seq - 1)
            )
            channel.send(merged, [memoryview(self.final)], doing="it waited")
        else:
            super()._answer(channel, message, body)


def test_the_interval_that_all_have_chosen_is_kept_and_its_reason_is_told(serve, caplog):
    caplog.set_level(logging.INFO)
    served = serve(Judged())
    callback = numbers(adsValData=[3.0, 2.0, 1.0], useAdaptiveSync=True)
    callback.on_train_begin()
    callback.count_batches(3)
    callback.count_batches(5)
    assert [info.next_interval for info in callback.history] == [3, 6]
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert "The next merges come every 6 batches: the loss is better" in caplog.messages


def test_the_best_merged_model_is_kept_with_its_digest(serve, tmp_path):
    streams = []
    swarm = Judged(merge=lambda body: streams.append(plus_one(body)) or streams[-1])
    served = serve(swarm)
    path = tmp_path / "best.safetensors"
    callback = numbers(keepBest=str(path), earlyStopping={"patience": 5, "mode": "min"}, adsValData=[3.0, 2, 1, 1, 1])
    with pytest.raises(UsageError, match="No best merged model was kept"):
        callback.load_best()
    callback.on_train_begin()
    callback.count_batches(3)
    assert callback.best.round == 1
    callback.count_batches(6)
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert (swarm.heard[0].patience, swarm.heard[0].metric_down) == (5, True)
    assert callback.best.round == 2
    assert path.read_bytes() == streams[1]
    assert callback.best.digest == digest_of_file(path).digest().hex()
    callback.load_best()
    assert callback.values["x"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(("full_at", "kept"), [({1}, 2), ({2}, 1), ({1, 2}, None)])
def test_a_best_model_that_cannot_be_saved_is_a_warning_and_the_training_continues(
    serve, tmp_path, monkeypatch, caplog, *, full_at, kept
):
    writes = itertools.count(1)

    def full(path, pieces):
        if next(writes) in full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_whole(path, pieces)

    monkeypatch.setattr("swarm_callback.best.write_whole", full)
    served = serve(Judged())
    path = tmp_path / "best"
    callback = numbers(keepBest=str(path), evaluate=lambda model: (1.0, 1.0))
    callback.on_train_begin()
    callback.count_batches(9)
    callback.count_batches(9)
    callback.count_batches(9)
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert (callback.best.round if callback.best else None) == kept
    begin, end = "The best merged model so far, that of round", "The best merged model is that of round 2, which"
    assert [message for message in caplog.messages if message.startswith(begin)] == [
        f"{begin} {min(full_at)}, cannot be saved as {path} (No space left on device); training continues"
    ]
    has = f"that of round {kept}" if kept else "none"
    last = [] if kept == 2 else [f"{end} could not be saved; {path} has {has}"]
    assert [message for message in caplog.messages if message.startswith(end)] == last
    assert not any("did not get" in message for message in caplog.messages)


def test_validation_without_a_metric_reports_none_and_has_no_say_in_early_stopping(serve, caplog):
    swarm = Judged()
    served = serve(swarm)
    callback = numbers(earlyStopping={"patience": 5}, evaluate=lambda model: 0.5)
    callback.on_train_begin()
    callback.count_batches(6)
    callback.on_train_end()
    served.result(DEADLINE_S)
    reports = [message for message in swarm.heard if isinstance(message, wire.Report)]
    assert [(report.loss, report.metric) for report in reports] == [(0.5, None)] * len(reports) != []
    assert caplog.messages.count("Validation gives no metric: this node has no say in earlyStopping") == 1


def test_a_best_model_that_this_node_never_had_is_named(serve, tmp_path, caplog):
    served = serve(Judged())
    callback = numbers(keepBest=str(tmp_path / "best"), evaluate=lambda model: (1.0, 1.0))
    callback.on_train_begin()
    callback._history.clear()  # as one that was away from round 1
    callback.count_batches(3)
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert "The best merged model so far is that of round 1, which this node did not get; it keeps none" in (
        caplog.messages
    )
    assert callback.best.round == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"earlyStopping": {"patience": 0}}, "patience is 0, but it must be a whole number, at least 1"),
        ({"earlyStopping": {"patients": 3}}, "it must be a dictionary with patience, and mode if need be"),
        ({"earlyStopping": {"patience": 3, "mode": "up"}}, "mode is 'up', but it must be max or min"),
        ({"earlyStopping": {"patience": 3}}, "earlyStopping follows the metric on validation data"),
        ({"nodeWeightage": "samples"}, "examples are not counted on this platform: give a number"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_a_sentence(monkeypatch, options, sentence):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    with pytest.raises(ParameterError, match=sentence):
        numbers(**options)


def test_examples_are_counted_by_what_the_model_trains_on(serve):
    swarm = Swarm()
    served = serve(swarm)
    model = net()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(10, 2), torch.ones(10, 1)), 4)
    callback = SwarmCallback(
        3, 1, model=model, nodeWeightage="samples", adsValData=data, lossFunction="MSELoss", logger=LOGGER
    )
    callback.on_train_begin()
    for batch, _ in data:  # 4, 4 and 2
        model(batch).sum().backward()
        callback.on_batch_end()
    model(torch.ones(7, 2))
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert swarm.heard[0].weighting == "samples"
    assert [m.examples for m in swarm.heard if isinstance(m, (wire.Sync, wire.Close))] == [0, 10, 7]


class Permuting(Numbers):
    """A platform whose model has a buffer ``order``, and one that counts."""

    def untrained(self):
        return ["order", "counts"]


def permuting(first_merge, **options):
    model = {"x": np.zeros(3, np.float32), "order": np.array([2, 0, 1]), "counts": np.array([1, 1])}
    return Permuting(3, 2, model=model, firstMerge=first_merge, logger=LOGGER, **options)


def other_order(stream):
    header, data = encode(decode(stream) | {"order": np.array([0, 1, 2])})
    return header + b"".join(data)


def test_indices_of_another_node_are_taken_in_the_first_merge_and_told(serve, caplog):
    served = serve(Swarm(merge=other_order))
    callback = permuting("leader")
    callback.on_train_begin()
    assert callback.values["order"].tolist() == [0, 1, 2]
    assert any("The buffer order holds integers that differ between nodes" in it for it in caplog.messages)
    callback.on_train_end()
    served.result(DEADLINE_S)


def test_a_mean_of_indices_is_no_permutation_and_ends_the_training_in_words(serve):
    served = serve(Swarm(merge=other_order))
    with pytest.raises(NotTheSameIndices, match=r"The buffer order holds .* have no mean.*keep_local=\['order'\]"):
        permuting("average").on_train_begin()
    served.result(DEADLINE_S)


def test_what_counts_may_differ(serve):
    def counted(stream):
        header, data = encode(decode(stream) | {"counts": np.array([5, 7])})
        return header + b"".join(data)

    swarm = Swarm(merge=lambda stream: stream)
    served = serve(swarm)
    callback = permuting("average")
    callback.on_train_begin()
    callback.values["counts"] = callback.values["counts"] + 3
    swarm.merge = counted
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert callback.values["counts"].tolist() == [5, 7]
