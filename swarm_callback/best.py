"""The best merged model so far, by the mean metric of all nodes, in a file."""

import logging
from dataclasses import dataclass
from pathlib import Path

from swarm_callback.digest import StreamDigest
from swarm_callback.files import write_whole


@dataclass(frozen=True)
class Best:
    """The merged model of ``round``, in the file ``path`` (safetensors). ``digest``: 64 hex digits, as on the chain."""

    round: int
    digest: str
    path: Path


class BestKeeper:
    """The best round is known only when the next one is merged; until then the last stream is still in memory."""

    def __init__(self, path: str, logger: logging.Logger) -> None:
        self._path = Path(path)
        self._logger = logger
        self._missed = 0
        self._unsaved = 0
        self.best: Best | None = None

    def look(self, best_round: int, held_round: int, held: memoryview) -> None:
        """Writes ``held`` to the file if its round is the best. ``held``: the merged stream of ``held_round``, empty if
        there is none. A file that cannot be written is a warning.
        """
        if not best_round or best_round in (self._missed, self._unsaved, self.best.round if self.best else 0):
            return
        if best_round != held_round or not len(held):
            self._missed, self._unsaved = best_round, 0
            self._logger.warning(
                "The best merged model so far is that of round %d, which this node did not get; it keeps %s",
                best_round, self._kept(),
            )  # fmt: skip
            return
        digest = StreamDigest()
        digest.update(held)
        try:
            write_whole(self._path, [held])
        except OSError as error:
            if not self._unsaved:
                self._logger.warning(
                    "The best merged model so far, that of round %d, cannot be saved as %s (%s); training continues",
                    best_round, self._path, error.strerror or error,
                )  # fmt: skip
            self._unsaved = best_round
            return
        self._unsaved = 0
        self.best = Best(best_round, digest.digest().hex(), self._path)
        self._logger.info("Best merged model so far: round %d, %s, %s", best_round, self.best.digest[:16], self._path)

    def end(self) -> None:
        """The training is over: warns if the best model could not be saved."""
        if self._unsaved:
            self._logger.warning(
                "The best merged model is that of round %d, which could not be saved; %s has %s",
                self._unsaved, self._path, self._kept(),
            )  # fmt: skip

    def _kept(self) -> str:
        return f"that of round {self.best.round}" if self.best else "none"
