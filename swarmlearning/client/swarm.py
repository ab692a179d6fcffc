"""The name under which scripts for other platforms import the base class."""

from swarm_callback.base import SwarmCallbackBase

__all__ = ["SwarmCallbackBase"]
