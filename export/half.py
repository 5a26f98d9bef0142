"""From a float graph to one in half precision, for GPUs."""

from __future__ import annotations

from pathlib import Path

from twil.core.errors import ExportError, first_line, require


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
