"""A float graph with its matrix products in 8 bits: weights per column, inputs in one of two ways.

- `static`: by a range that was seen on real texts and is fixed when the graph is written. It is the faster
  way, and the coarser one where some tokens hold much larger numbers than others, as in pretrained encoders.
- `token`: each token by its own largest number, found while the graph runs (Yao et al. 2022, ZeroQuant).

In both, what a row returns does not depend on the rows beside it, as it does where each batch finds its own
ranges. Inputs may be divided by channel first (`smooth`), and weights are rounded on what they meet
(`weights`). Large tables that are looked up, as embeddings are, are held in 8 bits as well, each row by its
largest.
"""

# D inputs of a product   N its outputs   R rows of a table   S tokens

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twil.core.errors import require
from twil.exporting.int8.calibrate import SMALLEST_STEP, ReadRange, Seen, TokenRange, Way, largest_steps
from twil.exporting.int8.smooth import smooth
from twil.exporting.int8.weights import RoundedWeights, round_weights

TABLE_ROWS = 1000
"""From how many rows a table is worth holding in 8 bits."""

_AXES_ARE_INPUTS = 18  # from this operator set on


class FloatGraph:
    """A float graph in memory, and what of it can be in 8 bits.

    Args:
        path: Its ONNX file, with all weights in it.

    Attributes:
        products: The products with constant weights: the name of each, and of the tensor that it reads.
        tables: The lookups in large tables by name.
    """

    def __init__(self, path: Path) -> None:
        self._onnx = require("onnx", purpose="export")
        self._model = self._onnx.load(path)
        graph, float32 = self._model.graph, self._onnx.TensorProto.FLOAT
        constants = {tensor.name for tensor in graph.initializer}
        large = {
            tensor.name
            for tensor in graph.initializer
            if tensor.data_type == float32 and len(tensor.dims) == 2 and tensor.dims[0] >= TABLE_ROWS
        }
        self.products: dict[str, str] = {
            node.name: node.input[0]
            for node in graph.node
            if node.op_type == "MatMul" and node.input[1] in constants
        }
        self.tables: list[str] = [
            node.name for node in graph.node if node.op_type == "Gather" and node.input[0] in large
        ]
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._read = {
            node.name: node.input[1 if node.op_type == "MatMul" else 0]
            for node in graph.node
            if node.name in self.products or node.name in self.tables
        }

    def weights(self, part: str) -> NDArray[np.float32]:
        """Read the weights ``(D, N)`` of a product, or a table ``(R, D)``."""
        weights: NDArray[np.float32] = self._onnx.numpy_helper.to_array(self._constants[self._read[part]])
        return weights

    def round_weights(self, seen: Mapping[str, Seen]) -> dict[str, RoundedWeights]:
        """Round the weights of all products, by their names, on what the tensors held that they meet."""
        weights, grams = {}, dict[str, NDArray[np.float32]]()
        for product, tensor in self.products.items():
            name = self._read[product]
            weights[name] = seen[tensor].met(self.weights(product))
            grams[name] = grams.get(name, np.float32(0)) + seen[tensor].gram
        return {name: round_weights(weights[name], gram) for name, gram in grams.items()}

    def smooth(self, seen: Mapping[str, Seen]) -> dict[str, Seen]:
        """Divide what tensors held where that is worth it and no other tensor meets the same weights."""
        met: dict[str, set[str]] = {}
        for product, tensor in self.products.items():
            met.setdefault(self._read[product], set()).add(tensor)
        shared = set[str]().union(*(tensors for tensors in met.values() if len(tensors) > 1))
        weights: dict[str, list[NDArray[np.float32]]] = {}
        for product, tensor in self.products.items():
            weights.setdefault(tensor, []).append(self.weights(product))
        return {name: held if name in shared else smooth(held, weights[name]) for name, held in seen.items()}

    def write_int8(
        self,
        target: Path,
        seen: Mapping[str, Seen],
        rounded: Mapping[str, RoundedWeights],
        ways: Mapping[str, Way],
    ) -> None:
        """Write the graph with some of its products and tables in 8 bits.

        Products stand between QuantizeLinear and DequantizeLinear, which are standard operators; a runtime
        makes one integer product of each. Of a table, the rows that are looked up become float again.

        Args:
            target: Where to.
            seen: What the tensors held that products read in 8 bits.
            rounded: The weights of these products, as `round_weights` gives them.
            ways: Of the products and the lookups by name; what is not among them stays in fp32.
        """
        model = self._onnx.ModelProto()
        model.CopyFrom(self._model)
        rewriting = _Rewriting(self._onnx, model, rounded)
        for node in list(model.graph.node):
            way = ways.get(node.name)
            if way is None:
                rewriting.nodes.append(node)
            elif node.op_type == "Gather":
                rewriting.look_up(node)
            else:
                held = seen[node.input[0]]
                if held.is_divided:
                    node.input[0] = rewriting.divide(node.input[0], held.divisors)
                if way == "static":
                    node.input[0] = rewriting.quantise_input(node.input[0], held.range)
                    node.input[1] = rewriting.quantise_weights(node.input[1])
                    rewriting.nodes.append(node)
                else:
                    rewriting.multiply_tokens(node, held.token_range)
        rewriting.finish()
        self._onnx.save_model(model, target)


class _Rewriting:
    """The nodes of a graph that is made anew, in order."""

    def __init__(self, onnx: Any, model: Any, rounded: Mapping[str, RoundedWeights]) -> None:
        self._onnx, self._graph, self._rounded = onnx, model.graph, rounded
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._known: dict[str, str] = {}
        self._axes_are_inputs = any(
            not used.domain and used.version >= _AXES_ARE_INPUTS for used in model.opset_import
        )
        self.nodes: list[Any] = []

    def divide(self, name: str, divisors: NDArray[np.float32]) -> str:
        """Divide a tensor's channels, once for all products that read it, and name what comes out."""
        factors = f"{name}.factors"
        if factors not in self._known:
            self._node("Mul", [name, self._once(factors, 1 / divisors)], f"{name}.divided")
        return f"{name}.divided"

    def quantise_input(self, name: str, values: ReadRange) -> str:
        """Round a tensor to 8 bits, once for all products that read it, and name what is left of it."""
        if name not in self._known:
            scale = self._constant(f"{name}.scale", np.array(values.scale, np.float32))
            zero = self._constant(f"{name}.zero", np.array(values.zero_point, np.uint8))
            self._node("QuantizeLinear", [name, scale, zero], f"{name}.uint8")
            self._node("DequantizeLinear", [f"{name}.uint8", scale, zero], f"{name}.rounded")
            self._known[name] = f"{name}.rounded"
        return self._known[name]

    def multiply_tokens(self, node: Any, values: TokenRange) -> None:
        """Put a product of tokens, each in steps of its own, in the place of a node."""
        tokens, output = node.input[0], node.output[0]
        node.input[0] = self._quantise_tokens(tokens, values)
        node.input[1] = self.quantise_weights(node.input[1])
        node.output[0] = f"{output}.steps"
        self.nodes.append(node)
        self._node("Mul", [node.output[0], f"{tokens}.step"], output)

    def _quantise_tokens(self, name: str, values: TokenRange) -> str:
        """Round a tensor, each token in steps of its own, and name what is left of it, in steps."""
        rounded = f"{name}.steps"
        if rounded not in self._known:
            zero = values.zero_point
            constants = {
                f"above.{zero}": np.array(1 / values.above, np.float32),
                f"below.{zero}": np.array(-1 / zero, np.float32),
                "least": np.array(SMALLEST_STEP, np.float32),
                "one": np.array(1, np.float32),
                f"zero.{zero}": np.array(zero, np.uint8),
            }
            above, below, least, one, middle = (
                self._once(f"int8.{title}", value) for title, value in constants.items()
            )
            for operator, share in (("ReduceMax", above), ("ReduceMin", below)):
                self._reduce(operator, name, f"{name}.{operator}")
                self._node("Mul", [f"{name}.{operator}", share], f"{name}.{operator}.step")
            self._node("Max", [f"{name}.ReduceMax.step", f"{name}.ReduceMin.step", least], f"{name}.step")
            self._node("Reciprocal", [f"{name}.step"], f"{name}.inverse")
            self._node("Mul", [name, f"{name}.inverse"], f"{name}.scaled")
            self._node("QuantizeLinear", [f"{name}.scaled", one, middle], f"{name}.token.uint8")
            self._node("DequantizeLinear", [f"{name}.token.uint8", one, middle], rounded)
            self._known[rounded] = rounded
        return rounded

    def _reduce(self, operator: str, name: str, output: str) -> None:
        """Reduce a tensor over its last dimension."""
        if self._axes_are_inputs:
            last = self._once("int8.last", np.array([-1], np.int64))
            self._node(operator, [name, last], output, keepdims=1)
        else:
            self._node(operator, [name], output, axes=[-1], keepdims=1)

    def look_up(self, node: Any) -> None:
        """Put a lookup in a table ``(R, D)`` of 8 bits in the place of a node; each row has its own step."""
        name, ids = node.input
        if name not in self._known:
            table = self._onnx.numpy_helper.to_array(self._weights[name])
            steps = largest_steps(table, axis=1)  # (R, 1)
            self._constant(f"{name}.int8", np.round(table / steps).astype(np.int8))
            self._constant(f"{name}.step", steps.astype(np.float32))
            self._known[name] = name
        output = node.output[0]
        self._node("Gather", [f"{name}.int8", ids], f"{output}.int8", axis=0)
        self._node("Cast", [f"{output}.int8"], f"{output}.float", to=self._onnx.TensorProto.FLOAT)
        self._node("Gather", [f"{name}.step", ids], f"{output}.step", axis=0)
        self._node("Mul", [f"{output}.float", f"{output}.step"], output)

    def quantise_weights(self, name: str) -> str:
        """Put weights in 8 bits in the place of others, and name what is left of them."""
        if name not in self._known:
            numbers, steps = self._rounded[name]
            inputs = [
                self._constant(f"{name}.int8", numbers),
                self._constant(f"{name}.scale", steps),
                self._constant(f"{name}.zero", np.zeros(len(steps), np.int8)),
            ]
            self._node("DequantizeLinear", inputs, f"{name}.rounded", axis=1)
            self._known[name] = f"{name}.rounded"
        return self._known[name]

    def finish(self) -> None:
        """Put the nodes into the graph, and leave out the weights that none reads any more."""
        del self._graph.node[:]
        self._graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        node = self._onnx.helper.make_node(operator, inputs, [output], name=output, **attributes)
        self.nodes.append(node)

    def _once(self, name: str, value: Any) -> str:
        if name not in self._known:
            self._known[name] = self._constant(name, value)
        return name

    def _constant(self, name: str, value: Any) -> str:
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(value, name))
        return name
