"""What the runs of a series, or the trials of a search, must share to be continued: settings and data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twil.config.loop import UPKEEP
from twil.config.settings import flatten
from twil.config.training import FinetuneConfig, StartConfig
from twil.core.errors import ConfigError, ModelError
from twil.core.storage import sha256
from twil.model.folder import describe, weights_hash
from twil.text.tokenizer import load_tokenizer
from twil.train.finetune import LabelledSets

_FILES = frozenset(
    {
        *("data.train", "data.dev", "data.test", "model.folder", "model.tokenizer"),
        *("model.original.weights", "model.original.config", "model.original.vocab"),
    }
)


def fingerprint(config: FinetuneConfig, sets: LabelledSets) -> dict[str, str]:
    """Name the settings of a run and the contents of its files, wherever they lie.

    Raises:
        DataError: A file has changed since it was read.
        ModelError: There is no model folder, or no tokenizer, where it is to start.
    """
    settings = {
        name: repr(value)
        for name, value in flatten(config.model_dump(mode="json")).items()
        if name not in UPKEEP | _FILES
    }
    if config.data.dev_share is not None:
        settings["data.dev"] = repr(config.data.dev_share)
    contents = {f"the {name} data": labelled.sha256() for name, labelled in sets.items()}
    return settings | contents | fingerprint_start(config.model)


def fingerprint_start(start: StartConfig) -> dict[str, str]:
    """Name the contents of what a model starts from; raises as `fingerprint` does."""
    if start.folder is not None:
        shape = json.dumps(describe(start.folder).shape, sort_keys=True)
        return {"the model": shape, "the model's weights": weights_hash(start.folder)}
    if start.original is not None:
        files = {
            "the original's weights": start.original.weights,
            "the original's configuration": start.original.config,
            "the original's vocabulary": start.original.vocab,
        }
        if missing := [str(file) for file in files.values() if not file.is_file()]:
            raise ModelError(f"there is no file {', '.join(missing)}")
        return {name: sha256(file) for name, file in files.items()}
    assert start.tokenizer is not None
    load_tokenizer(start.tokenizer)
    return {"the tokenizer": sha256(start.tokenizer)}


def read_fingerprint(path: Path) -> dict[str, Any]:
    """Read what was written of an interrupted series.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): start anew with --force") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} does not say what was trained: start anew with --force")
    return value
