"""Imported before Keras: what keeps it quiet, and the same on every machine."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow reports what it found at each start otherwise
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the same sums in the same order on every machine
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # several nodes share a machine, and the models are small
