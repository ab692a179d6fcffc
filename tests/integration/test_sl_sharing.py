"""A merge that is shared out: the same result, bit for bit, with mergers and holders that fail on the way."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import Arrays, Swarm, swarm_of

from services.merge.engine import ParameterSet, merge
from services.sl.layouts import layout_of
from swarm_callback.digest import StreamDigest
from swarm_callback.params import encode, parse_header, stream_size

METHODS = ("mean", "coordmedian", "geomedian", "krum", "trimmed_mean")


def model(seed: int, elements: int = 1_500_000) -> Arrays:
    """6 MB; the odd tensor in front puts elements across the boundaries of segments."""
    random = np.random.default_rng(seed)
    return {
        "a": random.integers(0, 9, 3).astype(np.uint8),
        "n": np.array(seed, np.int64),
        "w": random.standard_normal(elements).astype(np.float32),
    }


def same(arrays: dict[str, Any], _number: int) -> Arrays:
    return arrays


def merged(method: str, models: dict[str, Arrays]) -> str:
    """The digest of what one machine makes of them."""
    digest = StreamDigest()
    sets = []
    for name, arrays in models.items():
        header, data = encode(arrays)
        if not sets:
            digest.update(header)
        layout = layout_of(parse_header(header, stream_size(header, data)))
        sets.append(ParameterSet(name, 1, layout, {key: values.reshape(-1) for key, values in arrays.items()}))
    assert merge(method, sets, digest.update) == ()
    return digest.digest().hex()


def shared(swarm: Swarm) -> list[str]:
    return [path.name for path in swarm.directory.rglob("*.draft")]


@pytest.mark.parametrize("method", METHODS)
async def test_the_result_is_that_of_one_machine_bit_for_bit(pki: Any, tmp_path: Path, method: str) -> None:
    names = ["sl-1", "sl-2", "sl-3", "sl-4"]
    async with swarm_of(pki, tmp_path, *names) as swarm:
        models = {name: model(number) for number, name in enumerate(names)}
        programs = [
            swarm.ml(name, models[name], same, rounds=0, min_peers=4, merge_method=method, checkin="inactive")
            for name in names
        ]
        digests = await asyncio.gather(*(program.run() for program in programs))
        (first, *_) = [event for event in await swarm.events() if type(event).__name__ == "RoundAccepted"]
        assert first.digest.hex() == merged(method, models)
        assert set(digests) == {swarm.view.last_result.digest.hex()}
        assert all(program.answers[0].contributed for program in programs)
