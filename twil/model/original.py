"""Import weights of the original TWilBERT from the HDF5 files that Keras wrote.

Names in these files carry counters of the session that wrote them, so tensors are matched by position
(`layer_names` × `weight_names`) and every shape is checked. A file is read as data only: links, and
storage outside it, are refused, and the pickled or serialised parts are never opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from twil.config.model import EncoderConfig, ModelConfig
from twil.config.original.tasks import BITS
from twil.config.original.weights import OriginalConfig, read_original
from twil.core.errors import ConfigError, ModelError, require
from twil.model.twilbert import TWilBERT
from twil.text.tokenizer import original_tokenizer, set_max_length

DEFAULT_LENGTH = 131  # two texts of 64 tokens and three special ones
NOTES = (
    "the spare last row of the token embedding, which no token uses, is left out",
    "in texts, named letters (&ntilde;) stay as written, unlike in the original; [MASK] is mere punctuation",
)
TOKEN_EMBEDDING = "encoder.embeddings.token.weight"


@dataclass(frozen=True)
class Imported:
    """A model that came from original weights.

    Attributes:
        model: The model, float32, in evaluation mode.
        tokenizer: The `original` flavour of its vocabulary.
        tensors: How many tensors the file holds.
        notes: What differs from the original, for the user to read.
    """

    model: TWilBERT
    tokenizer: Tokenizer
    tensors: int
    notes: tuple[str, ...]


def import_original(weights: str | Path, config: str | Path, vocabulary: str | Path) -> Imported:
    """Read original weights into a model.

    Args:
        weights: An HDF5 file of `save_weights` or `save`, of a pretrained or a fine-tuned model.
        config: The original's JSON configuration of that model.
        vocabulary: The original's `vocab` file, one token per line.

    Raises:
        ModelError: The file cannot be read, or does not fit the configuration; what is missing, left
            over or of another shape is named.
        ConfigError: The configuration cannot be read.
    """
    weights = Path(weights)
    tokenizer = original_tokenizer(vocabulary, max_length=DEFAULT_LENGTH)
    original = read_original(config, vocab_size=tokenizer.get_vocab_size())
    if not original.preprocess:
        tokenizer = original_tokenizer(vocabulary, max_length=DEFAULT_LENGTH, preprocess=False)
    set_max_length(tokenizer, original.max_length)
    layers = read_keras(weights)
    shape = _model_config(original, layers, source=weights)
    with torch.random.fork_rng(devices=[]):  # a run that starts here draws what it would from the folder
        model = TWilBERT(shape)
    tensors = [(name, tensor) for layer in layers for name, tensor in layer]
    fill(model, tensors, source=weights)
    _scale_queries(model, original.query_scale)
    return Imported(model.eval(), tokenizer, len(tensors), (*original.notes, *NOTES))


def fill(model: TWilBERT, tensors: list[tuple[str, NDArray[np.float32]]], *, source: Path) -> None:
    """Copy Keras tensors, in the file's order, into a model.

    Raises:
        ModelError: A tensor is missing, left over, or of another shape.
    """
    with torch.no_grad():
        slots = list(keras_order(dict(model.named_parameters()), model.config))
        for (role, slot), (name, tensor) in zip(slots, tensors, strict=False):
            if role == TOKEN_EMBEDDING:
                # TWilBERT: one row more than there are tokens; no text ever reads it.
                tensor = tensor[: slot.shape[0]] if tensor.shape[0] == slot.shape[0] + 1 else tensor
            if tensor.shape != tuple(slot.shape):
                raise ModelError(
                    f"{source}: the tensor {name} is {tensor.shape}, and {role} is {tuple(slot.shape)}: "
                    "the configuration is that of another model"
                )
            slot.copy_(torch.from_numpy(tensor))
    if len(tensors) < len(slots):
        missing = ", ".join(role for role, _ in slots[len(tensors) :][:5])
        raise ModelError(f"{source} ends after {len(tensors)} of {len(slots)} tensors; missing: {missing}")
    if len(tensors) > len(slots):
        left = ", ".join(name for name, _ in tensors[len(slots) :][:5])
        raise ModelError(f"{source} has {len(tensors)} tensors, the model {len(slots)}; left over: {left}")


def keras_order(tensors: Mapping[str, Tensor], config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """Give views of a model's tensors in the order and the shapes in which Keras stores them.

    Args:
        tensors: Parameters, or their gradients, by parameter name.
        config: The model's shape.

    Yields:
        The role of each and a view that writes through.
    """
    encoder = config.encoder
    for table in ("token", "position", "segment"):
        name = f"encoder.embeddings.{table}.weight"
        yield name, tensors[name]
    if encoder.embedding_size:
        yield from _dense(tensors, "encoder.embeddings.projection")
    blocks = sorted({int(name.split(".")[2]) for name in tensors if name.startswith("encoder.blocks.")})
    for block in blocks:
        yield from _block(tensors, f"encoder.blocks.{block}", encoder)
    if config.classifier:
        yield from _dense(tensors, "classifier.output")
    if config.rop:
        for layer in range(config.rop.n_hidden):
            yield from _dense(tensors, f"rop.hidden.{layer}")
            yield from _norm(tensors, f"rop.norms.{layer}")
        yield from _dense(tensors, "rop.output")
    if config.mlm:
        yield from _dense(tensors, "mlm")


def _block(tensors: Mapping[str, Tensor], name: str, encoder: EncoderConfig) -> Iterator[tuple[str, Tensor]]:
    has_memory = f"{name}.memory.keys" in tensors
    if not has_memory:
        yield from _dense(tensors, f"{name}.feed_forward.up")
        yield from _dense(tensors, f"{name}.feed_forward.down")
    yield f"{name}.attention.output", tensors[f"{name}.attention.output.weight"].T
    # One matrix holds all heads' queries, then all keys, then all values.
    mixed = tensors[f"{name}.attention.query_key_value.weight"]  # (3·H·K, D)
    heads = mixed.view(3, encoder.n_heads, encoder.head_size, -1)
    for head in range(encoder.n_heads):
        for index, part in enumerate(("query", "key", "value")):
            yield f"{name}.attention.{part}.{head}", heads[index, head].T  # (D, K)
    if has_memory and encoder.memory:
        yield from _memory(tensors, f"{name}.memory", encoder.memory.n_heads)
    yield from _norm(tensors, f"{name}.attention_norm")
    yield from _norm(tensors, f"{name}.output_norm")


def _memory(tensors: Mapping[str, Tensor], name: str, n_heads: int) -> Iterator[tuple[str, Tensor]]:
    kernels = tensors[f"{name}.query.weight"].chunk(n_heads)
    biases = tensors[f"{name}.query.bias"].chunk(n_heads)
    for head, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        yield f"{name}.query.{head}.weight", kernel.T
        yield f"{name}.query.{head}.bias", bias
    yield f"{name}.values", tensors[f"{name}.values"]
    yield f"{name}.keys", tensors[f"{name}.keys"]


def _dense(tensors: Mapping[str, Tensor], name: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", tensors[f"{name}.weight"].T  # Keras stores (in, out)
    yield f"{name}.bias", tensors[f"{name}.bias"]


def _norm(tensors: Mapping[str, Tensor], name: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", tensors[f"{name}.weight"]
    yield f"{name}.bias", tensors[f"{name}.bias"]


def _model_config(original: OriginalConfig, layers: list[KerasLayer], *, source: Path) -> ModelConfig:
    """Choose the heads: a fine-tuned file has the encoder as one nested layer, and one dense layer."""
    if len(layers) != 2:
        return original.model
    if original.classifier is None:
        raise ConfigError(
            f"{source} is a fine-tuned model, and its labels stand in the configuration of the fine-tuning "
            "(sections task and finetuning): give that file with --config"
        )
    head, task = original.classifier
    if (
        task.kind == "multi-label" and task.labels == BITS
    ):  # labels without names, as many as there are outputs
        outputs = len(layers[1][-1][1])
        task = replace(task, labels=tuple(str(number) for number in range(1, outputs + 1)))
    return ModelConfig(encoder=original.model.encoder, classifier=head, task=task)


def _scale_queries(model: TWilBERT, scale: float) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".memory.query." in name:
                parameter.mul_(scale)


KerasLayer = list[tuple[str, NDArray[np.float32]]]


def read_keras(path: Path) -> list[KerasLayer]:
    """Read the layers of a Keras HDF5 file that have weights, in the file's own order.

    Args:
        path: A file of `save_weights` or `save` (whose weights lie under `model_weights`).

    Returns:
        For each layer its tensors with their names.

    Raises:
        ModelError: It is absent, truncated, no Keras file, or leads to another file.
    """
    h5py = require("h5py", purpose="reading HDF5 weights")
    if not path.is_file():
        raise ModelError(f"there is no file {path}")
    try:
        with h5py.File(path, "r") as file:
            whole = file.id.links.exists(b"model_weights")  # asks for the link, and follows none
            root = _local(file, "model_weights", path, h5py) if whole else file
            layers = []
            for layer in _names(root, "layer_names", path):
                group = _local(root, layer, path, h5py)
                names = _names(group, "weight_names", path)
                layers.append([(name, _tensor(group, name, path, h5py)) for name in names])
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as HDF5 weights ({error}): fetch it again") from error
    return [layer for layer in layers if layer]


def _names(group: Any, key: str, path: Path) -> list[str]:
    if key in group.attrs:
        values = list(group.attrs[key])
    else:  # Keras cuts a list that is too long for one attribute into numbered ones
        count = sum(1 for name in group.attrs if name.startswith(key) and name[len(key) :].isdigit())
        values = [value for index in range(count) for value in group.attrs[f"{key}{index}"]]
        if not count:
            raise ModelError(f"{path} has no {key}: it is no weights file of Keras")
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _local(group: Any, name: str, path: Path, h5py: Any) -> Any:
    """Open `name` in `group`, refusing links on the way: even one within the file may lead to another."""
    found = group
    for part in name.split("/"):
        if not isinstance(found, h5py.Group):
            raise ModelError(f"{path}: {name} is no group or tensor: it is no weights file of Keras")
        # `Group.get` would already open what a link leads to.
        if found.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise ModelError(f"{path}: {name} is a link, and may lead to another file: do not trust it")
        found = found[part]
    return found


def _tensor(group: Any, name: str, path: Path, h5py: Any) -> NDArray[np.float32]:
    dataset = _local(group, name, path, h5py)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "f":
        raise ModelError(f"{path}: {name} is no tensor of floating-point numbers")
    if dataset.external or dataset.is_virtual:
        raise ModelError(f"{path}: {name} is stored in another file: do not trust it")
    return np.asarray(dataset, dtype=np.float32)
