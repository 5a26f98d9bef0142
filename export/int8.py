"""From a float graph to one in 8 bits that is known to keep its labels, or its vectors."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np

from twil.data.batching import Batch, Int64Array, length_batches, pad_rows
from twil.errors import ExportError
from twil.export.accuracy import Accuracy
from twil.export.calibrate import Range, find_ranges
from twil.export.closeness import Closeness
from twil.export.guard import Values, Verdict
from twil.export.int8_data import Int8Data
from twil.export.quantise import FloatGraph
from twil.predict.bundle import GRAPH, Bundle
from twil.predict.session import Session
from twil.text.tokenizer import Encoded, encode, load_tokenizer

BATCH_TOKENS = 512

_SENSITIVITY_BATCHES = 6
_TIMED_BATCHES = 24
_ROUNDS = 3

T = TypeVar("T")


def make_int8(bundle: Bundle, data: Int8Data, target: Path) -> dict[str, Any]:
    """Write the int8 graph of a float bundle.

    All products and large tables are in 8 bits at first. Where that loses too much, those whose rounding
    changes the output most are left in fp32, more and more of them, up to half as many as there are products.

    Args:
        bundle: With the float graph, in one file.
        data: What to calibrate on, and what to hold the graph to.
        target: The ONNX file to write.

    Returns:
        What was done and measured, for the manifest.

    Raises:
        ExportError: The limits cannot be kept.
    """
    work, guard = _Work(bundle, data), data.guard
    attempts = list(work.attempts(target))
    kept, verdict = attempts[-1]
    if not verdict.holds(guard.limits):
        best = max((verdict for _, verdict in attempts), key=lambda verdict: verdict.rank)
        raise ExportError(
            f"in int8 the model does not keep its {guard.kept} ({best.describe()}; asked for was "
            f"{guard.asked}), not even with {len(kept)} of {len(work.parts)} products and tables left in "
            "fp32: calibrate on texts more like those of the evaluation, ask for less, or export with "
            "--precision fp32"
        )
    return {
        "products": len(work.graph.products),
        "left_in_fp32": sorted(name for name in kept if name in work.graph.products),
        "tables": len(work.graph.tables),
        "tables_left_in_fp32": sorted(name for name in kept if name in work.graph.tables),
        **verdict.as_dict(),
        "speedup": work.speedup(target),
        **data.files,
    }


def read_verdict(report: Mapping[str, Any]) -> Verdict:
    """Read what became of labels or vectors from what `make_int8` returned."""
    kind: type[Accuracy] | type[Closeness] = Accuracy if "agreement" in report else Closeness
    return kind(**{name: report[name] for name in kind.__dataclass_fields__})


class _Work:
    """The float graph, what of it can be in 8 bits, ranges, and the texts in batches.

    Attributes:
        graph: The float graph.
        parts: What of it can be in 8 bits, by name.
    """

    def __init__(self, bundle: Bundle, data: Int8Data) -> None:
        self.graph = FloatGraph(bundle.graph)
        self.parts = [*self.graph.products, *self.graph.tables]
        self._bundle, self._guard = bundle, data.guard
        self._fp32 = Session(bundle, provider="cpu")
        tokenizer, pad = load_tokenizer(bundle.tokenizer), bundle.manifest.pad_id
        self._seen = [batch for _, batch in _make_batches(encode(tokenizer, data.calibration), pad)]
        tensors = list(dict.fromkeys(self.graph.products.values()))
        self._ranges: Mapping[str, Range] = find_ranges(bundle.graph, tensors, self._seen)
        self._checked = _make_batches(encode(tokenizer, data.guard.items), pad)
        self._expected = self._compute(self._fp32)

    def attempts(self, target: Path) -> Iterator[tuple[Collection[str], Verdict]]:
        """Write graphs, each with fewer parts in 8 bits, until one keeps what it must."""
        kept: list[str] = []
        order: list[str] = []
        while True:
            self.graph.write_int8(target, self._ranges, set(self.parts) - set(kept))
            verdict = self._guard.judge(self._expected, self._compute(self._open(target)))
            yield kept, verdict
            more = max(1, 2 * len(kept))
            if verdict.holds(self._guard.limits) or more > len(self.graph.products) // 2:
                return
            order = order or self._by_sensitivity()
            kept = order[:more]

    def speedup(self, graph: Path) -> float:
        """Tell how many times as fast as the float graph it is on this machine, on some of the texts."""
        some = _spread_out(self._checked, _TIMED_BATCHES)
        times: dict[Session, list[float]] = {self._fp32: [], self._open(graph): []}
        for _ in range(_ROUNDS):
            for session, seconds in times.items():
                start = time.perf_counter()
                for _, batch in some:
                    session.run(batch)
                seconds.append(time.perf_counter() - start)
        fp32, int8 = map(median, times.values())
        return fp32 / int8

    def _by_sensitivity(self) -> list[str]:
        """Order the parts by how much the rounding of each alone changes the output, the most first."""
        some = _spread_out(self._seen, _SENSITIVITY_BATCHES)
        expected = [self._run(self._fp32, batch) for batch in some]
        changes = {}
        for name in self.parts:
            with TemporaryDirectory(dir=self._bundle.folder) as folder:
                graph = Path(folder) / GRAPH
                self.graph.write_int8(graph, self._ranges, [name])
                session = self._open(graph)
                found = [self._run(session, batch) for batch in some]
            differences = [np.abs(one - other).mean() for one, other in zip(found, expected, strict=True)]
            changes[name] = float(np.mean(differences))
        return sorted(changes, key=lambda name: -changes[name])

    def _open(self, graph: Path) -> Session:
        return Session(replace(self._bundle, folder=graph.parent), provider="cpu")

    def _compute(self, session: Session) -> Values:
        """Give what a graph gives for the texts of the guard."""
        parts = [self._run(session, batch) for _, batch in self._checked]
        order = np.concatenate([rows for rows, _ in self._checked])
        return np.concatenate(parts)[np.argsort(order)]

    def _run(self, session: Session, batch: Batch) -> Values:
        return session.run(batch)[self._guard.output]


def _spread_out(items: Sequence[T], count: int) -> Sequence[T]:
    """Choose up to `count` items from all over a sequence."""
    return items[:: -(-len(items) // count)]


def _make_batches(encoded: Encoded, pad_id: int) -> list[tuple[Int64Array, Batch]]:
    """Batch rows of like length, each with the numbers of its rows."""
    lengths = [len(ids) for ids in encoded.input_ids]
    return [
        (rows, pad_rows(encoded.input_ids, encoded.segment_ids, rows, pad_id=pad_id))
        for rows in length_batches(lengths, BATCH_TOKENS)
    ]
