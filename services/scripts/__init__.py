"""The scripts of scripts/bin. They use only the standard library, for hosts with just Python 3.9 and an engine."""
