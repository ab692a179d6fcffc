"""Commands for a swarm from a Python program, through the REST API of an SWCI."""

from swarmlearning.swci.client import Swci, SwciError

__all__ = ["Swci", "SwciError"]
