"""The name under which scripts for TensorFlow and Keras import the callback."""

from swarm_callback.keras import SwarmCallback

__all__ = ["SwarmCallback"]
