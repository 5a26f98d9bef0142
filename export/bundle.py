"""From a model folder to a bundle: the graph, its tokenizer, and a manifest that says how it was checked."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from tokenizers import Tokenizer

from twil.config.model import Pooling
from twil.errors import ConfigError, require
from twil.export.graph import OPSET, WEIGHTS, ClassifierGraph, EncoderGraph, write_graph
from twil.export.verify import verify
from twil.model import folder as model_folders
from twil.model.twilbert import TWilBERT
from twil.predict.bundle import (
    CLASSIFIER_OUTPUTS,
    ENCODER_OUTPUTS,
    GRAPH,
    MANIFEST,
    TOKENIZER,
    Bundle,
    Manifest,
    open_bundle,
)
from twil.storage import atomic_folder, check_vacant, sha256
from twil.text.tokenizer import PAD_ID, max_length, save_tokenizer, set_max_length

FILES = (GRAPH, WEIGHTS, TOKENIZER, MANIFEST)
"""What a bundle may hold."""

ENCODER_POOLING: Pooling = "avg"
"""How a bare encoder's rows become vectors, where nothing else is asked."""


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        folder: The bundle.
        manifest: What `bundle.json` says, the parity report included.
        size: Bytes of all its files.
        seconds: What writing and checking took.
    """

    folder: Path
    manifest: Manifest
    size: int
    seconds: float

    def describe(self) -> str:
        """Say in one line what was written and how far it is from the model."""
        task, parity = self.manifest.task, self.manifest.parity
        what = (
            f"{task.kind} of {', '.join(task.labels)}"
            if task
            else f"encoder, {self.manifest.pooling} pooling"
        )
        difference = max(parity["max_difference"].values())
        tied = (
            f" ({parity['tied_rows']} more tied in a memory and were drawn again)"
            if parity["tied_rows"]
            else ""
        )
        return (
            f"{self.folder} ({what}; rows of up to {self.manifest.max_length} pieces; "
            f"{self.size / 1e6:.1f} MB): differs from the model by at most {difference:.1g} on "
            f"{parity['rows']} rows at {len(parity['shapes'])} shapes{tied}; "
            f"{self.seconds:.1f} s"
        )


def export_onnx(
    model_folder: str | Path,
    bundle_folder: str | Path,
    *,
    pooling: Pooling | None = None,
    opset: int = OPSET,
    overwrite: bool = False,
) -> ExportReport:
    """Write a bundle from a model folder, checked against the model, whole or not at all.

    A classifier's graph gives logits and probabilities; a bare encoder's, token vectors and their pool.

    Args:
        model_folder: The model.
        bundle_folder: The bundle to write.
        pooling: Of a bare encoder; `ENCODER_POOLING` when left out. A classifier has its own.
        opset: The ONNX operator set.
        overwrite: Replace a bundle that is there.

    Raises:
        ModelError: `model_folder` is no model folder.
        ConfigError: `pooling` or `opset` does not fit.
        ExportError: The graph cannot be written, or does not compute what the model does.
        MissingExtraError: onnx or ONNX Runtime is not installed.
        TwilError: `bundle_folder` is taken.
    """
    started = time.perf_counter()
    source, target = Path(model_folder), Path(bundle_folder)
    require("onnx", purpose="export")
    require("onnxruntime", purpose="checking an export")
    check_vacant(target, overwrite=overwrite, own=FILES)
    model, tokenizer = model_folders.load_with_tokenizer(source)
    pooling = _choose_pooling(model, pooling)
    module = EncoderGraph(model, pooling) if model.classifier is None else ClassifierGraph(model)
    outputs = ENCODER_OUTPUTS if model.classifier is None else CLASSIFIER_OUTPUTS
    with atomic_folder(target, overwrite=overwrite, own=FILES) as temporary:
        longest = _write_tokenizer(source, tokenizer, temporary, model.config.encoder.max_positions)
        write_graph(module, temporary / GRAPH, outputs=outputs, max_length=longest, opset=opset)
        manifest = Manifest(
            kind="encoder" if model.classifier is None else "classifier",
            max_length=longest,
            pad_id=PAD_ID,
            precision="fp32",
            pooling=pooling,
            task=model.config.task,
            files={file.name: sha256(file) for file in sorted(temporary.iterdir())},
            versions=_versions(),
            opset=opset,
        )
        manifest = replace(manifest, parity=verify(Bundle(temporary, manifest), module).as_dict())
        manifest.write(temporary)
        manifest = open_bundle(temporary).manifest  # as a reader will see it
        size = sum(file.stat().st_size for file in temporary.iterdir())
    return ExportReport(target, manifest, size, time.perf_counter() - started)


def _choose_pooling(model: TWilBERT, wanted: Pooling | None) -> Pooling:
    if wanted is not None and wanted not in get_args(Pooling):
        raise ConfigError(f"there is no pooling '{wanted}': choose one of {', '.join(get_args(Pooling))}")
    if model.classifier is None:
        return wanted or ENCODER_POOLING
    if wanted is not None:
        raise ConfigError(
            f"this model is a classifier, trained with {model.classifier.pooling} pooling: "
            "leave the pooling out"
        )
    return model.classifier.pooling


def _write_tokenizer(source: Path, tokenizer: Tokenizer, target: Path, positions: int) -> int:
    """Write the tokenizer, truncating at what the encoder takes, and return that length."""
    cut = max_length(tokenizer)
    if cut is not None and cut <= positions:
        shutil.copyfile(source / model_folders.TOKENIZER, target / TOKENIZER)
        return cut
    set_max_length(tokenizer, positions)
    save_tokenizer(tokenizer, target / TOKENIZER)
    return positions


def _versions() -> dict[str, str]:
    exporters = {name: str(require(name, purpose="export").__version__) for name in ("onnx", "onnxruntime")}
    return model_folders.versions() | exporters
