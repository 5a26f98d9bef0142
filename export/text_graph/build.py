"""A graph that takes texts: the bundle's own graph, with its tokenizer as operators before it.

The operators are those of onnxruntime-extensions, and standard ones for the special tokens, the cut and
the padding.
"""

# B batch   T tokens   N tokens of all texts, in a row

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from twil.bundle.bundle import BATCH, INPUTS, SEQUENCE, Bundle
from twil.core.errors import ConfigError, require
from twil.core.task import Task
from twil.exporting.text_graph.steps import replacements
from twil.exporting.text_graph.vocabulary import sentencepiece_model
from twil.model.hub.model import HubModel
from twil.model.text_model import TextModel
from twil.text.tokenizer import CLS_ID, PAD_ID, SEP_ID

TEXT_GRAPH = "model.text.onnx"
TEXTS = "texts"
"""The graph's input, strings ``(batch,)``."""

_DOMAIN = "ai.onnx.contrib"
_IR_VERSION = 8


def check_texts(model: TextModel, task: Task | None) -> None:
    """Refuse a model of the transformers library, whose tokens are of other kinds, and a task of pairs.

    Raises:
        ConfigError: It is one.
    """
    if isinstance(model, HubModel):
        raise ConfigError(
            "--text-in is for the tokens of twil vocab, and a model of the transformers library has its own: "
            "leave it out"
        )
    if task is not None and task.pair:
        raise ConfigError("--text-in is for single texts, and this model reads pairs: leave it out")


class TextFront:
    """The part before the model: from strings to what the bundle's graph takes.

    Args:
        bundle: Whose tokenizer it is.

    Raises:
        ExportError: The tokenizer says something that has no translation.
        MissingExtraError: onnx or sentencepiece is not installed.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._onnx = require("onnx", purpose="--text-in")
        self._numbers = count()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        tokenizer = json.loads(bundle.tokenizer.read_text(encoding="utf-8"))
        tokens, bounds = self._cut(tokenizer)
        self._pad(tokens, bounds, bundle.manifest.max_length)

    def model(self) -> bytes:
        """Give it as a graph of its own."""
        helper, kind = self._onnx.helper, self._onnx.TensorProto.INT64
        outputs = [helper.make_tensor_value_info(name, kind, [BATCH, SEQUENCE]) for name in INPUTS]
        graph = helper.make_graph(self.nodes, "text", [self._input()], outputs, self.constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        return bytes(model.SerializeToString())

    def join(self, graph: Path, target: Path) -> None:
        """Write a bundle's graph with this before it. Weights that lie beside the graph stay there."""
        model = self._onnx.load(graph, load_external_data=False)
        behind = list(model.graph.node)
        for field in ("node", "input"):
            model.graph.ClearField(field)
        model.graph.input.append(self._input())
        model.graph.node.extend([*self.nodes, *behind])
        model.graph.initializer.extend(self.constants)
        model.opset_import.append(self._onnx.helper.make_opsetid(_DOMAIN, 1))
        target.write_bytes(model.SerializeToString())

    def _input(self) -> Any:
        return self._onnx.helper.make_tensor_value_info(TEXTS, self._onnx.TensorProto.STRING, [BATCH])

    def _cut(self, tokenizer: dict[str, Any]) -> tuple[str, str]:
        """Cut texts into tokens: all ids in a row (N), and where each text begins and ends (B + 1)."""
        text = TEXTS
        for pattern, rewrite in replacements(tokenizer):
            inputs = (text, self._strings(pattern), self._strings(rewrite))
            text = self._add("StringRegexReplace", *inputs, domain=_DOMAIN)
        no = self._constant(np.array([False]))
        unsampled = [self._constant(np.array([0], kind)) for kind in (np.int64, np.float32)]
        ids, bounds = self._name(), self._name()
        self.nodes.append(
            self._onnx.helper.make_node(
                "SentencepieceTokenizer",
                [text, *unsampled, no, no, no],
                [ids, bounds],
                domain=_DOMAIN,
                model=sentencepiece_model(tokenizer),
            )
        )
        return self._add("Cast", ids, to=self._onnx.TensorProto.INT64), bounds

    def _pad(self, tokens: str, bounds: str, max_length: int) -> None:
        """Put special tokens around rows, cut them at the longest row, and pad them on the right."""
        zero, one, two = (self._constant(np.array(number, np.int64)) for number in range(3))
        axis = self._constant(np.array([1], np.int64))
        none = self._constant(np.array([0], np.int64))
        room = self._constant(np.array(max_length - 2, np.int64))
        starts = self._add("Slice", bounds, none, self._constant(np.array([-1], np.int64)))  # (B)
        ends = self._add("Slice", bounds, axis, self._constant(np.array([2**31], np.int64)))  # (B)
        kept = self._add("Min", self._add("Sub", ends, starts), room)  # (B)
        longest = self._add("ReduceMax", self._add("Concat", none, kept, axis=0), keepdims=0)
        places = self._add("Range", zero, self._add("Add", longest, two), one)  # (T)
        starts, kept = (self._add("Unsqueeze", rows, axis) for rows in (starts, kept))  # (B, 1)
        # Places without a token read any other, and are overwritten below.
        index = self._add("Max", self._add("Sub", self._add("Add", starts, places), one), zero)  # (B, T)
        pads = self._constant(np.array([PAD_ID], np.int64))
        index = self._add("Min", index, self._add("Size", tokens))
        ids = self._add("Gather", self._add("Concat", tokens, pads, axis=0), index)  # (B, T)
        end = self._add("Add", kept, one)  # (B, 1)
        ids = self._where(self._add("Less", places, end), ids, PAD_ID)
        ids = self._where(self._add("Not", self._add("Equal", places, end)), ids, SEP_ID)
        ids = self._where(self._add("Greater", places, zero), ids, CLS_ID)
        self._add("Identity", ids, output=INPUTS[0])
        inside = self._add("LessOrEqual", places, end)  # (B, T)
        self._add("Cast", inside, to=self._onnx.TensorProto.INT64, output=INPUTS[1])
        self._add("Mul", INPUTS[1], zero, output=INPUTS[2])

    def _where(self, condition: str, then: str, otherwise: int) -> str:
        return self._add("Where", condition, then, self._constant(np.array(otherwise, np.int64)))

    def _add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or self._name()
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def _constant(self, value: np.ndarray[Any, Any]) -> str:
        name = self._name()
        self.constants.append(self._onnx.numpy_helper.from_array(value, name))
        return name

    def _strings(self, text: str) -> str:
        name = self._name()
        kind = self._onnx.TensorProto.STRING
        self.constants.append(self._onnx.helper.make_tensor(name, kind, [1], [text.encode()]))
        return name

    def _name(self) -> str:
        """Name a value as no other of the model is named."""
        return f"twil_text_{next(self._numbers)}"
