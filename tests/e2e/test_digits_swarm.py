"""The digits with real frameworks: every node ends with the same model, and the chain records it."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from local_swarms import Recorder

from services.local.plan import CODE_ROOT, SwarmPlan
from services.local.process import Child, Launch, program_environment
from services.local.swarm import up
from swarm_callback.digest import digest_of_file

EXAMPLES = Path(__file__).parents[2] / "examples" / "digits"


pytestmark = pytest.mark.timeout(400)  # seven programs that each import a framework, on a busy machine


@pytest.mark.needs("geth")
async def test_keras_nodes_with_skewed_digits_end_with_one_good_model(tmp_path: Path, recorder: Recorder) -> None:
    out = tmp_path / "out"
    command = (sys.executable, str(EXAMPLES / "digits_keras.py"))
    plan = SwarmPlan(tmp_path / "swarm", 3, "geth", command, environment={"OUTPUT_DIR": str(out), "MAX_EPOCHS": "6"})
    assert await up(plan, recorder, asyncio.Event())
    models = sorted(out.glob("node-*.safetensors"))
    assert [digest_of_file(path).digest() for path in models] == [recorder.last.last_result.digest] * 3
    accuracies = {json.loads(path.read_text())["accuracy"] for path in out.glob("node-*.json")}
    assert len(accuracies) == 1
    assert accuracies.pop() > 0.93  # a lone node stays below 0.9, having hardly seen the others' digits


async def test_the_demo_with_torch_reports_one_model_better_than_any_lone_node(tmp_path: Path) -> None:
    out = tmp_path / "demo-out"
    argv = (sys.executable, "-m", "examples.digits.demo", "--framework=torch", "--chain=embedded", f"--out={out}")
    environment = program_environment(MAX_EPOCHS="4")
    demo = Child.start(Launch("demo", argv, tmp_path / "demo.log", environment, cwd=CODE_ROOT))
    try:
        assert await demo.wait() == 0, demo.tail(40)
    finally:
        await demo.stop()
    report = json.loads((out / "report.json").read_text())
    assert report["chain"] == "embedded"
    assert report["digests"] == dict.fromkeys(("sl-1", "sl-2", "sl-3"), report["chain_digest"])
    assert {node: digest_of_file(out / f"{node}.safetensors").digest().hex() for node in report["digests"]} == report[
        "digests"
    ]
    assert report["rounds"] == len(report["history"])
    assert max(report["accuracy"]["nodes"]) < report["accuracy"]["swarm"]
    assert (out / "rounds.png").read_bytes().startswith(b"\x89PNG")
    assert "swarm of all" in demo.log.read_text()
