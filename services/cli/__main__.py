"""`python -m services.cli` is `swarm`."""

from services.cli.main import run

run()
