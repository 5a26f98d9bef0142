"""Graphs in fewer bits: half precision is written here, and both are held to what the float graph gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twil.bundle.bundle import INPUTS, SEQUENCE, Bundle
from twil.core.errors import ExportError, first_line, require
from twil.data.batching import Batch
from twil.exporting.probes import SEED, probe_batches
from twil.exporting.verify import check_repeatable, check_structure, open_exported, rejected, run_exported

ROUNDING = 0.02
"""The largest difference that a batch may make to a row in int8, as a part of its largest value where that is
more than 1: sums in float32 differ a little, which turns a value at the edge of two numbers of 8 bits."""

HALF = 0.02
"""The largest difference that half precision may make to an output, as a part of its largest value."""


def check_int8(bundle: Bundle, *, vocab_size: int) -> None:
    """Check that an int8 graph runs at every shape, gives numbers, and gives a row the same in any batch.

    Raises:
        ExportError: It does not.
    """
    check_structure(bundle)
    session = open_exported(bundle)
    for batch in probe_batches(bundle, np.random.default_rng(SEED), vocab_size=vocab_size):
        check_repeatable(session, batch)
        row, length = len(batch.input_ids) - 1, int(batch.attention_mask[-1].sum())
        alone = run_exported(session, Batch(*(getattr(batch, name)[row:, :length] for name in INPUTS)))
        for name, values in run_exported(session, batch).items():
            if not np.isfinite(values).all():
                raise rejected(f"its {name} are not finite")
            of_row = values[row:, :length] if SEQUENCE in bundle.manifest.outputs[name] else values[row:]
            difference = float(np.abs(alone[name] - of_row).max())
            if difference > ROUNDING * max(1.0, float(np.abs(of_row).max())):
                raise rejected(f"what it says of a row changes by {difference:.2g} with the rows beside it")


def check_fp16(bundle: Bundle, fp32: Bundle, *, vocab_size: int) -> dict[str, Any]:
    """Hold a graph in half precision to the float graph that it was made of, at every shape.

    Returns:
        The largest difference by output, as a part of the output's largest value, and the rows compared.

    Raises:
        ExportError: It gives what is no number, or differs by more than `HALF`.
    """
    check_structure(bundle)
    half, whole = open_exported(bundle), open_exported(fp32)
    differences = dict.fromkeys(bundle.manifest.outputs, 0.0)
    rows = 0
    for batch in probe_batches(bundle, np.random.default_rng(SEED), vocab_size=vocab_size):
        found, expected = run_exported(half, batch), run_exported(whole, batch)
        rows += len(batch.input_ids)
        for name, values in found.items():
            if not np.isfinite(values).all():
                raise rejected(f"its {name} are not finite in half precision: export it in fp32")
            largest = max(float(np.abs(expected[name]).max()), 1e-6)
            difference = float(np.abs(values - expected[name]).max()) / largest
            differences[name] = max(differences[name], difference)
    _check_half(differences)
    return {"difference": differences, "rows": rows}


def _check_half(differences: Mapping[str, float]) -> None:
    for name, difference in differences.items():
        if difference > HALF:
            raise rejected(
                f"its {name} differ by {difference:.1%} of the largest in half precision, and {HALF:.0%} is "
                "allowed: export it in fp32"
            )


def write_fp16(graph: Path, target: Path) -> None:
    """Write a float graph in half precision; its inputs and outputs keep their types.

    Args:
        graph: The float graph, in one file.
        target: Where to.

    Raises:
        ExportError: ONNX Runtime's converter cannot do it.
        MissingExtraError: onnx or ONNX Runtime is not installed.
    """
    onnx = require("onnx", purpose="export")
    converter = require("onnxruntime.transformers.float16", purpose="export in half precision")
    try:
        half = converter.convert_float_to_float16(
            onnx.load(graph), keep_io_types=True, disable_shape_infer=True
        )
    except Exception as error:  # whatever the converter meets
        raise ExportError(
            f"the graph cannot be made one in half precision ({first_line(error)}): export it in fp32"
        ) from error
    onnx.save_model(half, target)
