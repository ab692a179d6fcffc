"""Nodes as systemd services, on hosts without containers."""
