"""The `swarm` command: parses, calls the folder that does the work, prints."""
