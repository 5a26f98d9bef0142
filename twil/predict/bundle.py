"""The bundle: a folder with everything that prediction needs, and nothing of torch.

It holds `model.onnx`, `tokenizer.json` and `bundle.json`, the manifest: what the graph computes, its
limits, how it was checked, and the SHA-256 of every other file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from twil.errors import ConfigError, ModelError
from twil.storage import sha256, write_json
from twil.task import Task

FORMAT = 1
MANIFEST, GRAPH, TOKENIZER = "bundle.json", "model.onnx", "tokenizer.json"

BATCH, SEQUENCE = "batch", "sequence"
INPUTS = ("input_ids", "attention_mask", "segment_ids")
"""The graph's inputs, int64 ``(batch, sequence)``: export and the runtime's feed both use this tuple."""
CLASSIFIER_OUTPUTS: dict[str, tuple[str, ...]] = {"logits": (BATCH,), "probabilities": (BATCH,)}
"""float32 ``(batch, labels)`` each."""
ENCODER_OUTPUTS: dict[str, tuple[str, ...]] = {"token_vectors": (BATCH, SEQUENCE), "pooled": (BATCH,)}
"""float32 ``(batch, sequence, hidden)`` and ``(batch, pooled)``."""


@dataclass(frozen=True)
class Manifest:
    """What `bundle.json` says.

    Attributes:
        kind: What the graph gives: `CLASSIFIER_OUTPUTS` or `ENCODER_OUTPUTS`.
        max_length: The longest row in pieces, special ones included.
        pad_id: The piece to pad with.
        precision: The graph's arithmetic.
        pooling: How rows become vectors.
        task: What a classifier is asked.
        files: SHA-256 of every other file of the folder, by name.
        parity: How far the graph was from the model, and on what it was compared.
        versions: The versions of the libraries that wrote it.
        opset: The ONNX operator set.
        format: Version of this layout.
    """

    kind: Literal["classifier", "encoder"]
    max_length: int
    pad_id: int
    precision: Literal["fp32"]
    pooling: str
    task: Task | None
    files: dict[str, str]
    parity: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    opset: int = 0
    format: int = FORMAT

    @property
    def outputs(self) -> dict[str, tuple[str, ...]]:
        """The graph's outputs and the names of their dynamic axes."""
        return CLASSIFIER_OUTPUTS if self.kind == "classifier" else ENCODER_OUTPUTS

    def write(self, folder: Path) -> None:
        """Write `bundle.json` into `folder`."""
        task = self.task.as_dict() if self.task else None
        write_json(folder / MANIFEST, asdict(self) | {"task": task})


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are those that its manifest names."""

    folder: Path
    manifest: Manifest

    @property
    def graph(self) -> Path:
        """The ONNX file."""
        return self.folder / GRAPH

    @property
    def tokenizer(self) -> Path:
        """The tokenizer."""
        return self.folder / TOKENIZER


def is_bundle(path: str | Path) -> bool:
    """Tell whether `path` looks like a bundle."""
    return (Path(path) / MANIFEST).is_file()


def open_bundle(path: str | Path) -> Bundle:
    """Read a bundle's manifest and check every file against it.

    Raises:
        ModelError: It is no bundle, it was written by a newer twil, or a file is missing or changed.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ModelError(
            f"there is no bundle folder {folder}: make one with twil export MODEL --onnx -o {folder}"
        )
    if not is_bundle(folder):
        raise ModelError(f"{folder} is no bundle (it has no {MANIFEST}): make one with twil export --onnx")
    manifest = _read_manifest(folder / MANIFEST)
    for name in (GRAPH, TOKENIZER):
        if name not in manifest.files:
            raise ModelError(f"{folder / MANIFEST} does not name {name}: export the model again")
    for name, expected in manifest.files.items():
        _check_file(folder, name, expected)
    return Bundle(folder, manifest)


def _read_manifest(path: Path) -> Manifest:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise ModelError(
                f"{path} has format {value['format']}, and this twil reads {FORMAT}: update twil"
            )
        task = value.pop("task")
        return Manifest(task=Task.from_dict(task) if task else None, **value)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ConfigError) as error:
        raise ModelError(f"{path} cannot be read as a manifest ({error}): export the model again") from error


def _check_file(folder: Path, name: str, expected: str) -> None:
    if Path(name).name != name:
        raise ModelError(
            f"{folder / MANIFEST} names the file '{name}' outside its folder: do not use this bundle"
        )
    if not (folder / name).is_file():
        raise ModelError(f"{folder} lacks its file {name}: copy the whole folder, or export the model again")
    if sha256(folder / name) != expected:
        raise ModelError(
            f"{folder / name} is not the file that was exported (its SHA-256 differs): "
            "copy the folder again, or export the model again"
        )
