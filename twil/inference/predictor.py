"""Texts to predictions, from a bundle and without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from twil.bundle.bundle import Bundle, opening_bundle
from twil.bundle.cache import bundle_of
from twil.core.errors import ModelError
from twil.core.task import LABEL_SEPARATOR, Task
from twil.data.tables.memory import DataFrame, find_columns
from twil.inference.columns import output_columns, predicted_cells
from twil.inference.engine import Engine, EngineOptions, OutputBatch
from twil.inference.explanation import Explanation, left_out, weigh_words
from twil.inference.texts import Text, Texts, check_texts
from twil.text.tokenizer import MASK, Encoded


@dataclass(frozen=True)
class Prediction:
    """What a model says of one text.

    Attributes:
        label: The label; the labels joined by ``|`` (multi-label); the number (regression).
        probability: The label's probability; None where there is no single one.
        probabilities: Every label's probability; empty for a regression.
        labels: The labels that hold: one, any number (multi-label) or none (regression).
        value: The number of a regression, else None.
        truncated: The text was longer than the model reads, and part of it was left out.
    """

    label: str
    probability: float | None
    probabilities: dict[str, float]
    labels: tuple[str, ...]
    value: float | None
    truncated: bool

    def to_dict(self) -> dict[str, Any]:
        """Give it in JSON's types."""
        return asdict(self) | {"labels": list(self.labels)}

    def _repr_html_(self) -> str:
        """Show the label, and every label's probability as a bar, in a notebook."""
        rows = "".join(
            f"<tr><td>{escape(label)}</td><td><meter value='{share:.4f}'></meter></td>"
            f"<td>{share:.3f}</td></tr>"
            for label, share in self.probabilities.items()
        )
        return f"<b>{escape(self.label)}</b><table>{rows}</table>"


class Predictor(Engine):
    """A classifier ready to predict. May be called from several threads at once.

    What is said of a text does not depend on the texts beside it. Texts of the same tokens, as retweets
    are, are computed once where they come together. In a ``with`` block, the graph is let go at its end.

    Args:
        model: A bundle, as `twil export` writes it, or a model folder; the name of a model that comes with
            twil or is on the hub. What is no bundle is exported once, see `prepared`. When left out: what
            the environment names in ``TWIL_MODEL``, else `sentiment`.
        text: The column with the text, where columns are given. When left out: `TEXT`, else the only one of
            `text`, `texto`, `tweet`, `full_text`, `content` and `review`.
        text_pair: The column with the second text, where the model takes pairs.
        options: See `EngineOptions`.

    Attributes:
        bundle: The bundle.
        task: What the model is asked.
        session: Its graph; tells where it runs.
        threads: CPU threads.
        workers: How many batches are computed at a time.

    Raises:
        ConfigError: A batch has no token.
        ModelError: There is no such model, it is damaged, or is no classifier's.
        ProviderError: The provider asked for cannot be had.
        MissingExtraError: ONNX Runtime, or what exports, is not installed.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        text: str | None = None,
        text_pair: str | None = None,
        **options: Unpack[EngineOptions],
    ) -> None:
        with opening_bundle(bundle_of(model, "classifier")) as bundle:
            self.task = classifier_task(bundle)
            if text_pair is not None:
                check_texts(bundle, (text, text_pair), pair=self.task.pair)
            super().__init__(bundle, "logits", pair=self.task.pair, text=text, text_pair=text_pair, **options)

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        where = f"{manifest.precision} on {self.session.provider}"
        return f"Predictor({self.bundle.folder.name}: {self.task.kind} of {', '.join(self.labels)}; {where})"

    @property
    def labels(self) -> tuple[str, ...]:
        """The names that it predicts, in the order of its logits."""
        return self.task.labels

    @overload
    def __call__(self, texts: str) -> Prediction: ...  # type: ignore[overload-overlap]  # a str is iterable too

    @overload
    def __call__(self, texts: Mapping[str, Any]) -> dict[str, Any]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, texts: Iterable[Text]) -> list[Prediction]: ...

    # Behind texts: by its stubs a series of pandas has every attribute, and thus `columns`.
    @overload
    def __call__(self, texts: DataFrame) -> dict[str, Any]: ...

    def __call__(self, texts: str | Texts) -> Prediction | dict[str, Any] | list[Prediction]:
        """Predict one text, several, or those of a table's column.

        Args:
            texts: One text (str). Or several in a list, an array or a series of NumPy, pandas, polars or
                Arrow, a generator, ...; for a model of pairs, tuples of two texts. Or columns: a data frame
                of pandas or polars, an Arrow table, or a dict of columns, as Ray Data hands out its batches.

        Returns:
            One prediction for a str, and for several texts a list of them in their order. For columns a dict:
            those columns as they are, and behind them, as arrays, the ones that `twil predict` writes.

        Raises:
            DataError: A text is missing, is none (or no pair, where the model takes pairs), or holds half a
                character; there is no such column, or it is not clear which; or what is given holds no texts.
        """
        if isinstance(texts, str):
            return self([texts])[0]
        columns = find_columns(texts)
        if columns is not None:
            return self._predict_columns(columns)
        return [
            prediction for encoded in self.encoded_windows(texts) for prediction in self._predict(encoded)
        ]

    predict = __call__

    def explain(self, text: Text, label: str | None = None) -> Explanation:
        """Tell how much each word of a text weighed: it is asked about again with each word left out.

        Args:
            text: One text, or a pair where the model takes pairs. Of a long one, as many words as the model
                reads tokens.
            label: The label to explain; the one that is predicted when left out.

        Raises:
            ConfigError: There is no such label.
            DataError: It is no text (or no pair, where the model takes pairs).
        """
        [given] = self.read_texts([text])
        most = self.bundle.manifest.max_length
        encoded = self.encode(left_out(given, most))
        truncated = bool(encoded.truncated[0])
        return weigh_words(self.task, given, self.logits(encoded), most, label=label, truncated=truncated)

    def predict_logits(self, texts: Texts) -> NDArray[np.float32]:
        """Compute the logits, float32 ``(rows, outputs)``, of texts in their order.

        Args:
            texts: What a call takes; a str is one row.

        Raises:
            DataError: As a call does.
        """
        windows = [self.logits(encoded) for encoded in self.encoded_windows(texts)]
        return np.concatenate([np.empty((0, self.task.outputs), np.float32), *windows])

    def logits(self, encoded: Encoded) -> NDArray[np.float32]:
        """Compute the logits, float32 ``(rows, outputs)``, of encoded texts in their order."""
        return self.gather(encoded, self.output_batches(encoded))

    def gather(self, encoded: Encoded, batches: Iterable[OutputBatch]) -> NDArray[np.float32]:
        """Lay logits out in the order of the encoded texts: float32 ``(rows, outputs)``."""
        logits = np.empty((len(encoded.input_ids), self.task.outputs), dtype=np.float32)
        for batch in batches:
            logits[batch.rows] = batch.values
        return logits

    def _predict_columns(self, columns: dict[str, Any]) -> dict[str, Any]:
        decoded = self.task.decode(self.predict_logits(columns))
        made = list(output_columns(self.task, list(columns)))[len(columns) :]
        cells = (  # those of no rows would be numbers without the type
            np.array(each, dtype=str) if isinstance(each, list) else each
            for each in predicted_cells(self.task, decoded)
        )
        return columns | dict(zip(made, cells, strict=True))

    def _predict(self, encoded: Encoded) -> Iterator[Prediction]:
        decoded = self.task.decode(self.logits(encoded))
        for label, scores, truncated in zip(
            decoded.labels, decoded.scores.tolist(), encoded.truncated.tolist(), strict=True
        ):
            yield _prediction(self.task, label, scores, truncated=truncated)


def classifier_task(bundle: Bundle) -> Task:
    """Return what a classifier is asked; refuse what is none."""
    if bundle.manifest.kind == "fill-mask":
        raise ModelError(
            f"{bundle.folder} fills masks, and only classifiers predict: ask it with twil fill-mask "
            f"{bundle.folder} 'a text with {MASK}', or export a classifier"
        )
    if bundle.manifest.task is None:
        raise ModelError(
            f"{bundle.folder} is an encoder, which gives vectors, and only classifiers predict: "
            "fine-tune it with twil finetune, then export the classifier"
        )
    return bundle.manifest.task


def _prediction(task: Task, label: str, scores: list[float], *, truncated: bool) -> Prediction:
    if task.kind == "regression":
        return Prediction(label, None, {}, (), scores[0], truncated)
    probabilities = dict(zip(task.labels, scores, strict=True))
    if task.kind == "multi-label":
        labels = tuple(label.split(LABEL_SEPARATOR)) if label else ()
        return Prediction(label, None, probabilities, labels, None, truncated)
    return Prediction(label, probabilities[label], probabilities, (label,), None, truncated)
