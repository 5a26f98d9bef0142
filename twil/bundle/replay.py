"""Batches on a CUDA device whose shapes come again: bound to memory that stays, replayed as CUDA graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.bundle.bundle import BATCH, INPUTS, Manifest
from twil.core.errors import ProviderError, first_line

MAX_GRAPHS = 64
CHECKED_RUNS = 2
"""Runs of a graph with different texts whose values are compared with a plain run's, before it is trusted."""
TOLERANCE = 1e-3  # of the largest value
_LENGTH_STEP, _ROWS_STEP = 8, 8
_PLAIN = "-1"  # ONNX Runtime then neither captures nor replays

Feed = Mapping[str, NDArray[np.int64]]
Values = NDArray[np.float32]


class Replay:
    """Runs a graph as its ``InferenceSession`` does, with one launch for all its kernels where it can.

    Rows and lengths are rounded up to few shapes; what is added is pads and repeated rows, and is cut off
    again. A shape that comes a second time is captured, up to `MAX_GRAPHS` of them; all else runs plainly.
    One batch is computed at a time, and all on one thread: ONNX Runtime's graphs belong to a thread. After a
    fault nothing is answered any more.

    Args:
        runtime: ONNX Runtime.
        session: A session that was opened for CUDA graphs.
        manifest: Of the graph.
        device: Where its memory is, by ONNX Runtime's names.
    """

    def __init__(self, runtime: ModuleType, session: Any, manifest: Manifest, device: str = "cuda") -> None:
        self._runtime, self._session, self._manifest, self._device = runtime, session, manifest, device
        self._graphs: dict[tuple[int, int], _Graph] = {}
        self._seen: set[tuple[int, int]] = set()
        self._fault = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cuda-graphs")

    def run(self, names: Sequence[str], feed: Feed) -> list[Values]:
        """Compute outputs of the graph, by name.

        Raises:
            ProviderError: A shape cannot be captured, or its graph gives other values than a plain run.
        """
        return self._thread.submit(self._run, names, feed).result()

    def close(self) -> None:
        """Let the graphs go, once the batches that were asked for are done."""
        self._thread.submit(self._graphs.clear)
        self._thread.shutdown(wait=False)

    def _run(self, names: Sequence[str], feed: Feed) -> list[Values]:
        if self._fault:
            raise ProviderError(self._fault)
        rows, length = feed[INPUTS[0]].shape
        shape = rounded_shape(rows, length, self._manifest.max_length)
        if shape not in self._graphs and (shape not in self._seen or len(self._graphs) >= MAX_GRAPHS):
            self._seen.add(shape)
            return self._run_plainly(names, feed)
        values = self._replay(shape, self._pad(feed, shape))
        return [values[name][self._kept(name, rows, length)] for name in names]

    def _replay(self, shape: tuple[int, int], feed: Feed) -> dict[str, Values]:
        """Run a shape's graph, beside a plain run until it is trusted."""
        graph = self._graphs.get(shape)
        if graph is not None and graph.checked >= CHECKED_RUNS:
            return graph.run(feed)
        names = list(self._manifest.outputs)
        expected = dict(zip(names, self._run_plainly(names, feed), strict=True))
        if graph is None:
            number = len(self._graphs) + 1
            graph = _Graph(self._runtime, self._session, number, feed, expected, self._device)
            self._graphs[shape] = graph
        try:
            values = graph.run(feed)
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise self._give_up(shape, f"cannot be captured ({first_line(error)})") from error
        for name, plain in expected.items():
            tolerance = TOLERANCE * max(1.0, np.abs(plain).max())
            if not np.allclose(values[name], plain, rtol=0, atol=tolerance, equal_nan=True):
                raise self._give_up(shape, f"gives other {name} than a plain run")
        graph.count_check(feed)
        return values

    def _give_up(self, shape: tuple[int, int], fault: str) -> ProviderError:
        """Answer nothing any more, as other graphs may have the same fault."""
        rows, length = shape
        self._fault = f"the CUDA graph of {rows} rows of {length} tokens {fault}: run with --provider cuda"
        return ProviderError(self._fault)

    def _run_plainly(self, names: Sequence[str], feed: Feed) -> list[Values]:
        options = self._runtime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", _PLAIN)
        values: list[Values] = self._session.run(list(names), dict(feed), options)
        return values

    def _pad(self, feed: Feed, shape: tuple[int, int]) -> Feed:
        padded = {}
        for name, values in feed.items():
            rows, length = values.shape
            padded[name] = np.full(shape, self._manifest.pad_id if name == INPUTS[0] else 0, dtype=np.int64)
            padded[name][:rows, :length] = values
            padded[name][rows:, :length] = values[0]  # a row of nothing but pads has nothing to attend to
        return padded

    def _kept(self, name: str, rows: int, length: int) -> tuple[slice, ...]:
        axes = self._manifest.outputs[name]
        return tuple(slice(rows if axis == BATCH else length) for axis in axes)


class _Graph:
    """One captured shape: the memory that it reads and writes, and its number in ONNX Runtime."""

    def __init__(
        self,
        runtime: ModuleType,
        session: Any,
        number: int,
        inputs: Feed,
        outputs: Mapping[str, Values],
        device: str,
    ) -> None:
        def allocate(values: NDArray[Any]) -> Any:
            return runtime.OrtValue.ortvalue_from_numpy(values.copy(), device, 0)  # on a CPU it is no copy

        self.checked = 0
        self._first: Feed = {}
        self._session = session
        self._inputs = {name: allocate(values) for name, values in inputs.items()}
        self._outputs = {name: allocate(np.zeros_like(values)) for name, values in outputs.items()}
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._options = runtime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(number))

    def count_check(self, feed: Feed) -> None:
        """Count a run whose values were found right, unless it had the very texts of the first one."""
        if not self.checked or any(not np.array_equal(feed[name], self._first[name]) for name in feed):
            self._first = self._first or feed
            self.checked += 1

    def run(self, feed: Feed) -> dict[str, Values]:
        for name, values in feed.items():
            self._inputs[name].update_inplace(values)
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding, self._options)
        self._binding.synchronize_outputs()
        return {name: np.array(value.numpy()) for name, value in self._outputs.items()}


def rounded_shape(rows: int, length: int, max_length: int) -> tuple[int, int]:
    """Round a batch's shape up, so that few shapes come again and again."""
    longest = max(length, min(max_length, -(-length // _LENGTH_STEP) * _LENGTH_STEP))
    few = rows <= _ROWS_STEP
    return (1 << (rows - 1).bit_length() if few else -(-rows // _ROWS_STEP) * _ROWS_STEP), longest
