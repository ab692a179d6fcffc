"""SwarmCallback for PyTorch Lightning; test_callback_lightning.py runs these cases in a separate process."""

import logging
import subprocess
import sys

import lightning.pytorch as pl
import pytest
import torch
from callback_swarm import Swarm

from swarm_callback import wire
from swarm_callback.errors import UsageError
from swarm_callback.lightning import SwarmCallback

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")
DATA = torch.utils.data.TensorDataset(
    torch.randn(16, 3, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2
)


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, inputs):
        return self.layer(inputs)

    def training_step(self, batch, index):
        inputs, wanted = batch
        return torch.nn.functional.cross_entropy(self(inputs), wanted)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def loader():
    return torch.utils.data.DataLoader(DATA, 2)


def fit(model, callbacks, **settings):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=1, enable_model_summary=False, callbacks=callbacks, **quiet, **settings)
    trainer.fit(model, loader())
    return trainer


def test_a_trainer_trains_in_a_swarm_and_steps_of_the_optimizer_count(serve, tmp_path):
    swarm = Swarm()
    served = serve(swarm)
    model = Net()
    callback = SwarmCallback(
        2, 1, model=model, adsValData=loader(), lossFunction="CrossEntropyLoss", totalEpochs=1, logger=LOGGER
    )
    fit(model, callback, accumulate_grad_batches=2)  # 8 batches, 4 steps
    served.result(DEADLINE_S)
    assert swarm.kinds() == ["Open", *["Sync", "Report"] * 3, "Close", "Report", "Bye"]
    assert all(message.loss > 0 for message in swarm.heard if isinstance(message, wire.Report))
    callback.save_parameters(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == swarm.final


def test_an_interval_that_is_longer_than_the_training_is_said_when_it_begins(monkeypatch, caplog):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    model = Net()
    fit(model, SwarmCallback(5, 1, model=model, logger=LOGGER), accumulate_grad_batches=2)
    assert "There will be no merge between begin and end: 4 batches, syncFrequency 5" in caplog.messages


def test_pytorch_lightning_is_enough():
    """The package's other name, which may be the only one installed."""
    program = """
import sys
sys.modules["lightning"] = None
import pytorch_lightning as pl
from swarm_callback.lightning import SwarmCallback
assert issubclass(SwarmCallback, pl.Callback)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_fitting_stops_when_the_training_of_the_swarm_is_over(serve):
    served = serve(Swarm(over_at=2))
    model = Net()
    trainer = fit(model, SwarmCallback(2, 1, model=model, logger=LOGGER))
    served.result(DEADLINE_S)
    assert trainer.global_step == 2


class Average(pl.Callback):
    """Puts averaged weights in place at the end, as callbacks for weight averaging do."""

    def on_train_end(self, trainer, pl_module):
        with torch.no_grad():
            pl_module.layer.weight /= 2


@pytest.mark.parametrize(("last", "told"), [(False, True), (True, False)])
def test_a_callback_that_replaces_the_final_model_is_named(serve, caplog, last, told):
    served = serve(Swarm())
    model = Net()
    swarm = SwarmCallback(4, 1, model=model, logger=LOGGER)
    fit(model, [Average(), swarm] if last else [swarm, Average()])
    served.result(DEADLINE_S)
    assert any("no longer the final model" in message and "Average" in message for message in caplog.messages) == told


def test_the_node_is_enrolled_when_fit_begins_or_its_first_epoch_is_asked_for(serve):
    swarm = Swarm(epochs_done=1)
    served = serve(swarm)
    model = Net()
    callback = SwarmCallback(4, 1, model=model, logger=LOGGER)
    assert not swarm.heard
    assert callback.initial_epoch == 1
    assert swarm.kinds() == ["Open"]
    fit(model, callback)
    served.result(DEADLINE_S)
    assert swarm.kinds().count("Open") == 1


def test_another_model_than_that_of_fit_is_a_sentence(monkeypatch):
    monkeypatch.setenv("SWARM_LOOPBACK", "true")
    with pytest.raises(UsageError, match="another model than fit trains"):
        fit(Net(), SwarmCallback(2, 1, model=Net(), logger=LOGGER))
