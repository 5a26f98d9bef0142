"""Fine-tuning runs that take a moment: tiny models on a few texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from conftest import write_rows
from typer.testing import CliRunner, Result

import twil
from twil.cli.main import make_app
from twil.config.training import FinetuneConfig, finetune_config

GOOD = ["me encanta este sitio", "qué día tan genial", "gracias, todo perfecto", "feliz con el regalo"]
BAD = ["odio esperar el bus", "qué servicio tan horrible", "todo fatal otra vez", "harta de este ruido"]


def write_sets(folder: Path) -> dict[str, Path]:
    """Write a training set that can be learnt, a dev set and a test set."""
    rows = [(f"{text} {number}", "P") for number in range(3) for text in GOOD]
    rows += [(f"{text} {number}", "N") for number in range(3) for text in BAD]
    dev = [(f"{text} hoy", "P") for text in GOOD] + [(f"{text} hoy", "N") for text in BAD]
    test = [(f"pues {text}", "P") for text in GOOD] + [(f"pues {text}", "N") for text in BAD]
    return {
        name: write_rows(folder / f"{name}.tsv", part)
        for name, part in (("train", rows), ("dev", dev), ("test", test))
    }


def tiny_options(folder: Path, tokenizer_file: Path, *, test: bool = False) -> dict[str, dict[str, Any]]:
    """Give the options of a run of a moment, whose files are written into a folder."""
    sets = write_sets(folder)
    if not test:
        del sets["test"]
    shape = {"hidden_size": 16, "n_layers": 1, "n_heads": 1, "head_size": 16, "max_positions": 40}
    return {
        "data": dict(sets),
        "model": {"encoder": shape, "tokenizer": tokenizer_file},
        "train": {"epochs": 2, "batch_tokens": 64, "lr": 1e-2},
    }


def tiny_config(folder: Path, tokenizer_file: Path, *overrides: str, test: bool = False) -> FinetuneConfig:
    """Give the settings of such a run."""
    return finetune_config(None, tiny_options(folder, tokenizer_file, test=test), overrides)


def twil_command(*arguments: object) -> Result:
    """Run `twil` in this process."""
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(make_app(words), words)


def same_weights(one: Path, other: Path) -> bool:
    """Tell whether two model folders hold the same weights, bit for bit."""
    left, right = (twil.load(folder).state_dict() for folder in (one, other))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
