"""One fold of a cross-validation: ``one_fold.py FOLD OUT``. Says on which rows it was validated, with which losses, and
how far its first merged model is from the one that it was made with.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import KFold
from torch.utils.data import DataLoader, Subset, TensorDataset

from swarmlearning.pyt import SwarmCallback

FOLD, OUT = int(sys.argv[1]), Path(sys.argv[2])
INDEX, COUNT = int(os.environ["SWARM_NODE_INDEX"]), int(os.environ["SWARM_NODE_COUNT"])
EPOCHS = 2


def main() -> None:
    digits, classes = load_digits(return_X_y=True)
    x = torch.from_numpy((digits[INDEX::COUNT] / 16).astype(np.float32))
    data = TensorDataset(x, torch.from_numpy(classes[INDEX::COUNT].astype(np.int64)))
    train, kept = list(KFold(2, shuffle=True, random_state=0).split(x))[FOLD - 1]
    torch.manual_seed(FOLD)
    model = torch.nn.Linear(64, 10)
    begun = model.weight.detach().clone()
    moved: list[float] = []
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    swarm = SwarmCallback(
        syncFrequency=4,
        minPeers=COUNT,
        model=model,
        adsValData=DataLoader(Subset(data, kept.tolist()), 64),
        lossFunction="CrossEntropyLoss",
        modelVersion=f"fold-{FOLD}",
        totalEpochs=EPOCHS,
        on_merged=lambda *_: moved.append(float((model.weight - begun).abs().max())),
    )
    swarm.on_train_begin()
    for _ in range(EPOCHS):
        for rows, wanted in DataLoader(Subset(data, train.tolist()), 32, shuffle=True):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(rows), wanted).backward()
            optimizer.step()
            swarm.on_batch_end()
        swarm.on_epoch_end()
    swarm.on_train_end()
    swarm.save_parameters(OUT / f"{INDEX}.safetensors")
    losses = [merge.loss for merge in swarm.history]
    said = {"kept": kept.tolist(), "losses": losses, "first_merge_moved": moved[0]}
    (OUT / f"fold-{FOLD}-node-{INDEX}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
