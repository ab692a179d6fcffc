"""The name under which scripts for PyTorch import the callback."""

from swarm_callback.torch import SwarmCallback

__all__ = ["SwarmCallback"]
