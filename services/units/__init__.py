"""Nodes as services of systemd, on hosts without containers."""
