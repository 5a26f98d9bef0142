"""Small bundles made by hand: an embedding, the mean over a row's tokens, one dense layer.

The classifier is the smallest one whose answer depends on every token, on the segments and on the
mask, so that a fault in padding, order or feed shows in its numbers. No torch is needed.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from twil.bundle.bundle import GRAPH, INPUTS, TOKENIZER, Manifest
from twil.core.storage import sha256
from twil.core.task import Task
from twil.text.preparation import NONE, PREPARATIONS, put_preparation
from twil.text.tokenizer import PAD_ID, SPECIAL, UNK, frame, save_tokenizer

POLARITY = Task("class", ("NEG", "NEU", "POS"))
LETTERS = string.ascii_letters + string.digits + "áéíóúüñÁÉÍÓÚÜÑ¡!¿?.,:;@#/_-&'\"()😀😂❤🔥"
TOKENS = (*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS))
HIDDEN = 8

Change = Callable[[onnx.ModelProto], object]


def write_bundle(
    folder: Path,
    task: Task | None = POLARITY,
    *,
    max_length: int = 32,
    seed: int = 0,
    change: Change | None = None,
    graph_bytes: Callable[[bytes], bytes] = bytes,
    files: Mapping[str, bytes] | None = None,
    preparation: str = NONE,
) -> Path:
    """Write a bundle; without a task, an encoder's.

    Args:
        folder: Where to; made.
        task: What the classifier is asked.
        max_length: Where rows are cut.
        seed: Of the weights.
        change: What to do to the graph before it is written.
        graph_bytes: What to do to its bytes.
        files: More files, which the manifest names as well.
        preparation: Of texts.
    """
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer(max_length)
    put_preparation(tokenizer, preparation)
    save_tokenizer(tokenizer, folder / TOKENIZER)
    graph = make_graph(task, seed)
    if change:
        change(graph)
    (folder / GRAPH).write_bytes(graph_bytes(graph.SerializeToString()))
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    write_manifest(folder, task, max_length, preparation)
    return folder


def write_manifest(folder: Path, task: Task | None, max_length: int, preparation: str = NONE) -> None:
    """Write the manifest of the files that are in `folder`."""
    Manifest(
        kind="classifier" if task else "encoder",
        max_length=max_length,
        pad_id=PAD_ID,
        precision="fp32",
        pooling="mean",
        task=task,
        files={file.name: sha256(file) for file in folder.iterdir() if file.name != "bundle.json"},
        preparation={} if preparation == NONE else PREPARATIONS[preparation].record,
    ).write(folder)


def make_tokenizer(max_length: int) -> Tokenizer:
    """Make a tokenizer whose tokens are single letters."""
    vocabulary = {token: index for index, token in enumerate(TOKENS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNK, max_input_chars_per_word=1000))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    frame(tokenizer, max_length)
    return tokenizer


def make_graph(task: Task | None, seed: int = 0) -> onnx.ModelProto:
    """Make the graph of a classifier, or without a task of an encoder."""
    random = np.random.default_rng(seed)
    weights = {
        "tokens": random.normal(size=(len(TOKENS), HIDDEN)),
        "segments": random.normal(size=(2, HIDDEN)),
        "axis": np.array([2]),
    }
    nodes = [
        helper.make_node("Gather", ["tokens", "input_ids"], ["embedded"]),
        helper.make_node("Gather", ["segments", "segment_ids"], ["segment_vectors"]),
        helper.make_node("Mul", ["embedded", "segment_vectors"], ["token_vectors"]),  # (B, T, D)
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axis"], ["column_mask"]),
        helper.make_node("Mul", ["token_vectors", "column_mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "one"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["column_mask", "one"], ["count"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["pooled"]),  # (B, D)
    ]
    weights["one"] = np.array([1])
    if task is None:
        outputs = [
            _output("token_vectors", ["batch", "sequence", HIDDEN]),
            _output("pooled", ["batch", HIDDEN]),
        ]
    else:
        weights |= {
            "kernel": 4 * random.normal(size=(HIDDEN, task.outputs)),
            "bias": random.normal(size=task.outputs),
        }
        activation = {"class": "Softmax", "multi-label": "Sigmoid", "regression": "Identity"}[task.kind]
        nodes += [
            helper.make_node("Gemm", ["pooled", "kernel", "bias"], ["logits"]),
            helper.make_node(activation, ["logits"], ["probabilities"]),
        ]
        outputs = [_output(name, ["batch", task.outputs]) for name in ("logits", "probabilities")]
    graph = helper.make_graph(
        nodes,
        "mean_of_embeddings",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in INPUTS],
        outputs,
        [numpy_helper.from_array(_standard(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def expected_logits(
    bundle_seed: int, task: Task, rows: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> np.ndarray:
    """Compute the classifier's logits row by row in float64, from token and segment ids without pads."""
    weights = {w.name: numpy_helper.to_array(w) for w in make_graph(task, bundle_seed).graph.initializer}
    vectors = [
        (weights["tokens"][list(ids)].astype(float) * weights["segments"][list(segments)]).mean(axis=0)
        for ids, segments in rows
    ]
    return np.stack(vectors) @ weights["kernel"] + weights["bias"]


def _output(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _standard(value: np.ndarray) -> np.ndarray:
    return value.astype(np.int64 if value.dtype.kind == "i" else np.float32)
