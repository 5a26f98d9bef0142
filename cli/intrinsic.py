"""How the scores of a pretrained model look."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from rich.console import RenderableType

from twil.cli.console import Display, format_seconds, make_table, show
from twil.config.model import explain
from twil.config.pretraining import MaskingConfig
from twil.core.errors import ConfigError
from twil.evaluation.pretrained.intrinsic import (
    IntrinsicScores,
    MlmScores,
    PllScores,
    RopScores,
    ScoringProgress,
)

UNIGRAM = "tokens by how often they stand elsewhere in the file"


def masking_config(**options: Any) -> MaskingConfig:
    """Read the options of the masking; those that are None were not given.

    Raises:
        ConfigError: A value does not fit.
    """
    try:
        return MaskingConfig(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(f"masking: {explain(error, MaskingConfig)}") from error


def follow(events: Iterable[ScoringProgress | IntrinsicScores], display: Display) -> IntrinsicScores:
    """Draw the progress of the work; return what came of it."""
    for event in events:
        if isinstance(event, IntrinsicScores):
            return event
        texts = f", {event.texts:,} texts scored token by token" if event.texts else ""
        display.update(f"{event.rows:,} rows{texts}, {format_seconds(event.seconds)}")
    raise AssertionError("the work ends with its scores")


def show_scores(scores: IntrinsicScores, display: Display, title: str) -> None:
    """Show all scores, each beside its baseline, and what was left out."""
    rows = [
        *(_mlm_rows(scores.mlm) if scores.mlm else ()),
        *(_rop_rows(scores.rop) if scores.rop else ()),
        *(_pll_rows(scores.pll) if scores.pll else ()),
    ]
    show(make_table(title, ["", "model", "baseline", "of the baseline"], rows))
    if scores.rop:
        show(_order_table(scores.rop))
    for part, what in ((scores.mlm, "MLM: rows"), (scores.rop, "ROP: rows"), (scores.pll, "PLL: texts")):
        if part and part.truncated:
            display.warn(f"{what} cut at the longest row that the model reads: {part.truncated:,}")
    if scores.rop and scores.rop.empty:
        display.warn(f"ROP: pairs with an empty text, left out: {scores.rop.empty:,}")
    if scores.pll and scores.pll.empty:
        display.warn(f"PLL: texts without a token, left out: {scores.pll.empty:,}")
    kind = "pairs" if scores.pairs else "texts"
    display.line(f"{scores.rows:,} {kind} in {format_seconds(scores.seconds)}, {scores.runtime}")


def _mlm_rows(mlm: MlmScores) -> list[list[object]]:
    return [
        ["MLM masked tokens", mlm.masked, "", ""],
        ["MLM accuracy", mlm.accuracy, mlm.frequent_accuracy, f"always {mlm.frequent_token}"],
        ["MLM loss, nats per token", mlm.loss, math.log(mlm.unigram_perplexity), UNIGRAM],
        ["MLM perplexity", mlm.perplexity, mlm.unigram_perplexity, "the same"],
    ]


def _rop_rows(rop: RopScores) -> list[list[object]]:
    return [
        ["ROP pairs shown, in both orders", rop.shown, "", ""],
        ["ROP accuracy", rop.accuracy, rop.chance, "chance"],
        ["ROP probability of the true order", rop.probability, rop.chance, "chance"],
    ]


def _pll_rows(pll: PllScores) -> list[list[object]]:
    return [
        ["PLL texts", pll.texts, "", ""],
        ["PLL score", pll.score, pll.unigram_score, UNIGRAM],
        ["PLL perplexity", pll.perplexity, pll.unigram_perplexity, "the same"],
    ]


def _order_table(rop: RopScores) -> RenderableType:
    names = ("reply first", "tweet first")
    rows = [[name, *counts] for name, counts in zip(names, rop.confusion, strict=True)]
    return make_table("true order ↓, predicted →", ["", *names], rows)
