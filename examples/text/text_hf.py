"""Learns to tell praise from complaint with the Trainer of Hugging Face and LoRA; only the adapters travel. Alone with
SWARM_LOOPBACK=true, or with others in a swarm.
"""

import os
import tempfile

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from examples.run import Run
from examples.text.data import LENGTH, VOCABULARY, Examples, load
from swarmlearning.hf_transformers import SwarmCallback


def build_model() -> torch.nn.Module:
    """A tiny transformer from its config, the same on every node by the seed; nothing is downloaded."""
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        num_labels=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
    )
    adapters = LoraConfig(
        r=8, lora_alpha=16, target_modules=["query", "value", "dense"], modules_to_save=["classifier"]
    )
    return get_peft_model(BertForSequenceClassification(config), adapters)


def rows(examples: Examples) -> list[dict[str, torch.Tensor]]:
    words, praise = map(torch.from_numpy, examples)
    return [{"input_ids": one, "labels": label} for one, label in zip(words, praise, strict=True)]


def main() -> None:
    run = Run.of("text", epochs=12, sync_frequency=6)
    torch.manual_seed(run.seed)
    torch.set_num_threads(1)  # several nodes share this machine, and the model is small
    text = load(run.shard, run.count)
    model = build_model()
    swarm = SwarmCallback(
        **run.swarm_options,
        model=model,
        hfMode="peft",
        adsValData=DataLoader(rows(text.validation), 60),
        metricFunction="Accuracy",
        metricFunctionArgs={"task": "multiclass", "num_classes": 2},
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=run.epochs, per_device_train_batch_size=text.batch_size, learning_rate=5e-3,
            lr_scheduler_type="cosine", save_strategy="no", logging_strategy="no", report_to=[], use_cpu=True,
            disable_tqdm=True, seed=run.seed,
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=rows(text.train), callbacks=[swarm]).train()
    words, praise = map(torch.from_numpy, text.test)
    model.eval()
    with torch.no_grad():
        accuracy = float((model(input_ids=words).logits.argmax(1) == praise).float().mean())
    run.finish(swarm, accuracy, "hf")


if __name__ == "__main__":
    main()
