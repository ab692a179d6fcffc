"""The flow of SwarmCallback, the same on all platforms, over real pipes with an SL that plays the swarm."""

import logging
import os

import numpy as np
import pytest
from callback_swarm import Swarm

from swarm_callback import wire
from swarm_callback.base import SwarmCallbackBase
from swarm_callback.digest import StreamDigest, digest_of_file
from swarm_callback.errors import NotFinite, NotStorable, Refused, StreamError, UsageError, WireError
from swarm_callback.params import decode, encode

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")


class Numbers(SwarmCallbackBase):
    """The smallest platform: a model is a dictionary of arrays."""

    PLATFORMS = ("NUMBERS",)

    def verify_platform(self, options):
        self.values = options.model

    def set_validation_data(self, data, batch_size):
        self.losses = iter(data)

    def extract_parameters(self):
        return self.values

    def load_parameters(self, tensors):
        self.values = {name: value.copy() for name, value in tensors.items()}

    def evaluate(self):
        return next(self.losses), 0.5


def numbers(**options) -> Numbers:
    model = {"x": np.zeros(3, np.float32), "n": np.array(0)}
    return Numbers(3, 2, **{"model": model, "logger": LOGGER, "totalEpochs": 2} | options)


def test_the_order_of_a_training(serve, caplog):
    caplog.set_level(logging.INFO)
    swarm = Swarm()
    served = serve(swarm)
    callback = numbers(adsValData=[3.0, 2.0, 1.0], nodeWeightage=7)
    callback.on_train_begin()
    for epoch in range(2):
        for batch in range(2):
            callback.on_batch_end(batch)
        callback.on_epoch_end(epoch)
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert swarm.kinds() == ["Open", "Sync", "Report", "Sync", "Report", "Close", "Report", "Bye"]
    assert swarm.heard[0].node_weightage == 7
    assert swarm.heard[1:] == [
        wire.Sync(1, 0),
        wire.Report(1, 3.0, 0.5, 0, 2),
        wire.Sync(2, 1),  # after the third batch, in the second epoch
        wire.Report(2, 2.0, 0.5, 1, 2),
        wire.Close(3, 2, "snapshot"),
        wire.Report(3, 1.0, 0.5, 2, 2),
        wire.Bye(),
    ]
    assert callback.values["x"].tolist() == [3, 3, 3]
    assert "1 of 2 peers is in" in caplog.messages
    assert caplog.messages[-1] == "All peers and Swarm training rounds finished. Final Swarm model was loaded."


def opened_with(serve, **options) -> tuple[wire.Open, bytes]:
    """What a callback tells the swarm, and the first parameters that it sends."""
    bodies = []
    swarm = Swarm(merge=lambda body: bodies.append(body) or body)
    served = serve(swarm)
    callback = numbers(**options)
    callback.on_train_begin()
    callback.on_train_end()
    served.result(DEADLINE_S)
    return swarm.heard[0], bodies[0]


def test_the_swarm_is_told_the_defaults(serve):
    told, _ = opened_with(serve, totalEpochs=0)
    assert told == wire.Open(
        contract="defaultbb.cqdb.sml.hpe", sync_frequency=3, min_peers=2, merge_method="mean", node_weightage=1,
        checkin_model_on_train_end="snapshot", use_adaptive_sync=False, total_epochs=0, framework="NUMBERS",
        pid=os.getpid(), transfer_compression="none", first_merge="leader", model_version="", weighting="fixed",
        patience=0, metric_down=False,
    )  # fmt: skip


def test_the_swarm_is_told_every_parameter_that_is_given(serve):
    told, body = opened_with(
        serve, trainingContract="fold-1", mergeMethod="GeoMedian", nodeWeightage=100, totalEpochs=7,
        checkinModelOnTrainEnd="INACTIVE", useAdaptiveSync=True, evaluate=lambda model: 1.0, ml_platform="numbers",
        transferCompression="bf16", firstMerge="average", modelVersion="labels 2",
        earlyStopping={"patience": 4, "mode": "min"}, tf=object(), sess=object(),
        model={"x": np.array([1 + 2**-10], np.float32)},
    )  # fmt: skip
    assert told == wire.Open(
        contract="fold-1", sync_frequency=3, min_peers=2, merge_method="geomedian", node_weightage=100,
        checkin_model_on_train_end="inactive", use_adaptive_sync=True, total_epochs=7, framework="NUMBERS",
        pid=os.getpid(), transfer_compression="bf16", first_merge="average", model_version="labels 2",
        weighting="fixed", patience=4, metric_down=True,
    )  # fmt: skip
    assert decode(body)["x"].tolist() == [1.0]  # as bf16 rounds it


def test_the_swarm_sets_the_interval(serve):
    swarm = Swarm(interval=5)
    served = serve(swarm)
    callback = numbers()
    callback.on_train_begin()
    for _ in range(9):
        callback.on_batch_end()
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert swarm.kinds().count("Sync") == 2


def test_a_training_that_is_over_ends_with_the_final_model(serve):
    swarm = Swarm(over_at=2)
    served = serve(swarm)
    callback = numbers()
    callback.on_train_begin()
    for _ in range(9):
        callback.on_batch_end()
        callback.values["x"] += 100
    assert callback.training_over
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert "Close" not in swarm.kinds()
    assert swarm.kinds()[-1] == "Bye"
    header, data = encode(callback.values)
    assert header + b"".join(data) == swarm.final


def test_a_node_that_is_cut_off_says_after_how_much_and_why(serve, caplog):
    class Over(Swarm):
        def _answer(self, channel, message, body):
            if isinstance(message, wire.Sync) and message.seq == 2:
                note = "all others had finished (sl-1, sl-2)"
                channel.send(wire.Merged(2, 9, False, note, 0, True), [memoryview(body)], doing="it waited")
            else:
                super()._answer(channel, message, body)

    served = serve(Over())
    callback = numbers()
    callback.on_train_begin()
    callback.on_epoch_end()
    for _ in range(3):
        callback.on_batch_end()
    callback.on_train_end()
    served.result(DEADLINE_S)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "The training ended after 1 of 2 epochs here: all others had finished (sl-1, sl-2)" in said


class Without(Swarm):
    """A swarm that merges without this node."""

    note = "round 1 was merged without this node, which goes on from its result"
    not_finite = False

    def _answer(self, channel, message, body):
        if isinstance(message, wire.Sync):
            merged = wire.Merged(message.seq, message.seq, False, self.note, 0, False, not_finite=self.not_finite)
            channel.send(merged, [memoryview(body)], doing="it waited")
        else:
            super()._answer(channel, message, body)


def test_a_node_that_is_left_behind_again_and_again_is_told(serve, caplog):
    served = serve(Without())
    callback = numbers()
    callback.on_train_begin()
    callback.count_batches(3)
    assert not any("without this node: what it trained" in message for message in caplog.messages)
    callback.count_batches(3)
    assert any("The last 3 merges were made without this node" in message for message in caplog.messages)
    callback.on_train_end()
    served.result(DEADLINE_S)


def test_a_node_whose_values_are_not_finite_again_and_again_ends(serve):
    swarm = Without()
    swarm.note, swarm.not_finite = "left out of round 1: non-finite values in tensor x", True
    served = serve(swarm)
    callback = numbers()
    callback.on_train_begin()
    callback.count_batches(3)
    with pytest.raises(
        NotFinite, match=r"not finite 3 times in a row .left out of round 1: non-finite values in tensor x"
    ):
        callback.count_batches(3)
    served.result(DEADLINE_S)
    assert swarm.kinds()[-1] == "Abort"


@pytest.mark.parametrize(("batches", "told"), [(2, True), (3, False)])
def test_an_interval_that_is_longer_than_the_training_is_said(serve, caplog, batches, told):
    served = serve(Swarm())
    callback = numbers()
    callback.on_train_begin()
    for _ in range(batches):
        callback.on_batch_end()
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert ("There was no merge between begin and end: 2 batches, syncFrequency 3" in caplog.messages) == told


def test_nothing_merged_yet_leaves_the_model_as_it_is(serve):
    swarm = Swarm(merge=lambda body: b"")
    served = serve(swarm)
    callback = numbers()
    callback.on_train_begin()
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert swarm.kinds() == ["Open", "Sync", "Close", "Bye"]
    assert callback.values["x"].tolist() == [0, 0, 0]


def test_the_saved_parameters_have_the_digest_of_the_final_model(serve, tmp_path):
    swarm = Swarm()
    served = serve(swarm)
    callback = numbers()
    callback.on_train_begin()
    callback.on_train_end()
    served.result(DEADLINE_S)
    path = tmp_path / "out" / "model.safetensors"
    path.parent.mkdir()
    callback.save_parameters(path)
    expected = StreamDigest()
    expected.update(swarm.final)
    assert digest_of_file(path).digest() == expected.digest()
    assert list(path.parent.iterdir()) == [path]


def test_parameters_that_cannot_be_written_leave_nothing_behind(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    callback = numbers()
    (tmp_path / "model").mkdir()
    with pytest.raises(IsADirectoryError):
        callback.save_parameters(tmp_path / "model")
    assert not list(tmp_path.glob(".model*"))


@pytest.mark.parametrize(
    ("merge", "words"),
    [
        (lambda body: body[:-1], "has .* bytes, the model of this program"),
        (lambda body: body.replace(b'"x"', b'"y"'), "other parameters"),
        (lambda body: body.replace(b"F32", b"I32"), "other parameters"),
    ],
)
def test_a_merged_model_that_does_not_fit_is_refused_and_the_sl_is_told(serve, merge, words):
    swarm = Swarm(merge=merge)
    served = serve(swarm)
    callback = numbers()
    with pytest.raises(StreamError, match=words):
        callback.on_train_begin()
    served.result(DEADLINE_S)
    assert isinstance(swarm.heard[-1], wire.Abort)
    assert callback.values["x"].tolist() == [0, 0, 0]


def test_a_model_that_cannot_be_shared_is_named_to_both_sides(serve):
    swarm = Swarm()
    served = serve(swarm)
    callback = numbers(model={"weird": np.zeros(1, np.complex64)})
    with pytest.raises(NotStorable, match="weird"):
        callback.on_train_begin()
    served.result(DEADLINE_S)
    assert "weird" in swarm.heard[-1].message


def test_an_answer_to_another_question_is_refused(serve):
    class Confused(Swarm):
        def _answer(self, channel, message, body):
            super()._answer(channel, wire.Sync(9, 0) if isinstance(message, wire.Sync) else message, body)

    serve(Confused())
    with pytest.raises(WireError, match="answer is to exchange 9"):
        numbers().on_train_begin()


def test_methods_in_a_senseless_order_are_refused(monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    callback = numbers()
    with pytest.raises(UsageError, match="before on_train_begin"):
        callback.on_batch_end()
    with pytest.raises(UsageError, match="without a training"):
        callback.on_train_end()
    callback.on_train_begin()
    callback.on_train_end()
    with pytest.raises(UsageError, match="without a training"):
        callback.on_train_end()


def test_a_refused_session_raises_the_sentence_of_the_sl(serve):
    class Refusing(Swarm):
        def _answer(self, channel, message, body):
            channel.send(wire.OpenRefused("unknown-contract", "There is no training contract x."), doing="it waited")

    served = serve(Refusing())
    with pytest.raises(Refused, match="There is no training contract x") as refused:
        numbers()
    assert refused.value.facts["code"] == "unknown-contract"
    served.exception(DEADLINE_S)


@pytest.mark.parametrize(("asks", "counted"), [(True, [5, 6]), (False, [0, 1])])
def test_a_script_that_asks_where_it_was_counts_its_epochs_from_there(serve, asks, counted):
    swarm = Swarm(epochs_done=5)
    served = serve(swarm)
    callback = numbers()
    if asks:
        assert callback.initial_epoch == 5
    callback.on_train_begin()
    callback.on_epoch_end()
    assert callback.initial_epoch == 5  # also asked later
    callback.on_train_end()
    served.result(DEADLINE_S)
    assert [m.epochs_done for m in swarm.heard if isinstance(m, (wire.Sync, wire.Close))] == counted


def test_a_training_that_begins_has_no_epoch_behind_it(serve, monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    assert numbers().initial_epoch == 0
