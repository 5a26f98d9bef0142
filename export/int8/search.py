"""From a float graph to one in 8 bits that is known to keep its labels, or its vectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from twil.bundle.bundle import Bundle
from twil.bundle.session import Session
from twil.core.errors import ExportError
from twil.data.batching import Batch, Int64Array, length_batches, pad_rows
from twil.exporting.int8.accuracy import Accuracy
from twil.exporting.int8.calibrate import Seen, Way, observe, round_rows
from twil.exporting.int8.guard import Closeness, Values, Verdict
from twil.exporting.int8.options import Int8Data
from twil.exporting.int8.rewrite import FloatGraph
from twil.text.tokenizer import Encoded, encode, load_tokenizer

BATCH_TOKENS = 512

_STEPS = 8
_TABLE_SAMPLE = 4096  # rows
_TIMED_BATCHES = 24
_ROUNDS = 3

T = TypeVar("T")


def make_int8(bundle: Bundle, data: Int8Data, target: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Write the int8 graph of a float bundle.

    All products and large tables are in 8 bits at first, with ranges that are fixed. Where that loses too
    much, the products whose fixed ranges round most find theirs for each token, as few of them as will do.
    Where even all of them lose too much, those that still round most are left in fp32, up to half of them.

    Args:
        bundle: With the float graph, in one file.
        data: What to calibrate on, and what to hold the graph to.
        target: The ONNX file to write.
        say: Told in a line what is being done.

    Returns:
        What was done and measured, for the manifest.

    Raises:
        ExportError: The limits cannot be kept.
    """
    work, guard = _Work(bundle, data, say), data.guard
    found = work.search(target)
    if not found.verdict.holds(guard.limits):
        best = max((attempt.verdict for attempt in work.tried), key=lambda verdict: verdict.rank)
        raise ExportError(
            f"in int8 the model does not keep its {guard.kept} ({best.describe()}; asked for was "
            f"{guard.asked}), not even with {len(work.parts) - len(found.ways)} of {len(work.parts)} "
            "products and tables left in fp32: calibrate on texts more like those of the evaluation, ask for "
            "less, or export with --precision fp32"
        )
    products, tables = work.graph.products, work.graph.tables
    say("measuring the speed of the int8 graph")
    return {
        "products": len(products),
        "by_token": sorted(name for name in products if found.ways.get(name) == "token"),
        "left_in_fp32": sorted(products.keys() - found.ways.keys()),
        "tables": len(tables),
        "tables_left_in_fp32": sorted(set(tables) - found.ways.keys()),
        **found.verdict.as_dict(),
        "speedup": work.speedup(target),
        **data.files,
    }


def read_verdict(report: Mapping[str, Any]) -> Verdict:
    """Read what became of labels or vectors from what `make_int8` returned."""
    kind: type[Accuracy] | type[Closeness] = Accuracy if "answers" in report else Closeness
    return kind(**{name: report[name] for name in kind.__dataclass_fields__})


@dataclass(frozen=True)
class _Attempt:
    """A graph that was written, and what became of what it must keep.

    Attributes:
        ways: Of all parts in 8 bits.
        verdict: On it.
    """

    ways: dict[str, Way]
    verdict: Verdict


class _Work:
    """The float graph, what of it can be in 8 bits, what its products read, and the texts in batches.

    Attributes:
        graph: The float graph.
        parts: What of it can be in 8 bits, by name.
        tried: All attempts so far.
    """

    def __init__(self, bundle: Bundle, data: Int8Data, say: Callable[[str], None]) -> None:
        self.graph = FloatGraph(bundle.graph)
        self.parts = [*self.graph.products, *self.graph.tables]
        self.tried: list[_Attempt] = []
        self._bundle, self._guard, self._say = bundle, data.guard, say
        self._fp32 = Session(bundle, provider="cpu")
        tokenizer, pad = load_tokenizer(bundle.tokenizer), bundle.manifest.pad_id
        batches = [batch for _, batch in _make_batches(encode(tokenizer, data.calibration), pad)]
        tensors = list(dict.fromkeys(self.graph.products.values()))
        say(f"finding the ranges of {len(tensors)} tensors on {len(data.calibration):,} texts")
        seen = observe(bundle.graph, tensors, batches)
        say(f"rounding the weights of {len(self.graph.products)} products")
        self._seen: Mapping[str, Seen] = self.graph.smooth(seen)
        self._rounded = self.graph.round_weights(self._seen)
        self._checked = _make_batches(encode(tokenizer, data.guard.items), pad)
        self._expected = self._compute(self._fp32)

    def search(self, target: Path) -> _Attempt:
        """Write the fastest graph found that keeps what it must, else the last one that was tried."""
        products, limits = list(self.graph.products), self._guard.limits
        found = self._attempt(target, self._ways())
        if found.verdict.holds(limits):
            return found
        coarse = sorted(products, key=lambda name: -self._error(name, "static"))
        found = self._attempt(target, self._ways(by_token=coarse))
        if found.verdict.holds(limits):
            return self._with_fewer(target, coarse, found)
        order = sorted(self.parts, key=lambda name: -self._error(name, "token"))
        left = 1
        while not found.verdict.holds(limits) and left <= len(products) // 2:
            found = self._attempt(target, self._ways(by_token=products, in_fp32=order[:left]))
            left *= 2
        return found

    def _with_fewer(self, target: Path, coarse: Sequence[str], all_by_token: _Attempt) -> _Attempt:
        """Look for the least number of products by token that will do, to an eighth of them all."""
        best, few, enough = all_by_token, 0, len(coarse)
        while enough - few > max(1, len(coarse) // _STEPS):
            middle = (few + enough) // 2
            found = self._attempt(target, self._ways(by_token=coarse[:middle]))
            if found.verdict.holds(self._guard.limits):
                best, enough = found, middle
            else:
                few = middle
        if best is not self.tried[-1]:
            self._write(target, best.ways)
        return best

    def _ways(self, *, by_token: Collection[str] = (), in_fp32: Collection[str] = ()) -> dict[str, Way]:
        """Give the ways of all parts but those in fp32."""
        return {name: "token" if name in by_token else "static" for name in self.parts if name not in in_fp32}

    def _attempt(self, target: Path, ways: dict[str, Way]) -> _Attempt:
        by_token = sum(way == "token" for way in ways.values())
        told = f"{by_token} of {len(self.graph.products)} products by token" if by_token else "fixed ranges"
        left = len(self.parts) - len(ways)
        self._say(f"trying int8 with {told}{f', {left} in fp32' if left else ''}")
        self._write(target, ways)
        verdict = self._guard.judge(self._expected, self._compute(self._open(target)))
        self.tried.append(_Attempt(ways, verdict))
        return self.tried[-1]

    def _write(self, target: Path, ways: Mapping[str, Way]) -> None:
        self.graph.write_int8(target, self._seen, self._rounded, ways)

    def _error(self, part: str, way: Way) -> float:
        """Tell how much of what a part gives is lost by rounding what it reads, as a share of its square."""
        weights = self.graph.weights(part)
        if part not in self.graph.products:  # a table, of which a sample will do
            rows = weights[:: max(1, len(weights) // _TABLE_SAMPLE)]
            return _share(round_rows(rows) - rows, rows)
        seen = self._seen[self.graph.products[part]]
        return _share(seen.lost(weights, way), seen.rows @ seen.met(weights))

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

    def _open(self, graph: Path) -> Session:
        return Session(replace(self._bundle, folder=graph.parent), provider="cpu")

    def _compute(self, session: Session) -> Values:
        """Give what a graph gives for the texts of the guard."""
        parts = [self._run(session, batch) for _, batch in self._checked]
        order = np.concatenate([rows for rows, _ in self._checked])
        return np.concatenate(parts)[np.argsort(order)]

    def _run(self, session: Session, batch: Batch) -> Values:
        return session.run(batch)[self._guard.output]


def _share(lost: NDArray[Any], whole: NDArray[Any]) -> float:
    return float(np.square(lost).sum() / max(float(np.square(whole).sum()), 1e-30))


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
