"""HDF5 files in the layouts in which Keras writes weights, made from the original's own tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

Layers = dict[str, dict[str, Any]]
"""By layer, in order, its tensors by their names."""

HEADS = ("rop", "mlm")


def read_layers(path: Path) -> Layers:
    """Read a file of `save_weights`."""
    with h5py.File(path) as file:
        return {
            layer.decode(): {
                name.decode(): np.asarray(file[layer][name]) for name in file[layer].attrs["weight_names"]
            }
            for layer in file.attrs["layer_names"]
        }


def write_layers(path: Path, layers: Mapping[str, Mapping[str, Any]], *, whole: bool = False) -> Path:
    """Write them as `save_weights` does or, for a `whole` model, as `save` does."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        root.attrs["layer_names"] = [layer.encode() for layer in layers]
        if whole:
            file.attrs["model_config"] = b"{}"
            file.create_group("optimizer_weights").attrs["weight_names"] = [b"iterations:0"]
            file["optimizer_weights/iterations:0"] = np.int64(3)
        for layer, tensors in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = np.array([name.encode() for name in tensors], dtype="S64")
            for name, tensor in tensors.items():
                group[name] = tensor
    return path


def finetuned(layers: Layers, kernel: Any, bias: Any) -> Layers:
    """Nest the encoder of a pretrained model as one layer, and put a classifier on it."""
    encoder: dict[str, Any] = {}
    for layer, tensors in layers.items():
        if layer not in HEADS:
            encoder |= tensors
    head = {"dense_1/kernel:0": kernel, "dense_1/bias:0": bias}
    return {"input_4": {}, "model_1": encoder, "dropout_1": {}, "dense_1": head}
