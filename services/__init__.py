"""The nodes of a swarm and what they share. Each folder is one concern; see docs/architecture.md."""
