"""A leader that publishes a result which nobody holds."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

RESULT = "result"
MADE_UP = "of nothing"


def become(file: Path, told: Path) -> None:
    """Called in an SL before it starts. ``file`` holds {"result": "of nothing"}, and goes with the lie, which is told
    once; ``told`` then holds what was published: {"leader", "round", "term", "digest"}.
    """
    from services.sl.round.runner import Runner

    perform = Runner._perform

    def lying_perform(runner: Any, action: Any) -> None:
        if type(action).__name__ == "Publish" and _is_to_lie(file):
            digest = hashlib.sha256(action.model.digest.encode()).hexdigest()
            action = dataclasses.replace(action, model=dataclasses.replace(action.model, digest=digest))
            said = {"leader": runner._name, "round": action.round, "term": action.term, "digest": digest}
            part = told.with_suffix(".part")
            part.write_text(json.dumps(said))
            part.rename(told)  # whole, or not there
        perform(runner, action)

    Runner._perform = lying_perform  # type: ignore[method-assign]


def _is_to_lie(file: Path) -> bool:
    try:
        how = json.loads(file.read_text())
    except FileNotFoundError:
        return False
    if how != {RESULT: MADE_UP}:
        return False
    file.unlink()
    return True
