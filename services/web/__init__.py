"""HTTPS servers of nodes: who calls, errors as JSON, and an end that comes when the node's does."""
