"""Tiny corpora and runs of pretraining that tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twil.config.pretraining import PretrainConfig, pretrain_config
from twil.data.corpus_building import CorpusOptions, build_corpus

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
    """Make a corpus of the example pairs and tweets."""
    files = [examples / "pairs.tsv", examples / "tweets_dev.tsv"]
    list(build_corpus(files, target, tokenizer, CorpusOptions(dev=dev, max_length=max_length)))
    return target


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
