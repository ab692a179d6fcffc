"""Swarm Learning Command Interface: commands from a shell, a script or a program."""
