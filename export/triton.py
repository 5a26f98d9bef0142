"""A model repository for NVIDIA's Triton Inference Server, from a bundle whose graph takes texts."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import onnx

from twil.bundle.bundle import open_bundle
from twil.core.errors import ExportError
from twil.core.storage import atomic_folder
from twil.exporting.text_graph.build import TEXT_GRAPH

CONFIG, LABELS = "config.pbtxt", "labels.txt"
LIBRARY = "/opt/tritonserver/libortextensions.so"
"""Where the server's image is to have the library of onnxruntime-extensions."""
_TYPES = {onnx.TensorProto.STRING: "TYPE_STRING", onnx.TensorProto.FLOAT: "TYPE_FP32"}


def write_repository(folder: str | Path, target: str | Path, *, overwrite: bool = False) -> Path:
    """Write a repository of one model, which takes texts and gives what the bundle gives.

    Args:
        folder: The bundle.
        target: The repository; its model is called after the bundle.
        overwrite: Replace such a repository.

    Returns:
        The folder of the model in it.

    Raises:
        ExportError: The bundle has no graph that takes texts.
        TwilError: `target` is taken, or nothing can be written there.
    """
    bundle = open_bundle(folder)
    if TEXT_GRAPH not in bundle.manifest.files:
        raise ExportError(f"{folder} has no graph that takes texts, which Triton runs: export with --text-in")
    name = model_name(Path(folder))
    task = bundle.manifest.task
    labels = task.labels if task is not None and task.kind != "regression" else ()
    graph = onnx.load(bundle.folder / TEXT_GRAPH, load_external_data=False).graph
    with atomic_folder(target, overwrite=overwrite, own=[name]) as repository:
        (repository / name / "1").mkdir(parents=True)
        shutil.copyfile(bundle.folder / TEXT_GRAPH, repository / name / "1" / "model.onnx")
        (repository / name / CONFIG).write_text(_config(name, graph, labels), encoding="utf-8")
        if labels:
            (repository / name / LABELS).write_text("\n".join([*labels, ""]), encoding="utf-8")
    return Path(target) / name


def model_name(folder: Path) -> str:
    """Call a model as Triton allows: letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", folder.resolve().name) or "model"


def _config(name: str, graph: onnx.GraphProto, labels: tuple[str, ...]) -> str:
    inputs = ",\n".join(_tensor(value) for value in graph.input)
    outputs = ",\n".join(_tensor(value, labels) for value in graph.output)
    return f"""# Written by twil export --triton. The image needs the library that is named at the end.
name: "{name}"
backend: "onnxruntime"
max_batch_size: 0
input [
{inputs}
]
output [
{outputs}
]
model_operations {{ op_library_filename: "{LIBRARY}" }}
"""


def _tensor(value: onnx.ValueInfoProto, labels: tuple[str, ...] = ()) -> str:
    kind = value.type.tensor_type
    dims = ", ".join(str(each.dim_value) if each.dim_value else "-1" for each in kind.shape.dim)
    named = f' label_filename: "{LABELS}"' if labels and value.name == "probabilities" else ""
    return f'  {{ name: "{value.name}" data_type: {_TYPES[kind.elem_type]} dims: [ {dims} ]{named} }}'
