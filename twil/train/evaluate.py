"""Scores of a model folder or a bundle on a labelled file."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twil.data.labelled import COLUMNS, LabelledColumns, read_labelled
from twil.errors import ModelError
from twil.predict.bundle import is_bundle
from twil.predict.predictor import Predictor
from twil.scoring.metrics import Report, score_logits


@dataclass(frozen=True)
class Evaluation:
    """What a classifier is worth on a file.

    Attributes:
        report: The scores.
        truncated: Texts cut at the longest length.
        seconds: Time of encoding and inference.
        runtime: What computed, such as ``torch on cpu``.
    """

    report: Report
    truncated: int
    seconds: float
    runtime: str

    def as_dict(self) -> dict[str, Any]:
        """Describe the evaluation in JSON's types."""
        return asdict(self)


def evaluate(
    path: str | Path,
    file: str | Path,
    *,
    columns: LabelledColumns = COLUMNS,
    batch_tokens: int = 1024,
    device: str = "auto",
) -> Evaluation:
    """Score a classifier on a labelled file.

    Args:
        path: A model folder or a bundle.
        file: The labelled texts.
        columns: Where they and their answers stand.
        batch_tokens: Pieces per batch, pads included.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        DataError: The file cannot be used, or has a label that the model does not know.
        ModelError: There is no classifier at `path`.
    """
    if not Path(path).is_dir():
        raise ModelError(f"there is no model folder and no bundle {path}")
    run = _evaluate_bundle if is_bundle(path) else _evaluate_folder
    return run(Path(path), Path(file), columns, batch_tokens, device)


def _evaluate_folder(
    path: Path, file: Path, columns: LabelledColumns, batch_tokens: int, device: str
) -> Evaluation:
    # Here, not above: a bundle is scored without torch.
    from twil.model.folder import load_with_tokenizer
    from twil.train.classification import compute_logits, encode_set
    from twil.train.devices import choose_device

    model, tokenizer = load_with_tokenizer(path)
    labelled = read_labelled(file, columns, model.task.kind)
    place = choose_device(device, "fp32")
    model.to(place)
    begin = time.monotonic()
    encoded = encode_set(labelled, tokenizer, model.task)
    logits = compute_logits(model, encoded, batch_tokens)
    seconds = time.monotonic() - begin
    report = score_logits(logits, encoded.targets, model.task)
    return Evaluation(report, encoded.truncated, seconds, f"torch on {place.type}")


def _evaluate_bundle(
    path: Path, file: Path, columns: LabelledColumns, batch_tokens: int, device: str
) -> Evaluation:
    predictor = Predictor(path, provider=device, batch_tokens=batch_tokens)  # type: ignore[arg-type]  # checked there
    labelled = read_labelled(file, columns, predictor.task.kind)
    targets = labelled.targets(predictor.task)
    begin = time.monotonic()
    encoded = predictor.encode(labelled.rows)
    logits = predictor.logits(encoded)
    seconds = time.monotonic() - begin
    report = score_logits(logits, targets, predictor.task)
    runtime = f"ONNX Runtime on {predictor.session.provider}"
    return Evaluation(report, int(encoded.truncated.sum()), seconds, runtime)
