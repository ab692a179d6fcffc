"""A training with several phases, and one that is interrupted and resumed, over real pipes."""

import logging

import numpy as np
import pytest
import torch
from callback_swarm import Numbers, Swarm

from swarm_callback import wire
from swarm_callback.errors import AlreadyTrained, NotOneModel, SessionEnded, StreamError, UsageError

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")


def made(**options) -> Numbers:
    return Numbers(3, 1, logger=LOGGER, **options)


def phase(callback, batches: int) -> None:
    callback.on_train_begin()
    for _ in range(batches):
        callback.on_batch_end()
    callback.on_epoch_end()
    callback.on_train_end()


def told(swarm: Swarm) -> list[str]:
    return [kind for kind in swarm.kinds() if kind != "Report"]


def test_each_phase_ends_with_a_merge_and_the_last_one_ends_the_training(serve):
    swarm = Swarm()
    served = serve(swarm)
    callback = made(phases=2)
    phase(callback, 4)
    assert callback.tensors["w"].tolist() == [3] * 4  # begin, third batch, end
    phase(callback, 2)
    served.result(DEADLINE_S)
    assert told(swarm) == ["Open", "Sync", "Sync", "Sync", "Close", "Bye"]
    assert [m.epochs_done for m in swarm.heard if isinstance(m, (wire.Sync, wire.Close))] == [0, 0, 1, 2]
    with pytest.raises(AlreadyTrained, match="phases=2"):
        callback.on_train_begin()


def test_a_batch_between_two_phases_is_refused(serve):
    served = serve(Swarm())
    callback = made(phases=2)
    phase(callback, 1)
    with pytest.raises(UsageError, match="before on_train_begin"):
        callback.on_batch_end()
    phase(callback, 1)
    served.result(DEADLINE_S)


def test_a_training_that_is_over_in_its_first_phase_merges_in_none_after_it(serve):
    swarm = Swarm(over_at=2)
    served = serve(swarm)
    callback = made(phases=2)
    phase(callback, 4)
    assert callback.training_over
    phase(callback, 4)
    served.result(DEADLINE_S)
    assert told(swarm) == ["Open", "Sync", "Sync", "Bye"]


def test_what_is_shared_in_one_phase_only_is_named(serve):
    swarm = Swarm()
    served = serve(swarm)
    callback = made(phases=2, share="trainable")
    callback.frozen = {"w"}
    phase(callback, 1)
    callback.frozen = set()
    with pytest.raises(NotOneModel, match="The parameter w is not what it was in the previous phase"):
        callback.on_train_begin()
    served.result(DEADLINE_S)
    assert isinstance(swarm.heard[-1], wire.Abort)


def test_a_training_that_was_broken_off_goes_on_from_the_last_merged_model(serve, caplog):
    swarm = Swarm()
    served = serve(swarm)
    callback = made()
    callback.on_train_begin()
    callback.tensors["w"][:] = np.nan  # and here a cell of a notebook fails
    phase(callback, 1)
    served.result(DEADLINE_S)
    assert told(swarm) == ["Open", "Sync", "Close", "Bye"]
    assert callback.tensors["w"].tolist() == [2] * 4
    assert "The training before was not ended: it goes on from the last merged model" in caplog.messages


def test_a_training_that_failed_before_its_first_merge_begins_with_it(serve):
    swarm = Swarm()
    served = serve(swarm)
    callback = made()
    right, callback.tensors = callback.tensors, None
    with pytest.raises(TypeError):
        callback.on_train_begin()
    callback.tensors = right
    phase(callback, 1)
    served.result(DEADLINE_S)
    assert told(swarm) == ["Open", "Sync", "Close", "Bye"]


def test_a_training_that_failed_in_a_merge_does_not_go_on_and_says_why(serve):
    served = serve(Swarm(merge=lambda body: body[:-1]))
    callback = made()
    with pytest.raises(StreamError):
        callback.on_train_begin()
    with pytest.raises(SessionEnded, match=r"ended with an error.*Restart this program"):
        phase(callback, 3)
    served.result(DEADLINE_S)


def test_a_network_of_pytorch_is_tuned_in_two_phases_first_with_a_layer_frozen(serve):
    from swarmlearning.pyt import SwarmCallback

    swarm = Swarm()
    served = serve(swarm)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    net[0].requires_grad_(False)
    callback = SwarmCallback(2, 1, model=net, phases=2, logger=LOGGER)
    for _ in range(2):
        optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
        callback.on_train_begin()
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(4, 3)).square().mean().backward()
            optimizer.step()
            callback.on_batch_end()
        callback.on_train_end()
        net[0].requires_grad_(True)
    served.result(DEADLINE_S)
    assert told(swarm) == ["Open", "Sync", "Sync", "Sync", "Sync", "Close", "Bye"]
