"""The configuration of a fine-tuning run, from twil's TOML or from the original's JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twil.cli.console import Display
from twil.config.original.finetuning import read_original_finetuning
from twil.config.training import FinetuneConfig, finetune_config
from twil.core.errors import ConfigError
from twil.shipped import ENCODER

ENDING = ".json"
_ARRAY_OF_OBJECTS, _HEAD = re.compile(r"\s*\[\s*\{"), 4096


def read_run(
    config: Path | None,
    options: Mapping[str, Mapping[str, Any]],
    settings: Iterable[str],
    display: Display,
) -> FinetuneConfig:
    """Read a run's configuration.

    Args:
        config: A TOML file, or a JSON file of the original.
        options: Values by section and key, which win over the file's. A training file that is a JSON file
            of the original stands for `config`.
        settings: Texts ``section.key=value``, which win over all.
        display: Where to say what is done differently.
    """
    train = options["data"]["train"]
    if train is not None and train.suffix == ENDING and not _holds_rows(train):
        if config is not None:
            raise ConfigError(f"{train} is a configuration, and {config} is another: give one of them")
        config, options = train, {**options, "data": {**options["data"], "train": None}}
    if config is None or config.suffix != ENDING:
        run = finetune_config(config, options, settings)
        if str(run.model.folder) == ENCODER and not Path(ENCODER).is_dir():
            display.line(f"starting from {ENCODER}, the encoder that comes with twil")
        return run
    original = read_original_finetuning(config)
    run = finetune_config(config, options, settings, held=original.config)
    _check_files(run, config)
    for note in (*original.notes, *_import_notes(run)):
        display.warn(note)
    return run


def _holds_rows(file: Path) -> bool:
    """Tell whether a JSON file is a table, an array of rows or one on each line, and no configuration."""
    try:
        with file.open(encoding="utf-8") as lines:
            if _ARRAY_OF_OBJECTS.match(lines.read(_HEAD)):
                return True
            lines.seek(0)
            json.loads(next((line for line in lines if line.strip()), ""))
            return any(line.strip() for line in lines)
    except (OSError, ValueError):  # it goes on below its first line, or who reads it says what is wrong
        return False


def _import_notes(run: FinetuneConfig) -> tuple[str, ...]:
    if run.model.original is None:
        return ()
    from twil.model.original import NOTES

    return NOTES


def _check_files(run: FinetuneConfig, source: Path) -> None:
    start = run.model.original
    files = [*run.data.files.values(), *((start.weights, start.vocab) if start else ())]
    if missing := [str(file) for file in files if not file.exists()]:
        raise ConfigError(
            f"there is no file {', '.join(missing)}: those that {source} names are looked for in the working "
            "directory, then beside it; options take the place of them (--dev, --test, --model)"
        )
