"""Learns to tell tumours with scikit-learn: alone with SWARM_LOOPBACK=true, or with others in a swarm."""

import numpy as np
from sklearn.linear_model import SGDClassifier

from examples.cancer.data import load
from examples.run import Run
from swarm_callback.sklearn import SwarmCallback


def main() -> None:
    run = Run.of("cancer", epochs=20, sync_frequency=2)
    cancer = load(run.shard, run.count)
    features, benign = cancer.train
    model = SGDClassifier(loss="log_loss", alpha=1e-3, learning_rate="constant", eta0=0.01, random_state=run.seed)
    model.partial_fit(features[:1], benign[:1], classes=[0, 1])  # now it has coefficients
    swarm = SwarmCallback(
        **run.swarm_options,
        nodeWeightage="samples",  # the tiny hospital weighs as many patients as it has
        model=model,
        adsValData=cancer.validation,
    )
    random = np.random.default_rng(run.seed)
    swarm.on_train_begin()
    for epoch in range(swarm.initial_epoch, run.epochs):
        if swarm.training_over:
            break
        order = random.permutation(len(benign))
        for batch, start in enumerate(range(0, len(order), cancer.batch_size)):
            rows = order[start : start + cancer.batch_size]
            model.partial_fit(features[rows], benign[rows])
            swarm.on_batch_end(batch)
        swarm.on_epoch_end(epoch)
    swarm.on_train_end()
    run.finish(swarm, float(model.score(*cancer.test)), "sklearn")


if __name__ == "__main__":
    main()
