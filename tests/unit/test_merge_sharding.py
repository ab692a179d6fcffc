"""A merge that several share: segment by segment, from bytes alone, bit for bit what one machine makes of it."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.merge import segments as segments_module
from services.merge import work as work_module
from services.merge.engine import ParameterSet, merge, merge_into
from services.merge.errors import LayoutDiffers, NothingToMerge
from services.merge.layout import STORAGE, Layout, TensorLayout
from services.merge.segments import SEGMENT_BYTES, Segment, segments
from services.merge.work import Frame, MergeJob, NonFinite, Plan
from swarm_callback import digest

METHODS = ("mean", "coordmedian", "geomedian", "trimmed_mean", "krum")
FLOATS = ("F64", "F32", "F16", "BF16")

layouts = st.lists(st.tuples(st.sampled_from(list(STORAGE)), st.integers(0, 60)), max_size=8).map(
    lambda tensors: {f"t{index}": TensorLayout(dtype, (count,)) for index, (dtype, count) in enumerate(tensors)}
)
segment_sizes = st.integers(8, 64)


def size_of(layout: Layout) -> int:
    return sum(np.dtype(STORAGE[spec.dtype]).itemsize * spec.count for spec in layout.values())


def body_of(layout: Layout, seed: int) -> bytes:
    """The bytes of a stream after its header: finite values in every tensor."""
    random = np.random.default_rng(seed)
    parts = []
    for _, spec in sorted(layout.items()):
        if spec.dtype == "BF16":
            values = (random.standard_normal(spec.count).astype(np.float32).view(np.uint32) >> 16).astype("<u2")
        elif spec.dtype in FLOATS:
            values = random.standard_normal(spec.count).astype(STORAGE[spec.dtype])
        else:
            values = random.integers(0, 100, spec.count).astype(STORAGE[spec.dtype])
        parts.append(values.tobytes())
    return b"".join(parts)


def tensors_of(layout: Layout, body: bytes) -> dict[str, np.ndarray]:
    found, position = {}, 0
    for tensor, spec in sorted(layout.items()):
        found[tensor] = np.frombuffer(body, STORAGE[spec.dtype], spec.count, position)
        position += found[tensor].nbytes
    return found


def in_one(method: str, layout: Layout, bodies: dict[str, bytes], weights: dict[str, int], threads: int = 1) -> bytes:
    sets = [ParameterSet(name, weights[name], layout, tensors_of(layout, body)) for name, body in bodies.items()]
    out, into = bytearray(), bytearray(size_of(layout))
    assert merge(method, sets, out.extend, threads=threads) == ()
    assert merge_into(method, sets, memoryview(into), threads=threads) == ()
    assert out == into
    return bytes(out)


def in_parts(
    method: str, layout: Layout, bodies: dict[str, bytes], weights: dict[str, int], dealt: Sequence[Sequence[int]]
) -> bytes:
    """Each entry of ``dealt`` is what one merger does, in this order, seeing nothing but the bytes that it needs."""

    def blocks(work: MergeJob, index: int) -> dict[str, list[np.ndarray]]:
        start, stop = work.segments[index].needs
        return {name: work.segments[index].cut(bytearray(body[start:stop])) for name, body in bodies.items()}

    leader = MergeJob(method, layout, weights)
    settled: Plan | Frame = Frame() if leader.measures else leader.plan()
    while isinstance(settled, Frame):
        parts: dict[int, bytes] = {}
        for number, mine in enumerate(dealt):
            work = MergeJob(method, layout, dict(reversed(weights.items())), 100 + number)
            parts |= {index: work.measure(index, blocks(work, index), settled)[0].tobytes() for index in mine}
        voters = sum(1 for weight in weights.values() if weight)
        settled = leader.settle(
            [np.frombuffer(parts[index]).reshape(voters, voters) for index in range(len(parts))], settled
        )
    result = bytearray(size_of(layout))
    for number, mine in enumerate(dealt):
        work = MergeJob(method, layout, weights, 70 + number)
        for index in mine:
            segment = work.segments[index]
            assert (
                work.combine(index, blocks(work, index), settled, memoryview(result)[segment.start : segment.stop])
                == ()
            )
    return bytes(result)


# --- how a body is cut ------------------------------------------------------------------------------------------


def test_segments_are_those_of_the_digest() -> None:
    assert SEGMENT_BYTES == digest.SEGMENT_BYTES


@settings(deadline=None)
@given(layouts, segment_sizes)
def test_segments_cut_the_body_at_every_so_many_bytes(layout: Layout, segment_bytes: int) -> None:
    found = segments(layout, segment_bytes)
    edges = [*range(0, size_of(layout), segment_bytes), size_of(layout)]
    assert [segment.start for segment in found] == edges[:-1]
    assert [segment.stop for segment in found] == edges[1:]


@settings(deadline=None)
@given(layouts, segment_sizes)
def test_a_segment_holds_the_whole_elements_that_its_bytes_belong_to(layout: Layout, segment_bytes: int) -> None:
    body = body_of(layout, 0)
    whole = tensors_of(layout, body)
    for segment in segments(layout, segment_bytes):
        start, stop = segment.needs
        assert start <= segment.start < segment.stop <= stop
        assert segment.before < 8
        assert segment.after < 8
        blocks = segment.cut(body[start:stop])
        for piece, block in zip(segment.pieces, blocks, strict=True):
            assert block.tobytes() == whole[piece.tensor][piece.start : piece.stop].tobytes()
        first = blocks[0].itemsize
        assert segment.before < first


def test_bytes_that_are_not_those_of_the_segment_are_refused() -> None:
    segment = segments({"t": TensorLayout("F32", (9,))}, 16)[1]
    with pytest.raises(ValueError, match="15 bytes are not what is needed of bytes 16 to 32"):
        segment.cut(bytes(15))


# --- shared out -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,024 bytes, so that a small body has many of them."""

    def cut(layout: Layout) -> list[Segment]:
        return segments_module.segments(layout, 1024)

    monkeypatch.setattr(work_module, "segments", cut)


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", list(STORAGE))
@pytest.mark.parametrize("weights", [[1] * 5, [4, 1, 0, 2, 3]])
def test_no_bit_depends_on_how_segments_are_dealt(method: str, dtype: str, weights: list[int]) -> None:
    # Three bytes in front put every wider element across a boundary of segments.
    layout = {"a": TensorLayout("U8", (3,)), "b": TensorLayout(dtype, (1501,)), "c": TensorLayout("F32", (40, 8))}
    bodies = {f"sl-{index}": body_of(layout, index) for index in range(5)}
    weight_of = dict(zip(bodies, weights, strict=True))
    count = len(segments(layout, 1024))
    whole = in_one(method, layout, bodies, weight_of)
    assert in_one(method, layout, bodies, weight_of, threads=3) == whole
    order = list(range(count))
    for dealt in ([order], [order[::-1]], [order[::2], order[1::2]], [[index] for index in order]):
        assert in_parts(method, layout, bodies, weight_of, dealt) == whole


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None)
@given(layout=layouts, data=st.data())
def test_no_bit_depends_on_the_layout_or_the_deal(method: str, layout: Layout, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    bodies = {f"sl-{index}": body_of(layout, index) for index in range(len(weights))}
    order = data.draw(st.permutations(range(len(segments(layout, 1024)))))
    cut = data.draw(st.integers(0, len(order)))
    weight_of = dict(zip(bodies, weights, strict=True))
    assert in_parts(method, layout, bodies, weight_of, [order[:cut], order[cut:]]) == in_one(
        method, layout, bodies, weight_of
    )


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("method", ["geomedian", "krum"])
def test_a_shared_merge_measures_again_where_the_first_frame_does_not_do(method: str) -> None:
    layout = {"a": TensorLayout("U8", (3,)), "b": TensorLayout("F64", (700,))}
    for scale in (1e30, 1e300):
        bodies = {f"sl-{index}": body_of(layout, index) for index in range(5)}
        liar = tensors_of(layout, bodies["sl-0"])
        bodies["sl-0"] = liar["a"].tobytes() + (liar["b"] * scale).tobytes()
        weights = dict.fromkeys(bodies, 1)
        whole = in_one(method, layout, bodies, weights)
        assert in_parts(method, layout, bodies, weights, [[0, 2, 4], [5, 3, 1]]) == whole


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("weight", [0, 1])
def test_the_merger_of_the_segment_finds_what_is_not_finite(method: str, weight: int) -> None:
    layout = {"a": TensorLayout("U8", (3,)), "b": TensorLayout("F32", (700,))}
    bodies = {f"sl-{index}": bytearray(body_of(layout, index)) for index in range(4)}
    bodies["sl-2"][3 + 300 * 4 : 3 + 301 * 4] = np.float32(np.nan).tobytes()
    work = MergeJob(method, layout, {name: weight if name == "sl-2" else 1 for name in bodies})

    def blocks(segment: Segment) -> dict[str, list[np.ndarray]]:
        start, stop = segment.needs
        return {name: segment.cut(body[start:stop]) for name, body in bodies.items()}

    found = []
    for index, segment in enumerate(work.segments):
        if work.measures and weight:
            bad = work.measure(index, blocks(segment))[1]
        else:
            shares = (1 / 3, 1 / 3, 1 / 3) if work.measures else None
            bad = work.combine(index, blocks(segment), Plan(shares), memoryview(bytearray(segment.size)))
        found.append(bad)
    assert found == [(), (NonFinite("sl-2", "b"),), ()]


# --- what mergers must not send, and leaders must not ask for ---------------------------------------------------


def test_parts_that_no_merger_gives_are_refused() -> None:
    work = MergeJob("geomedian", {"t": TensorLayout("F32", (4,))}, {"sl-1": 1, "sl-2": 1})
    with pytest.raises(ValueError, match="shape"):
        work.settle([np.zeros((1, 1))])
    frame = work.settle([np.full((2, 2), np.nan)])
    assert isinstance(frame, Frame)
    with pytest.raises(ValueError, match="not finite"):
        work.settle([np.full((2, 2), np.nan)], frame)


def test_work_that_cannot_be_done_is_refused() -> None:
    layout = {"t": TensorLayout("F32", (4,))}
    for weights in ({}, {"sl-1": 0}, {"sl-1": 2, "sl-2": -1}):
        with pytest.raises(NothingToMerge):
            MergeJob("mean", layout, weights)
    with pytest.raises(LayoutDiffers, match="Tensor t has the dtype F8"):
        MergeJob("mean", {"t": TensorLayout("F8", (4,))}, {"sl-1": 1})
