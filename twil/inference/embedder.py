"""Texts to vectors, from an encoder's bundle and without torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from twil.bundle.bundle import POOLED, TOKENS, Bundle, opening_bundle
from twil.bundle.cache import bundle_of
from twil.core.errors import ModelError
from twil.data.batching import pad_batch
from twil.inference.engine import Engine, EngineOptions, OutputBatch
from twil.inference.texts import Texts
from twil.text.tokenizer import Encoded

Vectors = NDArray[np.float32]


class Tokens(NamedTuple):
    """A text token by token.

    Attributes:
        tokens: The tokens, special ones included.
        vectors: A vector for each, float32 ``(tokens, D)``.
    """

    tokens: list[str]
    vectors: Vectors


class Embedder(Engine):
    """An encoder ready to give vectors. May be called from several threads at once.

    The vectors of a text do not depend on the texts beside it. Texts of the same tokens, as retweets
    are, are computed once where they come together. In a ``with`` block, the graph is let go at its end.

    Args:
        model: A bundle, as `twil export` writes it of an encoder, or a model folder; the name of a model that
            comes with twil or is on the hub. What is no bundle is exported once, see `prepared`.
        text: The column with the text, where columns are given. When left out: `TEXT`, else the only one of
            `text`, `texto`, `tweet`, `full_text`, `content` and `review`.
        normalize: Give every vector the length 1; one of nothing but zeros stays.
        options: See `EngineOptions`.

    Attributes:
        bundle: The bundle.
        session: Its graph; tells where it runs.
        threads: CPU threads.
        workers: How many batches are computed at a time.
        normalize: Whether every vector has the length 1.
        width: Numbers of a text's vector.
        token_width: Numbers of a token's vector.

    Raises:
        ConfigError: A batch has no token.
        ModelError: There is no such model, it is damaged, or is a classifier's.
        ProviderError: The provider asked for cannot be had.
        MissingExtraError: ONNX Runtime, or what exports, is not installed.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        text: str | None = None,
        normalize: bool = False,
        **options: Unpack[EngineOptions],
    ) -> None:
        with opening_bundle(bundle_of(model, "encoder")) as bundle:
            _check_encoder(bundle)
            super().__init__(bundle, POOLED, pair=False, text=text, **options)
        self.normalize = normalize
        # The graph's last axes need not be written in it: one row tells them.
        outputs = self.session.run(pad_batch(self.encode([""]).input_ids, pad_id=bundle.manifest.pad_id))
        self.width, self.token_width = (outputs[name].shape[-1] for name in (POOLED, TOKENS))

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        where = f"{manifest.precision} on {self.session.provider}"
        return f"Embedder({self.bundle.folder.name}: {self.width} numbers, {manifest.pooling}; {where})"

    def __call__(self, texts: str | Texts) -> Vectors:
        """Compute the vectors of one text, of several, or of those of a table's column.

        Args:
            texts: One text (str). Or several in a list, an array or a series of NumPy, pandas, polars or
                Arrow, a generator, ... Or columns: a data frame of pandas or polars, an Arrow table, or a
                dict of columns.

        Returns:
            float32 ``(width,)`` of a str, else ``(rows, width)`` in the order of the texts.

        Raises:
            DataError: A text is missing, is none, or holds half a character; there is no such column, or it
                is not clear which; or what is given holds no texts.
        """
        if isinstance(texts, str):
            vector: Vectors = self([texts])[0]
            return vector
        windows = [self.vectors(encoded) for encoded in self.encoded_windows(texts)]
        return np.concatenate([np.empty((0, self.width), np.float32), *windows])

    embed = __call__

    @overload
    def tokens(self, texts: str) -> Tokens: ...  # type: ignore[overload-overlap]  # a str is iterable too

    @overload
    def tokens(self, texts: Texts) -> list[Tokens]: ...

    def tokens(self, texts: str | Texts) -> Tokens | list[Tokens]:
        """Compute a vector for each token of one text, or of several in their order.

        Args:
            texts: What a call takes.

        Raises:
            DataError: As a call does.
        """
        if isinstance(texts, str):
            return self.tokens([texts])[0]
        found: list[Tokens] = []
        for encoded in self.encoded_windows(texts):
            values = self.gather_tokens(encoded, self.output_batches(encoded, TOKENS))
            ends = np.cumsum([len(ids) for ids in encoded.input_ids])[:-1]
            found += map(Tokens, self.token_names(encoded), np.split(values, ends))
        return found

    def vectors(self, encoded: Encoded) -> Vectors:
        """Compute the vectors, float32 ``(rows, width)``, of encoded texts in their order."""
        return self.gather(encoded, self.output_batches(encoded))

    def gather(self, encoded: Encoded, batches: Iterable[OutputBatch]) -> Vectors:
        """Lay the vectors of texts out in the order of the encoded texts: float32 ``(rows, width)``."""
        vectors = np.empty((len(encoded.input_ids), self.width), dtype=np.float32)
        for batch in batches:
            vectors[batch.rows] = batch.values
        return self.finished(vectors)

    def gather_tokens(self, encoded: Encoded, batches: Iterable[OutputBatch]) -> Vectors:
        """Lay the vectors of all tokens out row after row: float32 ``(tokens of all rows, token_width)``."""
        lengths = np.array([len(ids) for ids in encoded.input_ids], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        vectors = np.empty((int(lengths.sum()), self.token_width), dtype=np.float32)
        for batch in batches:
            for row, padded in zip(batch.rows, batch.values, strict=True):  # (T, D)
                vectors[starts[row] : starts[row] + lengths[row]] = padded[: lengths[row]]
        return self.finished(vectors)

    def finished(self, vectors: Vectors) -> Vectors:
        """Return vectors as they are asked for: made of length 1, in their place, or as they are."""
        if not self.normalize:
            return vectors
        # Squares of large or small numbers are none in float32.
        lengths = np.sqrt(np.einsum("...d,...d->...", vectors, vectors, dtype=np.float64))[..., None]
        np.divide(vectors, lengths, out=vectors, where=lengths > 0, casting="same_kind")
        return vectors

    def token_names(self, encoded: Encoded) -> list[list[str]]:
        """Name the tokens of encoded texts, special ones included."""
        name = self._tokenizer.id_to_token
        return [[name(token) or "" for token in ids] for ids in encoded.input_ids]


def _check_encoder(bundle: Bundle) -> None:
    if bundle.manifest.kind != "encoder":
        raise ModelError(
            f"{bundle.folder} is a classifier, which gives labels, and only encoders give vectors: export a "
            "model without a classifier (twil export ENCODER --onnx), or the encoder of this one "
            "(twil export MODEL --onnx --head encoder)"
        )
