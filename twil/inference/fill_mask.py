"""Masks of texts filled from a bundle, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from twil.bundle.bundle import Bundle, opening_bundle
from twil.bundle.cache import bundle_of
from twil.core.errors import ModelError
from twil.inference.engine import Engine, EngineOptions
from twil.inference.texts import Texts
from twil.text.cloze import FilledText, TopTokens, encode_masked, fill_texts, find_mask, rank_tokens
from twil.text.tokenizer import Encoded


class MaskFiller(Engine):
    """A masked language model ready to be asked. In a ``with`` block, the graph is let go at its end.

    Args:
        model: A bundle, as `twil export --head fill-mask` writes it, or a model that one can be made of once,
            see `prepared`.
        text: The column with the text, where columns are given. When left out: `TEXT`, else the only one of
            `text`, `texto`, `tweet`, `full_text`, `content` and `review`.
        options: See `EngineOptions`. Each token of a batch gets a number for every token of the vocabulary.

    Attributes:
        mask: How the tokenizer calls its mask, which texts may have in place of [MASK].

    Raises:
        ConfigError: A batch has no token.
        ModelError: The bundle is damaged, or fills no masks.
        ProviderError: The provider asked for cannot be had.
        MissingExtraError: ONNX Runtime is not installed.
    """

    def __init__(
        self, model: str | Path, *, text: str | None = None, **options: Unpack[EngineOptions]
    ) -> None:
        with opening_bundle(bundle_of(model, "fill-mask")) as bundle:
            _check_filler(bundle)
            super().__init__(bundle, "logits", pair=False, text=text, **options)
        self.mask = find_mask(self._tokenizer)

    def token_id(self, token: str) -> int | None:
        """Give the id of a token as the vocabulary writes it; None where it has none such."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def fill(self, texts: Texts, *, top_k: int = 5) -> list[FilledText]:
        """Find the likeliest tokens for every [MASK] of some texts.

        Args:
            texts: What a `Predictor` takes, each with one [MASK] or more; a str is one. All of a text's masks
                are hidden from the model while it answers for each.
            top_k: How many tokens for each mask.

        Raises:
            ConfigError: The vocabulary does not have so many tokens.
            DataError: A text has no [MASK], one that lies behind the longest row, or is none.
        """
        singles = map(str, self.read_texts(texts))  # none is a pair
        masked = encode_masked(self._tokenizer, list(singles))
        best: dict[int, TopTokens] = {}
        for batch in self.output_batches(Encoded(masked.input_ids, None, masked.truncated)):
            for row, logits in zip(batch.rows.tolist(), batch.values, strict=True):
                best[row] = rank_tokens(logits[masked.asked[row]], top_k)
        return fill_texts(self._tokenizer, masked, [best[row] for row in range(len(masked.texts))])


def _check_filler(bundle: Bundle) -> None:
    if bundle.manifest.kind != "fill-mask":
        raise ModelError(
            f"{bundle.folder} is a bundle of kind {bundle.manifest.kind}, which fills no masks: export the "
            "pretrained model with twil export MODEL --onnx --head fill-mask"
        )
