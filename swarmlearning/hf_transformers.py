"""The name under which scripts for the Trainer of Hugging Face import the callback."""

from swarm_callback.hf_transformers import SwarmCallback

__all__ = ["SwarmCallback"]
