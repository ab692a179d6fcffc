"""Swarm Learning node: the sidecar of an ML program."""
