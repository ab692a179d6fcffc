"""Grants seats of a license to nodes, over HTTPS with client certificates."""
