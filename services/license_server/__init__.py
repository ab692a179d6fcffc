"""Lends seats of a licence to nodes, over HTTPS with client certificates."""
