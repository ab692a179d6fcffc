"""The record of a training, read back from the chain: the rounds, whether it is sound, whose a model is."""
