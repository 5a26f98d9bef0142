"""A table in, the table of its predictions out, in constant memory."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twil.data.formats import find_format
from twil.data.shards import Shard
from twil.data.streams import is_stream
from twil.data.tables import TEXT_COLUMN, Cells, OnError, Rows, TableWriter
from twil.errors import ConfigError
from twil.predict.answers import Answers
from twil.predict.columns import good_rows, output_cells, output_columns
from twil.predict.engine import BATCH_TOKENS, WINDOW_ROWS
from twil.predict.events import Event, Progress, Summary
from twil.predict.partial import PartialRun
from twil.predict.predictor import Predictor
from twil.predict.session import ProviderChoice
from twil.predict.windows import (
    Tally,
    Window,
    announced,
    begun_ahead,
    cancelled_pool,
    check_on_error,
    check_target,
    check_texts,
    chosen_texts,
    open_table,
    repeated_columns,
)
from twil.storage import check_parent
from twil.version import __version__


def predict_file(
    source: str | Path,
    model: str | Path | Predictor,
    target: str | Path,
    *,
    text: str = TEXT_COLUMN,
    text_pair: str | None = None,
    id_column: str | None = None,
    keep: Sequence[str] = (),
    on_error: OnError = "fail",
    header: bool | None = None,
    input_format: str | None = None,
    output_format: str | None = None,
    shard: Shard | None = None,
    window_rows: int = WINDOW_ROWS,
    provider: ProviderChoice = "auto",
    threads: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    resume: bool = False,
    overwrite: bool = False,
) -> Generator[Event, None, None]:
    """Predict every row of a table, and tell on the way how far it is.

    The output has a row for each row of the input, in its order: the id, the kept columns, `label`, and
    a column of probabilities per label, named after it. Of a regression it has the number in `value`.
    Where a column of the input has one of these names, that of the prediction begins with `predicted_`.
    It appears under its name once it is complete. Where an error, an interrupt or a crash ends the work
    before, no part of it is left, but what was predicted in more than a few seconds is kept in the folder
    ``TARGET.partial``, and `resume` goes on from there: the output is then the same to the byte.

    Args:
        source: The table, or ``-`` for standard input.
        model: A bundle, or a predictor made of one.
        target: Where the predictions go, or ``-`` for standard output.
        text: The column with the text.
        text_pair: The column with the second text, where the model takes pairs.
        id_column: The column that names the rows. When left out: `ID`, in any case, where the table has it.
        keep: Columns of the input to repeat.
        on_error: What a bad row leads to: ``fail`` raises, ``skip`` leaves it out, ``mark`` keeps it
            without a prediction and says in a column `error` what is wrong.
        header: False when the first line of a TSV or CSV is a row; its columns are called 1, 2, ...
        input_format: The format of `source`, where the ending of its name does not tell.
        output_format: The format of `target`, where the ending of its name does not tell.
        shard: Predict the rows of this part of the table only.
        window_rows: Rows held in memory, and sorted by length, at a time.
        provider: Where to run (with a bundle; a predictor has its own).
        threads: CPU threads (with a bundle); a batch is computed on each.
        batch_tokens: Pieces of a batch, pads included (with a bundle).
        resume: Continue the interrupted run with this output, if there is one. The table must be the same,
            and so must the model and what else decides its numbers.
        overwrite: Give an interrupted run with this output up.

    Yields:
        `Started`, then `Progress` a few times a second, and last `Summary`.

    Raises:
        ConfigError: A format or `on_error` is unknown, or an interrupted run lies beside the output that is
            neither continued nor given up, or had other settings or texts.
        DataError: The table cannot be read as asked, or its output not be written or would replace it; what
            the first lines tell is found before the model is loaded.
        ModelError: The bundle is damaged, is an encoder's, or takes pairs where there are none.
        ProviderError: The provider asked for cannot be had.
    """
    if shard and is_stream(source):
        raise ConfigError("a stream has no shards, as its rows cannot be counted before: name a file")
    check_on_error(on_error)
    if not is_stream(target):  # what is wrong with the output is told before any work
        check_parent(target)
    elif resume:
        raise ConfigError("what was written to a stream cannot be continued: name an output file")
    find_format(target, output_format)
    state = None if is_stream(target) else PartialRun(Path(target), resume=resume, overwrite=overwrite)
    texts = (text,) if text_pair is None else (text, text_pair)
    reader, found_id = open_table(
        source,
        texts,
        id_column,
        keep,
        {"format": input_format, "header": header, "on_error": on_error, "chunk_rows": window_rows},
    )
    check_target(source, target)
    predictor = (
        model
        if isinstance(model, Predictor)
        else Predictor(
            model, provider=provider, threads=threads, batch_tokens=batch_tokens, side_by_side=True
        )
    )
    check_texts(predictor.bundle, predictor.task, texts)
    if shard:
        reader.restrict(shard.rows(reader.count_rows()))
    repeated = repeated_columns(found_id, keep)
    resumed = state is not None and state.open(_settings(predictor, window_rows))
    work = _Work(predictor, texts, repeated, state, unit=reader.unit, errors=on_error == "mark")
    session = predictor.session
    yield announced(predictor, tuple(work.columns), found_id, resumed=resumed)
    with (
        state or nullcontext(),
        cancelled_pool(predictor.workers) as pool,
        TableWriter(target, work.columns, format=output_format) as writer,
    ):
        for window in begun_ahead(map(work.open, reader), source, predictor, pool):
            writer.write((yield from work.finish(window)))
    yield Summary(
        **work.tally.sum_up(reader, on_error),
        continued=state.continued if state else 0,
        altered=writer.altered,
        provider=session.provider,
    )


@dataclass
class _Window(Window):
    """Some rows on their way, with what an interrupted run kept of them."""

    kept: Answers | None = None


class _Work:
    """The rows of one table on their way to the cells of its predictions.

    Attributes:
        columns: The columns of the output and their types.
        tally: What became of the rows so far.
    """

    def __init__(
        self,
        predictor: Predictor,
        texts: Sequence[str],
        repeated: Sequence[str],
        state: PartialRun | None,
        *,
        unit: str,
        errors: bool,
    ) -> None:
        self.columns = output_columns(predictor.task, repeated, errors=errors)
        self.tally = Tally()
        self._predictor = predictor
        self._texts = texts
        self._repeated = repeated
        self._state = state
        self._unit = unit
        self._errors = errors

    def open(self, rows: Rows) -> _Window:
        """Find what is kept of some rows, or turn their texts into pieces."""
        good = good_rows(rows)
        texts = chosen_texts(rows, self._texts, good)
        kept = self._state.take(texts) if self._state else None
        encoded = self._predictor.encode(texts) if kept is None else None
        return _Window(rows, good, texts, encoded, kept=kept)

    def finish(self, window: _Window) -> Generator[Progress, None, Mapping[str, Cells]]:
        """Await what is said of some rows, tell now and then how far it is, and return the output's cells."""
        self.tally.rows += len(window.rows.errors)
        if window.kept is None:
            answers = yield from self._answer(window)
            if self._state:
                self._state.append(window.texts, answers)
        else:
            answers = window.kept
            self.tally.rows += len(window.texts)
        self.tally.note(answers.truncated, answers.empty, answers.repeated)
        return output_cells(
            self._predictor.task,
            self.columns,
            window.rows,
            self._repeated,
            answers.logits,
            unit=self._unit,
            errors=self._errors,
        )

    def _answer(self, window: _Window) -> Generator[Progress, None, Answers]:
        encoded = window.encoded
        assert encoded is not None
        logits = np.empty((len(window.good), self._predictor.task.outputs), dtype=np.float32)
        repeated = np.zeros(len(window.good), dtype=np.bool_)
        for batch in (future.result() for future in window.batches):
            logits[batch.rows], repeated[batch.rows] = batch.values, batch.repeated
            yield from self.tally.count(len(batch.rows))
        return Answers(logits, encoded.truncated, self._predictor.is_empty(encoded), repeated)


def _settings(predictor: Predictor, window_rows: int) -> dict[str, str]:
    """Say what decides every digit of the answers to some texts."""
    session = predictor.session
    return {
        "the model": json.dumps(predictor.bundle.manifest.files, sort_keys=True),
        "the provider": session.provider,
        "threads within an operator": str(session.threads),
        "--batch-tokens": str(predictor.batch_tokens),
        "the rows of a window": str(window_rows),
        "the version of twil": __version__,
        "the version of ONNX Runtime": session.version,
    }
