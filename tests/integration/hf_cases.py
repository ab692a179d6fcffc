"""SwarmCallback for the Hugging Face Trainer; test_callback_hf.py runs these cases in a separate process."""

import logging

import pytest
import torch
from callback_swarm import Swarm, plus_one
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, default_data_collator

from swarm_callback import wire
from swarm_callback.params import decode

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")


def tiny():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=2
    )
    return BertForSequenceClassification(config)


DATA = [{"input_ids": torch.arange(5) + i, "attention_mask": torch.ones(5).long(), "labels": i % 2} for i in range(16)]


def train(tmp_path, model, callback, **changes):
    settings = {"num_train_epochs": 1, "per_device_train_batch_size": 2, "report_to": [], "use_cpu": True}
    arguments = TrainingArguments(str(tmp_path / "out"), save_strategy="no", logging_strategy="no", disable_tqdm=True,
                                  **(settings | changes))  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=DATA, callbacks=[callback])
    trainer.train()
    return trainer


def test_the_trainer_trains_in_a_swarm_and_steps_of_the_optimizer_count(serve, tmp_path):
    from swarmlearning.hf_transformers import SwarmCallback

    swarm = Swarm()
    served = serve(swarm)
    model = tiny()
    loader = torch.utils.data.DataLoader(DATA, 4)
    callback = SwarmCallback(2, 1, model=model, adsValData=loader, totalEpochs=1, logger=LOGGER)
    train(tmp_path, model, callback, gradient_accumulation_steps=2)  # 8 batches, 4 steps
    served.result(DEADLINE_S)
    assert swarm.kinds() == ["Open", *["Sync", "Report"] * 3, "Close", "Report", "Bye"]
    assert all(0 < message.loss < 100 for message in swarm.heard if isinstance(message, wire.Report))
    callback.save_parameters(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == swarm.final


ROWS = [{**row, "label": row["labels"], "idx": 100 + i} for i, row in enumerate(DATA)]  # as before the Trainer
for row in ROWS:
    del row["labels"]


def loss_of(model):
    batch = default_data_collator(DATA)
    with torch.no_grad():
        return float(model.eval()(**batch).loss)


@pytest.mark.parametrize("size", [None, 5])
def test_a_data_set_as_the_trainer_takes_it_is_evaluated(monkeypatch, size):
    from swarmlearning.hf_transformers import SwarmCallback

    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    model = tiny()
    callback = SwarmCallback(2, 1, model=model, adsValData=ROWS, adsValBatchSize=size, logger=LOGGER)
    assert callback.evaluate()[0] == pytest.approx(loss_of(model), rel=1e-5)


@pytest.mark.parametrize(
    "wrap", [lambda model: model, torch.nn.DataParallel, lambda model: get_peft_model(model, LoraConfig(r=2))]
)
def test_columns_that_the_model_does_not_take_stay_out_of_its_evaluation(monkeypatch, wrap):
    from swarmlearning.hf_transformers import SwarmCallback

    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    model = tiny()
    padded = [row | {"attention_mask": torch.tensor([1, 1, 1, 0, 0])} for row in ROWS]
    with torch.no_grad():
        given = default_data_collator([{name: row[name] for name in row if name != "idx"} for row in padded])
        wanted = float(model.eval()(**given).loss)
    callback = SwarmCallback(2, 1, model=wrap(model), adsValData=padded, logger=LOGGER)
    assert callback.evaluate()[0] == pytest.approx(wanted, rel=1e-5)


def test_of_a_peft_model_only_the_adapters_travel(serve, tmp_path):
    from swarmlearning.hf_transformers import SwarmCallback

    bodies = []
    served = serve(Swarm(merge=lambda body: bodies.append(body) or plus_one(body)))
    model = get_peft_model(tiny(), LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"]))
    callback = SwarmCallback(4, 1, model=model, hfMode="peft", logger=LOGGER)
    train(tmp_path, model, callback)
    served.result(DEADLINE_S)
    names = set(decode(bodies[0]))
    assert names
    assert all("lora_" in name or "classifier" in name for name in names)


def test_an_interval_that_is_longer_than_the_training_is_said_when_it_begins(monkeypatch, tmp_path, caplog):
    from swarmlearning.hf_transformers import SwarmCallback

    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    model = tiny()
    train(tmp_path, model, SwarmCallback(5, 1, model=model, logger=LOGGER), gradient_accumulation_steps=2)
    assert "There will be no merge between begin and end: 4 batches, syncFrequency 5" in caplog.messages


def test_training_stops_when_that_of_the_swarm_is_over(serve, tmp_path):
    from swarmlearning.hf_transformers import SwarmCallback

    served = serve(Swarm(over_at=2))
    model = tiny()
    trainer = train(tmp_path, model, SwarmCallback(2, 1, model=model, logger=LOGGER), num_train_epochs=5)
    served.result(DEADLINE_S)
    assert trainer.state.global_step == 2


def test_the_optimizer_of_the_trainer_begins_anew_with_each_merge(serve, tmp_path):
    from swarmlearning.hf_transformers import SwarmCallback

    left = []
    served = serve(Swarm())
    model = tiny()
    callback = SwarmCallback(2, 1, model=model, optimizerState="reset", totalEpochs=1, logger=LOGGER,
                             on_merged=lambda *_: left.append(len(callback._optimizers[0].state)))  # fmt: skip
    train(tmp_path, model, callback)
    served.result(DEADLINE_S)
    assert left[:-1] == [0] * 5  # the first merge, and one after every second of 8 steps
