"""Tiny corpora and runs of pretraining that tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twil.config.pretraining import PretrainConfig, pretrain_config
from twil.data.corpus.build import CorpusOptions, build_corpus

SHAPE: dict[str, Any] = {
    "hidden_size": 16,
    "n_layers": 2,
    "n_heads": 2,
    "head_size": 8,
    "max_positions": 132,
}


def make_corpus(
    examples: Path, tokenizer: Path, target: Path, *, dev: float = 0.1, max_length: int | None = None
) -> Path:
    """Make a corpus of some of the example pairs and tweets."""
    files = [
        write_first(examples / "pairs.tsv", 71, target.parent),
        write_first(examples / "tweets_dev.tsv", 50, target.parent),
    ]
    list(build_corpus(files, target, tokenizer, CorpusOptions(dev=dev, max_length=max_length)))
    return target


def write_first(table: Path, rows: int, folder: Path) -> Path:
    """Write the first rows of a table under its name into another folder."""
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    path = folder / table.name
    path.write_text("".join(lines[: rows + 1]), encoding="utf-8")
    return path


def tiny_run(corpus: Path, *overrides: str, **train: Any) -> PretrainConfig:
    """Configure a run of a few steps on a model of two thin layers."""
    options = {
        "batch_rows": 32,
        "batch_tokens": 600,
        "lr": 5e-3,
        "precision": "fp32",
        "log_steps": 1,
        **train,
    }
    value = {"data": {"corpus": corpus}, "model": {"encoder": SHAPE}, "train": options}
    return pretrain_config(value, {}, overrides)
