"""What a node knows to be final stays known to it, however the swarm around it changes."""

from pathlib import Path

from services.chain.final_block import FinalBlock


def test_a_block_that_was_not_saved_yet_is_kept_when_a_lone_signer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "final.json"
    final = FinalBlock(path)
    final.move(1, "0x01", remember=True)
    final.move(2, "0x02", remember=True)  # within the second in which the first one was saved
    final.move(3, "0x03", remember=False)
    assert FinalBlock(path).remembered == 2
