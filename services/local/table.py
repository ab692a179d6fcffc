"""Shows a local swarm on a terminal: a table that is redrawn at every change, below the lines."""

from rich.console import Console
from rich.live import Live
from rich.table import Table

from services.local.view import rows
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.wording import headline

COLUMNS = ("node", "round", "state", "loss", "metric", "epochs")
WORDS = ("node", "state")  # the others are numbers


class LiveTable:
    """The view for a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._live = Live(console=console or Console(), auto_refresh=False)
        self._live.start()

    def say(self, line: str) -> None:
        self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def connected(self, client: SNClient, chain: str) -> None:
        """Nothing to show: the states say enough."""

    def update(self, status: pb.TrainingStatus) -> None:
        self._live.update(training_table(status), refresh=True)

    def close(self) -> None:
        self._live.stop()


def training_table(status: pb.TrainingStatus) -> Table:
    """One row per participant, with the round and its leader above."""
    table = Table(title=headline(status), title_justify="left", title_style="bold")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in WORDS else "right")
    for row in rows(status):
        table.add_row(*row)
    return table
