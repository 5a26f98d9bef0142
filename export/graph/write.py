"""The ONNX graph of a model: written by torch, then freed of what belongs to the machine that wrote it."""

# B batch   T tokens   D hidden   P pooled   L outputs   V vocabulary

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from twil.bundle.bundle import BATCH, INPUTS, SEQUENCE, TASK_KEY
from twil.config.model import Pooling
from twil.core.errors import ConfigError, ExportError, TwilError, first_line, require
from twil.core.task import Task
from twil.core.version import __version__
from twil.exporting.graph.optimise import DOMAIN, is_fused
from twil.model.heads import pool
from twil.model.hub.sentence import SentenceVectors
from twil.model.text_model import TextModel

OPSET = 17
"""LayerNormalization is one operator from here on; 20 makes one of GELU too, and ran no faster."""
OPSETS = range(17, 21)
"""What the exporter can write of those that suffice."""

SINGLE_FILE_LIMIT = 2_000_000_000
"""Bytes of weights up to which a graph is one file; protobuf ends at 2 GiB."""
WEIGHTS = "model.onnx.data"

VERSION_KEY = "twil.core.version"


RowPooling = Pooling | SentenceVectors
"""How a row's hidden states become its vector."""


class ClassifierGraph(nn.Module):
    """What a classifier's graph computes: logits, and what they mean for its kind of task."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model = model
        self.task: Task = model.task

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, segment_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map int64 ``(B, T)`` each to logits and `Task.probabilities`, both float ``(B, L)``."""
        logits = self.model(input_ids, attention_mask, segment_ids)  # (B, L)
        if self.task.kind == "regression":
            return logits, logits.clone()  # an output of its own
        scaled = logits if self.task.temperature == 1 else logits / self.task.temperature
        return logits, scaled.softmax(dim=-1) if self.task.kind == "class" else scaled.sigmoid()


class EncoderGraph(nn.Module):
    """What a bare encoder's graph computes: a vector for every token, and one for the row."""

    task = None

    def __init__(self, model: TextModel, pooling: RowPooling) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, segment_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map int64 ``(B, T)`` each to hidden states float ``(B, T, D)`` and their pool ``(B, P)``."""
        hidden = self.model.encode(input_ids, attention_mask, segment_ids)
        if isinstance(self.pooling, SentenceVectors):
            return hidden, self.pooling(hidden, attention_mask)
        return hidden, pool(hidden, attention_mask, self.pooling)


class FillMaskGraph(nn.Module):
    """What a masked language model's graph computes: for every token, how likely each token is there."""

    task = None

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, segment_ids: Tensor) -> tuple[Tensor]:
        """Map int64 ``(B, T)`` each to logits over the vocabulary float ``(B, T, V)``."""
        return (self.model.mlm_logits(self.model.encode(input_ids, attention_mask, segment_ids)),)


ModelGraph = ClassifierGraph | EncoderGraph | FillMaskGraph


def write_graph(
    module: ModelGraph,
    path: Path,
    *,
    outputs: Mapping[str, tuple[str, ...]],
    max_length: int,
    opset: int = OPSET,
) -> None:
    """Write a module as ONNX, the same bytes for the same weights.

    Args:
        module: What to write. It is put in evaluation mode and stays there.
        path: The file; weights of more than `SINGLE_FILE_LIMIT` bytes lie beside it in `WEIGHTS`.
        outputs: Names of what the module gives, each with the names of its dynamic axes.
        max_length: The longest row that the encoder takes.
        opset: The ONNX operator set.

    Raises:
        ConfigError: The exporter does not write this operator set, or the model bears no fused operators.
        ExportError: Torch cannot write the module.
        MissingExtraError: onnx is not installed.
    """
    onnx = require("onnx", purpose="export")
    if opset not in OPSETS:
        raise ConfigError(f"opset {opset} cannot be written: choose one of {OPSETS[0]} to {OPSETS[-1]}")
    # Above 2 GiB torch writes one file per tensor, so what it writes is gathered here.
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        written = Path(scratch) / path.name
        _trace(module.eval(), written, outputs, dummy_shape(module.model, max_length), opset)
        graph = onnx.load(written)
    _strip(graph)
    onnx.helper.set_model_props(graph, _metadata(module))
    _save(graph, path)


def dummy_shape(model: TextModel, max_length: int) -> tuple[int, int]:
    """Choose batch and length to trace with, such that neither can be taken for a size of the model.

    Both are at least 2 and equal to no size of the model; where there is a choice, they divide none, so
    that no product of sizes is taken for a product of axes.
    """
    constants = _integers(model.description) | {
        size for tensor in model.state_dict().values() for size in tensor.shape
    }

    def fitness(size: int) -> tuple[bool, bool, int]:
        return size in constants, any(constant % size == 0 for constant in constants), size

    length = min(range(2, max_length + 1), key=fitness)  # first, as it has the smaller choice
    batch = min((size for size in range(2, 100) if size != length), key=fitness)
    return batch, length


def _trace(
    module: nn.Module,
    path: Path,
    outputs: Mapping[str, tuple[str, ...]],
    shape: tuple[int, int],
    opset: int,
) -> None:
    ids = torch.ones(shape, dtype=torch.int64)
    dummy = (ids, ids.clone(), torch.zeros_like(ids))
    axes = dict.fromkeys(INPUTS, (BATCH, SEQUENCE)) | dict(outputs)
    try:
        with _quiet(), torch.no_grad():
            # The older exporter by choice: both give these models exactly, with dynamic axes, but it is 3 to
            # 20 times as quick, its graphs run no slower, and it needs no onnxscript. The newer one also
            # writes source paths and stack traces into every node.
            torch.onnx.export(
                module,
                dummy,
                str(path),  # above 2 GiB only a path given as str will do
                dynamo=False,
                opset_version=opset,
                input_names=list(INPUTS),
                output_names=list(outputs),
                # Folded, the transpose of shared embeddings would lie in the file beside themselves.
                do_constant_folding=not _has_tied_head(module),
                custom_opsets={DOMAIN: 1} if is_fused(module) else None,
                dynamic_axes={name: dict(enumerate(names)) for name, names in axes.items()},
            )
    except (TwilError, MemoryError):  # the model's own word, or what no other torch mends
        raise
    except Exception as error:  # whatever the exporter meets
        raise ExportError(
            f"torch {torch.__version__} cannot export this model ({first_line(error)}): "
            "install the versions of constraints.txt, or report it with the model's config.json"
        ) from error


def _has_tied_head(module: nn.Module) -> bool:
    return isinstance(module, FillMaskGraph) and module.model.ties_mlm


def _strip(graph: Any) -> None:
    """Remove notes of the exporter, which may hold source paths and would differ between machines."""
    for part in (graph, graph.graph, *graph.graph.node):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _metadata(module: ModelGraph) -> dict[str, str]:
    """Describe the model in the graph itself, for who has nothing but that file."""
    metadata = {VERSION_KEY: __version__, **module.model.architecture.to_metadata()}
    if module.task:
        metadata[TASK_KEY] = json.dumps(module.task.as_dict(), ensure_ascii=False, sort_keys=True)
    return metadata


def _save(graph: Any, path: Path) -> None:
    onnx = require("onnx", purpose="export")
    size = sum(len(tensor.raw_data) for tensor in graph.graph.initializer)
    beside = size > SINGLE_FILE_LIMIT
    onnx.save_model(graph, path, save_as_external_data=beside, all_tensors_to_one_file=True, location=WEIGHTS)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter from the user's terminal; what goes wrong is raised."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _integers(description: Mapping[str, Any]) -> set[int]:
    """Collect the sizes that a description names."""
    found: set[int] = set()
    ahead: list[Any] = [description]
    while ahead:
        value = ahead.pop()
        if isinstance(value, Mapping):
            ahead += value.values()
        elif isinstance(value, list | tuple):
            ahead += value
        elif isinstance(value, int) and value > 1:  # neither flags nor the 0 that every number divides
            found.add(value)
    return found
