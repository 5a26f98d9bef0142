"""CUDA graphs: the shapes, the memory that stays, the checks. ONNX Runtime's CPU, which has no graphs of its
own, runs the bound memory each time anew, so that all but the capture itself is seen here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
import onnxruntime
import pytest
from bundles import write_bundle

from twil.bundle import replay
from twil.bundle.bundle import INPUTS, Manifest, open_bundle
from twil.bundle.replay import CHECKED_RUNS, MAX_GRAPHS, Replay, rounded_shape
from twil.core.errors import ProviderError
from twil.data.batching import Batch, pad_batch


class Recorded:
    """A session that notes what it is asked, and may answer a bound run as a stale graph would."""

    def __init__(self, graph: Path) -> None:
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.plain: list[tuple[int, ...]] = []
        self.numbers: list[str] = []
        self.stale = False
        self.threads: set[int] = set()

    def run(self, names: list[str], feed: dict[str, Any], options: Any) -> list[Any]:
        assert options.get_run_config_entry("gpu_graph_id") == "-1"
        self.plain.append(feed["input_ids"].shape)
        return self.session.run(names, feed, options)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.threads.add(get_ident())
        self.numbers.append(options.get_run_config_entry("gpu_graph_id"))
        if not self.stale:
            self.session.run_with_iobinding(binding, options)

    def io_binding(self) -> Any:
        return self.session.io_binding()


@pytest.fixture(params=["classifier", "encoder"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Recorded, Manifest]:
    task = {} if request.param == "classifier" else {"task": None}
    bundle = open_bundle(write_bundle(tmp_path / "bundle", **task))
    return Recorded(bundle.graph), bundle.manifest


def make_batch(rows: int, length: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    lengths = [length, *rng.integers(1, length + 1, rows - 1)]
    return pad_batch([[int(token) for token in rng.integers(5, 60, one)] for one in lengths])


def run(replayed: Replay, manifest: Manifest, batch: Batch) -> dict[str, Any]:
    names = list(manifest.outputs)
    feed = {name: getattr(batch, name) for name in INPUTS}
    return dict(zip(names, replayed.run(names, feed), strict=True))


def check(recorded: Recorded, manifest: Manifest, batch: Batch, values: dict[str, Any]) -> None:
    names = list(manifest.outputs)
    expected = recorded.session.run(names, {name: getattr(batch, name) for name in INPUTS})
    for name, plain in zip(names, expected, strict=True):
        assert values[name].shape == plain.shape
        real = (
            batch.attention_mask.astype(bool) if values[name].shape[1:2] == batch.input_ids.shape[1:] else ...
        )
        np.testing.assert_allclose(values[name][real], plain[real], atol=1e-5)


def test_every_batch_has_its_own_values_however_often_shapes_come(opened: tuple[Recorded, Manifest]) -> None:
    recorded, manifest = opened
    replayed = Replay(onnxruntime, recorded, manifest, "cpu")
    rng = np.random.default_rng(1)
    for seed in range(80):
        batch = make_batch(int(rng.integers(1, 12)), int(rng.integers(1, 33)), seed)
        check(recorded, manifest, batch, run(replayed, manifest, batch))
    assert len(set(recorded.numbers)) > 5
    assert len(recorded.numbers) > 2 * len(set(recorded.numbers))


def test_a_shape_is_captured_when_it_comes_again_and_checked_before_it_is_trusted(
    opened: tuple[Recorded, Manifest],
) -> None:
    recorded, manifest = opened
    replayed = Replay(onnxruntime, recorded, manifest, "cpu")
    run(replayed, manifest, make_batch(3, 5))
    assert (recorded.plain, recorded.numbers) == ([(3, 5)], [])
    for seed in range(5):
        run(replayed, manifest, make_batch(4, 7, seed))
    assert recorded.plain[1:] == [(4, 8)] * CHECKED_RUNS
    assert recorded.numbers == ["1"] * 5
    run(replayed, manifest, make_batch(1, 7))
    run(replayed, manifest, make_batch(1, 2))
    assert recorded.numbers[5:] == ["2"]


def test_values_do_not_change_when_the_next_batch_comes(opened: tuple[Recorded, Manifest]) -> None:
    recorded, manifest = opened
    replayed = Replay(onnxruntime, recorded, manifest, "cpu")
    batches = [make_batch(2, 8, seed) for seed in range(4)]
    values = [run(replayed, manifest, batch) for batch in batches]
    for batch, given in zip(batches, values, strict=True):
        check(recorded, manifest, batch, given)


@pytest.mark.parametrize("stale_from", [1, 2])
def test_a_graph_that_does_not_read_what_it_is_given_is_an_error(
    opened: tuple[Recorded, Manifest], stale_from: int
) -> None:
    recorded, manifest = opened
    replayed = Replay(onnxruntime, recorded, manifest, "cpu")
    for seed in range(stale_from):
        run(replayed, manifest, make_batch(2, 8, seed))
    recorded.stale = True
    for seed in range(9, 13):
        with pytest.raises(
            ProviderError, match=r"2 rows of 8 tokens gives other .*: run with --provider cuda"
        ):
            run(replayed, manifest, make_batch(2, 8, seed))


def test_the_same_texts_again_are_no_second_check(opened: tuple[Recorded, Manifest]) -> None:
    recorded, manifest = opened
    replayed = Replay(onnxruntime, recorded, manifest, "cpu")
    for _ in range(6):
        run(replayed, manifest, make_batch(2, 8, 0))
    recorded.stale = True
    with pytest.raises(ProviderError, match="gives other"):
        run(replayed, manifest, make_batch(2, 8, 1))


def test_a_shape_that_cannot_be_captured_is_said_to_be_that(
    opened: tuple[Recorded, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, manifest = opened
    replayed = Replay(onnxruntime, recorded, manifest, "cpu")

    def refuse(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(recorded, "run_with_iobinding", refuse)
    run(replayed, manifest, make_batch(2, 8, 0))
    with pytest.raises(ProviderError, match=r"cannot be captured .*stream is capturing\): run with"):
        run(replayed, manifest, make_batch(2, 8, 1))
    with pytest.raises(ProviderError, match="cannot be captured"):
        run(replayed, manifest, make_batch(5, 30))


def test_beyond_so_many_graphs_shapes_run_plainly(
    opened: tuple[Recorded, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, manifest = opened
    monkeypatch.setattr(replay, "MAX_GRAPHS", 2)
    replayed = Replay(onnxruntime, recorded, manifest, "cpu")
    for length in (8, 16, 24, 32) * 3:
        batch = make_batch(2, length)
        check(recorded, manifest, batch, run(replayed, manifest, batch))
    assert set(recorded.numbers) == {"1", "2"}
    assert recorded.plain.count((2, 32)) == 3


def test_threads_take_turns(opened: tuple[Recorded, Manifest]) -> None:
    recorded, manifest = opened
    replayed = Replay(onnxruntime, recorded, manifest, "cpu")
    batches = [make_batch(2, 8 + seed % 2, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda batch: run(replayed, manifest, batch), batches))
    for batch, given in zip(batches, values, strict=True):
        check(recorded, manifest, batch, given)
    assert len(recorded.threads) == 1  # a thread's graphs are its own in ONNX Runtime


def test_shapes_are_few_and_never_smaller_or_longer_than_the_model_reads() -> None:
    shapes = {}
    for length in range(1, 129):
        for rows in range(1, 65):
            shape = shapes[rows, length] = rounded_shape(rows, length, 100)
            assert shape[0] >= rows
            assert length <= shape[1] <= max(100, length)
            assert shape[0] < rows + 8
    assert rounded_shape(5, 3, 100) == (8, 8)
    assert rounded_shape(17, 97, 100) == (24, 100)
    assert len({shape for (rows, length), shape in shapes.items() if rows == 1 and length <= 100}) == 13


def test_the_limit_leaves_room_for_every_length_of_a_batch_of_one() -> None:
    assert len({rounded_shape(1, length, 512) for length in range(1, 513)}) <= MAX_GRAPHS
