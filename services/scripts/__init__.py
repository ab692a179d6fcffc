"""The scripts of scripts/bin. Standard library alone, for hosts with Python 3.9 and an engine only."""
