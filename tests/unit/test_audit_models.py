"""Which files `swarm audit --verify` takes for what."""

from pathlib import Path

import numpy as np
import pytest

from services.audit.models import ModelFile, require_same, verify
from services.audit.record import Contribution, Record, RecordPosition, ResultRecord, RoundRecord
from services.errors import ModelsDiffer, NothingToVerify
from services.rpc.swarm_pb2 import RoundState
from swarm_callback.digest import digest_of_file
from swarm_callback.params import encode

AT = RecordPosition(1, 0)


def save(path: Path, value: float) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    header, data = encode({"w": np.full(5, value, np.float32)})
    path.write_bytes(header + b"".join(data))
    return digest_of_file(path).digest().hex()


def record_of(results: dict[int, str], check_ins: dict[str, str], state: RoundState = RoundState.COMPLETE) -> Record:
    found = Record("demo", state=state)
    for number, digest in results.items():
        found.rounds[number] = RoundRecord(number, result=ResultRecord(1, "a", digest, 1, 1, AT))
    last = found.rounds[max(results)]
    last.completed = state == RoundState.COMPLETE
    last.check_ins = [Contribution(name, it, 1, 1, True, "h:1", AT, "merged") for name, it in check_ins.items()]
    return found


def kinds(files: list[ModelFile]) -> dict[str, tuple[str, bool]]:
    return {str(it.path): (it.kind, it.differs) for it in files}


def test_files_are_told_apart_by_what_the_record_says(tmp_path: Path) -> None:
    final, older, mine = (save(tmp_path / f"{name}.safetensors", v) for v, name in enumerate(["final", "old", "mine"]))
    save(tmp_path / "deep" / "down" / "alien.safetensors", 9.0)
    (tmp_path / "cut.safetensors").write_bytes(b"\x00\x00\x00")
    copy = tmp_path / "fs" / f"{mine}.safetensors"
    save(copy, 2)
    (tmp_path / "notes.txt").write_text("not a model")
    files = verify(record_of({1: older, 2: final}, {"sl-1": mine}), tmp_path)
    assert kinds(files) == {
        "final.safetensors": ("final model", False),
        "old.safetensors": ("result", True),
        "mine.safetensors": ("check-in", True),
        "deep/down/alien.safetensors": ("not on the record", True),
        "cut.safetensors": ("unreadable", True),
        f"fs/{mine}.safetensors": ("check-in", False),
    }
    with pytest.raises(ModelsDiffer) as raised:
        require_same(files, record_of({1: older, 2: final}, {}), tmp_path)
    assert "4 of 6" in str(raised.value) and final in str(raised.value) and "alien" in str(raised.value)
    assert "sl-1 in round 2, merged" in next(it.found for it in files if it.path.name == "mine.safetensors")


def test_while_a_training_runs_the_result_of_any_round_is_in_order(tmp_path: Path) -> None:
    first, second = save(tmp_path / "1.safetensors", 1.0), save(tmp_path / "2.safetensors", 2.0)
    record = record_of({1: first, 2: second}, {}, state=RoundState.CHECKIN)
    files = verify(record, tmp_path)
    assert [it.found for it in files] == ["result of round 1", "result of round 2"]
    require_same(files, record, tmp_path)


@pytest.mark.parametrize("there", [True, False])
def test_a_directory_without_models_is_an_error(tmp_path: Path, there: bool) -> None:
    directory = tmp_path / "models"
    if there:
        directory.mkdir()
    with pytest.raises(NothingToVerify, match="models"):
        verify(record_of({1: "00"}, {}), directory)
