"""The REST API of an SWCI: the commands, for programs."""
