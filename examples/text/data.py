"""Sentences of patients, generated of small vocabularies: does one complain or praise? Clinics talk of other things."""

from dataclasses import dataclass

import numpy as np

SPLIT_SEED = 0  # the same cut on every node
LENGTH = 12  # words
STEPS_PER_EPOCH = 12
TRAIN, VALIDATION, TEST = 240, 120, 300  # sentences; training ones of each node
OPINIONS = 12  # words of praise, and as many of complaint, of each clinic
SUBJECTS = 40
CLINICS = 3
FIRST_WORD = 1  # 0 is padding
VOCABULARY = FIRST_WORD + CLINICS * (2 * OPINIONS) + SUBJECTS

Examples = tuple[np.ndarray, np.ndarray]  # words (n, LENGTH) int64, praise (n,) int64: 0 or 1


@dataclass(frozen=True)
class Text:
    train: Examples
    validation: Examples  # common to all nodes, of all clinics
    test: Examples

    @property
    def batch_size(self) -> int:
        return -(-len(self.train[1]) // STEPS_PER_EPOCH)


def load(shard: int | None, count: int) -> Text:
    """The data of one clinic; ``shard=None``: all of it on one machine."""
    shards = [_sentences(TRAIN, 1 + node, node % CLINICS) for node in range(count)]
    mine = [np.concatenate(part) for part in zip(*shards, strict=True)] if shard is None else shards[shard]
    return Text(tuple(mine), _sentences(VALIDATION, 100, None), _sentences(TEST, 101, None))


def _sentences(many: int, stream: int, clinic: int | None) -> Examples:
    """``clinic``: whose words are mostly used; None: all clinics' alike."""
    random = np.random.default_rng([SPLIT_SEED, stream])
    praise = random.integers(0, 2, many)
    words = random.integers(VOCABULARY - SUBJECTS, VOCABULARY, (many, LENGTH))
    for sentence, kind in zip(words, praise, strict=True):
        for place in random.choice(LENGTH, 4, replace=False):
            strange = clinic is None or random.random() < 0.05
            of = random.integers(0, CLINICS) if strange else clinic
            sentence[place] = FIRST_WORD + (2 * of + kind) * OPINIONS + random.integers(0, OPINIONS)
    return words, praise
