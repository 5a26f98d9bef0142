"""From a float graph to one in 8 bits that is known to keep its labels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from twil.data.batching import Batch
from twil.data.labelled import LabelledColumns, LabelledSet, read_labelled
from twil.data.tables import TableReader
from twil.errors import ConfigError, DataError, ExportError
from twil.export.accuracy import Accuracy, EvaluationSet, Limits, make_batches, spread_out
from twil.export.calibrate import Range, find_ranges
from twil.export.quantise import products, tables, write_int8
from twil.predict.bundle import GRAPH, Bundle
from twil.predict.session import Session
from twil.storage import sha256
from twil.task import Task
from twil.text.tokenizer import encode, load_tokenizer

CALIBRATION_ROWS = 512
"""Texts that ranges are found on, drawn from the first `READ_ROWS` of a file."""
READ_ROWS = 20_000

_SENSITIVITY_BATCHES = 6


@dataclass(frozen=True)
class Int8Options:
    """What an int8 graph is made by and held to.

    Attributes:
        calibration: A file of texts like those that will be labelled; their labels are not needed.
        evaluation: A labelled file, not trained on.
        text: The column of the texts in both.
        label: The column of the labels.
        limits: What must be kept.
    """

    calibration: Path
    evaluation: Path
    text: str = "TEXT"
    label: str = "CLASS"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Int8Data:
    """The texts that `Int8Options` names.

    Attributes:
        calibration: Some texts of the one file.
        evaluation: The other, whole.
        files: Name and SHA-256 of both.
    """

    calibration: list[str]
    evaluation: LabelledSet
    files: dict[str, dict[str, str]]


def read_data(options: Int8Options, task: Task | None) -> Int8Data:
    """Read both files before any work.

    Raises:
        ConfigError: The model gives no labels by which an int8 graph can be checked.
        DataError: A file cannot be read, has no rows, or has a label that the model does not know.
    """
    if task is None or task.kind != "class" or task.pair:
        raise ConfigError(
            "int8 is checked by the labels of single texts, one each, and what is exported gives none: "
            "export it with --precision fp32"
        )
    evaluation = read_labelled(options.evaluation, LabelledColumns(options.text, None, options.label))
    evaluation.targets(task)
    texts = _read_texts(options.calibration, options.text)
    files = {"calibration": options.calibration, "evaluation": options.evaluation}
    records = {name: {"file": path.name, "sha256": sha256(path)} for name, path in files.items()}
    return Int8Data(texts, evaluation, records)


def make_int8(bundle: Bundle, data: Int8Data, limits: Limits, target: Path) -> dict[str, Any]:
    """Write the int8 graph of a classifier's float bundle.

    All products and large tables are in 8 bits at first. Where that loses too much, those whose rounding
    changes the logits most are left in fp32, more and more of them, up to half as many as there are products.

    Args:
        bundle: With the float graph, in one file.
        data: What to calibrate and to evaluate on.
        limits: What must be kept.
        target: The ONNX file to write.

    Returns:
        What was done and measured, for the manifest.

    Raises:
        ExportError: The limits cannot be kept.
    """
    work = _Work(bundle, data)
    attempts = list(work.attempts(limits, target))
    kept, accuracy = attempts[-1]
    if not accuracy.holds(limits):
        best = max((accuracy for _, accuracy in attempts), key=lambda found: (found.agreement, -found.drop))
        raise ExportError(
            f"in int8 the model does not keep its labels ({best.describe()}; at most {limits.max_drop:g} "
            f"points lost and at least {limits.min_agreement:g}% the same were asked for), not even with "
            f"{len(kept)} of {len(work.parts)} products and tables left in fp32: calibrate on texts more "
            "like those of the evaluation, ask for less (--max-drop, --min-agreement), or export with "
            "--precision fp32"
        )
    return {
        "products": len(work.inputs),
        "left_in_fp32": sorted(name for name in kept if name in work.inputs),
        "tables": len(work.tables),
        "tables_left_in_fp32": sorted(name for name in kept if name in work.tables),
        **accuracy.as_dict(),
        **data.files,
    }


class _Work:
    """The float graph, what of it can be in 8 bits, ranges, and the texts in batches.

    Attributes:
        inputs: The products by name, each with the tensor that it reads.
        tables: The lookups in large tables.
        parts: All of them by name.
    """

    def __init__(self, bundle: Bundle, data: Int8Data) -> None:
        assert bundle.manifest.task is not None
        self.bundle = bundle
        self.inputs = products(bundle.graph)
        self.tables = tables(bundle.graph)
        self.parts = [*self.inputs, *self.tables]
        self._fp32 = Session(bundle, provider="cpu")
        tokenizer = load_tokenizer(bundle.tokenizer)
        self._batches = [batch for _, batch in make_batches(encode(tokenizer, data.calibration))]
        tensors = list(dict.fromkeys(self.inputs.values()))
        self._ranges: Mapping[str, Range] = find_ranges(bundle.graph, tensors, self._batches)
        encoded = encode(tokenizer, data.evaluation.texts)
        self._evaluation = EvaluationSet(data.evaluation, encoded, bundle.manifest.task, self._fp32)

    def attempts(self, limits: Limits, target: Path) -> Iterator[tuple[Collection[str], Accuracy]]:
        """Write graphs, each with fewer products in 8 bits, until one keeps what it must."""
        kept: list[str] = []
        order: list[str] = []
        while True:
            write_int8(self.bundle.graph, target, self._ranges, set(self.parts) - set(kept))
            accuracy = self._evaluation.measure(self._open(target))
            yield kept, accuracy
            more = max(1, 2 * len(kept))
            if accuracy.holds(limits) or more > len(self.inputs) // 2:
                return
            order = order or self._by_sensitivity()
            kept = order[:more]

    def _by_sensitivity(self) -> list[str]:
        """Order the parts by how much the rounding of each alone changes the logits, the most first."""
        some = spread_out(self._batches, _SENSITIVITY_BATCHES)
        expected = [self._logits(self._fp32, batch) for batch in some]
        changes = {}
        for name in self.parts:
            with TemporaryDirectory(dir=self.bundle.folder) as folder:
                graph = Path(folder) / GRAPH
                write_int8(self.bundle.graph, graph, self._ranges, [name])
                session = self._open(graph)
                found = [self._logits(session, batch) for batch in some]
            differences = [np.abs(one - other).mean() for one, other in zip(found, expected, strict=True)]
            changes[name] = float(np.mean(differences))
        return sorted(changes, key=lambda name: -changes[name])

    def _open(self, graph: Path) -> Session:
        return Session(replace(self.bundle, folder=graph.parent), provider="cpu")

    @staticmethod
    def _logits(session: Session, batch: Batch) -> Any:
        return session.run(batch)["logits"]


def _read_texts(path: Path, column: str) -> list[str]:
    """Draw some texts of a file, the same ones each time."""
    texts: list[str] = []
    for rows in TableReader(path, [column]):
        texts += [text for text in rows.columns[column] if text.strip()]
        if len(texts) >= READ_ROWS:
            break
    if not texts:
        raise DataError("the file has no texts to calibrate on: name another (--calibration)", file=path)
    chosen = np.random.default_rng(0).permutation(len(texts))[:CALIBRATION_ROWS]
    return [texts[index] for index in chosen]
