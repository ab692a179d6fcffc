"""The record of a training, read from the chain: its rounds, whether it is sound, and what a model file is in it."""
