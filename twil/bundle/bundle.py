"""The bundle: a folder with everything that prediction needs, and nothing of torch.

It holds `model.onnx`, `tokenizer.json` and `bundle.json`, the manifest: what the graph computes, its
limits, how it was checked, the SHA-256 of every other file, and one of what it says itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from twil.core.errors import ConfigError, ModelError
from twil.core.storage import LFS_POINTER, is_lfs_pointer, sha256, write_json
from twil.core.task import Task

FORMAT, PREPARED_FORMAT = 1, 2
"""Of bundles that take texts as they are, and of those that name a preparation. A twil that knows of no
preparations refuses the latter: it would give other labels."""
CHECKSUM = "manifest_sha256"
"""The field of the manifest with the SHA-256 of its other fields."""
TASK_KEY = "twil.core.task"
"""Where a graph's metadata hold its task as JSON."""
MANIFEST, GRAPH, TOKENIZER = "bundle.json", "model.onnx", "tokenizer.json"

BATCH, SEQUENCE = "batch", "sequence"
INPUTS = ("input_ids", "attention_mask", "segment_ids")
"""The graph's inputs, int64 ``(batch, sequence)``: export and the runtime's feed both use this tuple."""
CLASSIFIER_OUTPUTS: dict[str, tuple[str, ...]] = {"logits": (BATCH,), "probabilities": (BATCH,)}
"""float32 ``(batch, labels)`` each."""
POOLED, TOKENS = "pooled", "token_vectors"
ENCODER_OUTPUTS: dict[str, tuple[str, ...]] = {TOKENS: (BATCH, SEQUENCE), POOLED: (BATCH,)}
"""float32 ``(batch, sequence, hidden)`` and ``(batch, pooled)``."""
FILL_MASK_OUTPUTS: dict[str, tuple[str, ...]] = {"logits": (BATCH, SEQUENCE)}
"""float32 ``(batch, sequence, vocabulary)``."""

Kind = Literal["classifier", "encoder", "fill-mask"]
OUTPUTS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "classifier": CLASSIFIER_OUTPUTS,
    "encoder": ENCODER_OUTPUTS,
    "fill-mask": FILL_MASK_OUTPUTS,
}
"""What each kind of graph gives: names, and those of their dynamic axes."""


@dataclass(frozen=True)
class Manifest:
    """What `bundle.json` says.

    Attributes:
        kind: What the graph gives, see `OUTPUTS`.
        max_length: The longest row in tokens, special ones included.
        pad_id: The token to pad with.
        precision: The graph's arithmetic; in int8, that of its matrix products but for those left in fp32.
        pooling: How rows become vectors; empty where they do not.
        task: What a classifier is asked.
        files: SHA-256 of every other file of the folder, by name.
        parity: How far the graph (of fp16 and int8: the float graph that it was made of) was from the model,
            and on what it was compared.
        optimized: Whether the graph holds operators of ONNX Runtime besides standard ones.
        operators: How many of each ONNX Runtime made of the graph on a CPU.
        fp16: How far half precision is from the float graph; empty for others.
        int8: What became of labels or vectors in 8 bits, and on which texts; empty for others.
        versions: The versions of the libraries that wrote it.
        opset: The ONNX operator set.
        preparation: Name and version of what is done to texts first; empty where nothing is.
    """

    kind: Kind
    max_length: int
    pad_id: int
    precision: Literal["fp32", "fp16", "int8"]
    pooling: str
    task: Task | None
    files: dict[str, str]
    parity: dict[str, Any] = field(default_factory=dict)
    optimized: bool = False
    operators: dict[str, int] = field(default_factory=dict)
    fp16: dict[str, Any] = field(default_factory=dict)
    int8: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    opset: int = 0
    preparation: dict[str, Any] = field(default_factory=dict)

    @property
    def format(self) -> int:
        """Version of the layout of `bundle.json`."""
        return PREPARED_FORMAT if self.preparation else FORMAT

    @property
    def outputs(self) -> dict[str, tuple[str, ...]]:
        """The graph's outputs and the names of their dynamic axes."""
        return OUTPUTS[self.kind]

    def write(self, folder: Path) -> None:
        """Write `bundle.json`, with its own checksum, into `folder`."""
        fields = asdict(self) | {"task": self.task.as_dict() if self.task else None, "format": self.format}
        if not self.preparation:
            del fields["preparation"]
        write_json(folder / MANIFEST, fields | {CHECKSUM: _checksum(fields)})


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
        ModelError: It is no bundle, it was written by a newer twil, its manifest is damaged, or a file is
            missing or changed.
    """
    with opening_bundle(path) as bundle:
        return bundle


@contextmanager
def opening_bundle(path: str | Path) -> Iterator[Bundle]:
    """Give a bundle whose files a thread checks meanwhile; at its end the block waits until they are.

    Reading all of a large graph takes as long as loading it. What is wrong with a file is raised in place of
    what it led to in the block.

    Raises:
        ModelError: As `open_bundle`.
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
    for name in manifest.files:  # before any is opened, as a pipe would be for ever
        _check_place(folder, name)
    with ThreadPoolExecutor(1, thread_name_prefix="check") as pool:
        checks = [pool.submit(_check_file, folder, *file) for file in manifest.files.items()]
        try:
            yield Bundle(folder, manifest)
        finally:
            for check in checks:
                check.result()


def _read_manifest(path: Path) -> Manifest:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and value.get("format", FORMAT) not in (FORMAT, PREPARED_FORMAT):
            raise ModelError(
                f"{path} has format {value['format']}, and this twil reads {FORMAT} and {PREPARED_FORMAT}: "
                "update twil"
            )
        return _parse_manifest(value)
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        raise ModelError(f"{path} cannot be read as a manifest ({error}): export the model again") from error


def _parse_manifest(value: Any) -> Manifest:
    """Make a manifest of what was read, once its fields, their types and their checksum are right.

    Raises:
        ValueError: They are not.
        ConfigError: Its task is none.
    """
    fields = _FIELDS
    if isinstance(value, dict) and value.get("format") == PREPARED_FORMAT:
        fields = _FIELDS | _PREPARED_FIELDS
    if not isinstance(value, dict) or value.keys() != fields.keys():
        raise ValueError(f"it has not exactly the fields {', '.join(fields)}")
    for name, (wanted, fits) in fields.items():
        if not fits(value[name]):
            raise ValueError(f"{name} is not {wanted}")
    if (value["kind"] == "classifier") != (value["task"] is not None):
        raise ValueError("a classifier has a task, and an encoder has none, nor has what fills masks")
    task = None if value["task"] is None else Task.from_dict(value["task"])
    if value.pop(CHECKSUM) != _checksum(value):
        raise ValueError("it was changed after the export: its checksum differs")
    del value["format"]
    return Manifest(**value | {"task": task})


def _checksum(fields: Mapping[str, Any]) -> str:
    """Return the SHA-256 of fields, however a file lays them out."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_object_of_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(cell, str) for cell in value.values())


# By hand, as pydantic would take longer to import than the rest of prediction's own code.
_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "kind": (f"one of {', '.join(get_args(Kind))}", lambda value: value in get_args(Kind)),
    "max_length": ("a positive integer", lambda value: type(value) is int and value > 0),
    "pad_id": ("an integer from 0", lambda value: type(value) is int and value >= 0),
    "precision": ("fp32, fp16 or int8", lambda value: value in ("fp32", "fp16", "int8")),
    "pooling": ("a text", _is_text),
    "task": ("an object or null", lambda value: value is None or _is_object(value)),
    "files": ("an object of texts", _is_object_of_texts),
    "parity": ("an object", _is_object),
    "optimized": ("true or false", lambda value: type(value) is bool),
    "operators": ("an object", _is_object),
    "fp16": ("an object", _is_object),
    "int8": ("an object", _is_object),
    "versions": ("an object of texts", _is_object_of_texts),
    "opset": ("an integer from 0", lambda value: type(value) is int and value >= 0),
    "format": (f"{FORMAT} or {PREPARED_FORMAT}", lambda value: type(value) is int),
    CHECKSUM: ("a text", _is_text),
}
"""What each field of `bundle.json` holds."""
_PREPARED_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "preparation": ("an object that is not empty", lambda value: _is_object(value) and value != {}),
}
"""Of those that prepare texts also this."""


def _check_place(folder: Path, name: str) -> None:
    if Path(name).name != name:
        raise ModelError(
            f"{folder / MANIFEST} names the file '{name}' outside its folder: do not use this bundle"
        )
    if not (folder / name).is_file():
        raise ModelError(f"{folder} lacks its file {name}: copy the whole folder, or export the model again")


def _check_file(folder: Path, name: str, expected: str) -> None:
    if is_lfs_pointer(folder / name):
        raise ModelError(f"{folder / name} {LFS_POINTER}")
    if sha256(folder / name) != expected:
        raise ModelError(
            f"{folder / name} is not the file that was exported (its SHA-256 differs): "
            "copy the folder again, or export the model again"
        )
