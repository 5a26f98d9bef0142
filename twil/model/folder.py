"""The model folder: `config.json`, `model.safetensors`, `tokenizer.json`, `run.json`, perhaps `log.jsonl`.

It is a plain folder that can be copied anywhere. `config.json` holds the SHA-256 of the tokenizer that
the weights were trained with, and a folder whose tokenizer is another is refused.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import safetensors
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from twil.config.loop import LOG
from twil.config.model import ModelConfig
from twil.errors import ModelError
from twil.model.twilbert import MODEL_TYPE, TWilBERT
from twil.predict.bundle import is_bundle
from twil.storage import atomic_folder, sha256, write_json
from twil.text.tokenizer import load_tokenizer, save_tokenizer
from twil.version import __version__

FORMAT = 1
CONFIG, WEIGHTS, TOKENIZER, RUN = "config.json", "model.safetensors", "tokenizer.json", "run.json"
FILES = (CONFIG, WEIGHTS, TOKENIZER, RUN, LOG)


def save(
    path: str | Path,
    model: TWilBERT,
    tokenizer: Tokenizer,
    run: Mapping[str, Any],
    *,
    overwrite: bool = False,
    log: Path | None = None,
) -> None:
    """Write a model folder, whole or not at all.

    Args:
        path: The folder.
        model: Shape and weights.
        tokenizer: The tokenizer of its pieces.
        run: How the model came to be, in JSON's types; the versions in use are added.
        overwrite: Replace a folder that is there.
        log: The log of its training, to be kept beside it.

    Raises:
        TwilError: `path` is taken.
        ModelError: The tokenizer has more pieces than the model.
    """
    pieces = tokenizer.get_vocab_size(with_added_tokens=True)
    if pieces > model.config.encoder.vocab_size:
        raise ModelError(
            f"the tokenizer has {pieces} pieces and the model {model.config.encoder.vocab_size}: "
            "they do not belong together"
        )
    with atomic_folder(path, overwrite=overwrite, own=FILES) as folder:
        save_tokenizer(tokenizer, folder / TOKENIZER)
        header = {"format": FORMAT, "model_type": MODEL_TYPE, "tokenizer_sha256": sha256(folder / TOKENIZER)}
        write_json(folder / CONFIG, header | {"model": model.config.as_dict()})
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        write_json(folder / RUN, {**run, "versions": versions()})
        if log is not None:
            shutil.copyfile(log, folder / LOG)


def copy(source: Path, path: str | Path, run: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Copy a model folder, whole or not at all, with more to tell of how the model came to be.

    Args:
        source: The folder.
        path: The copy.
        run: What is to stand in its `run.json`.
        overwrite: Replace a folder that is there.

    Raises:
        TwilError: `path` is taken.
    """
    with atomic_folder(path, overwrite=overwrite, own=FILES) as folder:
        for name in FILES:
            if name != RUN and (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        write_json(folder / RUN, run)


def load(path: str | Path) -> TWilBERT:
    """Load a model folder.

    Returns:
        The model on the CPU, in evaluation mode, float32.

    Raises:
        ModelError: It is no model folder, or its parts do not belong together.
    """
    folder = Path(path)
    with torch.device("meta"):  # no weights are drawn that would be overwritten
        model = TWilBERT(read_config(folder))
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{folder / WEIGHTS} cannot be read ({error}): copy the folder again") from error
    _check_fit(model, weights, source=folder / WEIGHTS)
    model.load_state_dict(weights, assign=True)
    return model.float().eval()


def load_with_tokenizer(path: str | Path) -> tuple[TWilBERT, Tokenizer]:
    """Load a model folder and its tokenizer; raises as `load` does."""
    return load(path), load_tokenizer(Path(path) / TOKENIZER)


def read_config(folder: Path) -> ModelConfig:
    """Read the shape of the model in `folder` and check that its tokenizer is the one it was trained with.

    Raises:
        ModelError: It is no model folder, or its parts do not belong together.
        ConfigError: Its configuration does not describe a model.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}")
    if is_bundle(folder):
        raise ModelError(f"{folder} is a bundle: give the model folder that it was exported from")
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder} is no model folder (it has no {name}): make one with twil pretrain, "
                "twil import or twil finetune"
            )
    path = folder / CONFIG
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({error}): copy the folder again") from error
    if not isinstance(value, dict) or value.get("model_type") != MODEL_TYPE:
        raise ModelError(f"{path} does not describe a {MODEL_TYPE} model: give a folder that twil wrote")
    if value.get("format") != FORMAT:
        raise ModelError(f"{path} has format {value.get('format')}, this twil reads {FORMAT}: update twil")
    if sha256(folder / TOKENIZER) != value.get("tokenizer_sha256"):
        raise ModelError(f"{folder / TOKENIZER} is not the tokenizer of this model: copy the folder again")
    return ModelConfig.parse(value.get("model"), source=str(path))


def read_run(folder: Path) -> dict[str, Any]:
    """Read what a model folder records of its making; empty where it records nothing.

    Raises:
        ModelError: The record is damaged.
    """
    path = folder / RUN
    if not path.is_file():
        return {}
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}): copy the folder again, or remove it") from error
    return run if isinstance(run, dict) else {}


def _check_fit(model: TWilBERT, weights: Mapping[str, torch.Tensor], *, source: Path) -> None:
    wanted = model.state_dict()
    faults = [f"{name} is missing" for name in wanted.keys() - weights.keys()]
    faults += [f"{name} is left over" for name in weights.keys() - wanted.keys()]
    faults += [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in wanted.keys() & weights.keys()
        if weights[name].shape != wanted[name].shape
    ]
    if faults:
        raise ModelError(f"{source} does not fit the model: {'; '.join(sorted(faults)[:5])}")


def versions() -> dict[str, str]:
    """Name the versions that made a model."""
    return {
        "twil": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "tokenizers": tokenizers.__version__,
        "safetensors": safetensors.__version__,
        "numpy": numpy.__version__,
    }
