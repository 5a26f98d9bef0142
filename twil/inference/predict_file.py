"""Tables in, the table of their predictions out, in constant memory."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TypeAlias, Unpack

from twil.bundle.cache import prepared
from twil.bundle.names import name_models
from twil.config.reading import AS_FOUND, Reading
from twil.core.errors import ConfigError
from twil.core.storage import check_parent
from twil.data.tables.formats import find_format
from twil.data.tables.streams import is_stream
from twil.data.tables.table_sets import Shard
from twil.data.tables.tables import OnError, TableWriter, check_safe
from twil.inference.columns import output_cells, output_columns
from twil.inference.engine import WINDOW_ROWS, EngineOptions
from twil.inference.events import Event, Summary
from twil.inference.inputs import (
    Sources,
    check_on_error,
    check_shard,
    check_target,
    found_text,
    open_tables,
    refuse_options,
    repeated_columns,
    shard_rows,
)
from twil.inference.panel import Panel
from twil.inference.pipeline import Work, announced, cancelled_pool
from twil.inference.predictor import Predictor
from twil.inference.resume import PartialRun
from twil.inference.texts import check_texts

Model: TypeAlias = str | Path | Predictor
"""What a `Predictor` is made of, or one."""


def predict_events(
    source: Sources,
    model: Model | Sequence[Model],
    target: str | Path,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    id_column: str | None = None,
    file_column: str | None = None,
    keep: Sequence[str] = (),
    on_error: OnError = "fail",
    reading: Reading = AS_FOUND,
    output_format: str | None = None,
    safe_cells: bool = False,
    shard: Shard | None = None,
    window_rows: int = WINDOW_ROWS,
    resume: bool = False,
    overwrite: bool = False,
    **options: Unpack[EngineOptions],
) -> Generator[Event, None, None]:
    """Predict every row of a table, or of several, and tell on the way how far it is.

    The output has a row for each row of the input, in its order: the id, the kept columns, `label`, and
    a column of probabilities per label, named after it. Of a regression it has the number in `value`.
    Of several models the columns stand one behind another, and each begins with the name of its model.
    Several tables have one format and the same columns, and are read one behind another as if they were one.
    Where a column of the input has one of these names, that of the prediction begins with `predicted_`.
    It appears under its name once it is complete. Where an error, an interrupt or a crash ends the work
    before, no part of it is left, but what was predicted in more than a few seconds is kept in the folder
    ``TARGET.partial``, and `resume` goes on from there: the output is then the same to the byte.

    Args:
        source: The table, ``-`` for standard input, or several tables.
        model: What a `Predictor` is made of, or one; or several, whose columns are called as `name_models`
            names them.
        target: Where the predictions go, or ``-`` for standard output.
        text: The column with the text. When left out: `TEXT`, else the only one of
            `text`, `texto`, `tweet`, `full_text`, `content` and `review`.
        text_pair: The column with the second text, where the model takes pairs.
        id_column: The column that names the rows. When left out: `ID`, in any case, where the table has it.
        file_column: A column for the path of each row's table, as it is given in `source`.
        keep: Columns of the input to repeat.
        on_error: What a bad row leads to: ``fail`` raises, ``skip`` leaves it out, ``mark`` keeps it
            without a prediction and says in a column `error` what is wrong.
        reading: How `source` is read, as far as its name and its first line do not tell.
        output_format: The format of `target`, where the ending of its name does not tell.
        safe_cells: Write ``'`` before cells of a CSV that a spreadsheet would take for formulas.
        shard: Predict the rows of this part of the tables only: each is predicted beside the same rows as in
            a run over all, so that the parts one after another are its output, to the byte.
        window_rows: Rows held in memory, and sorted by length, at a time.
        resume: Continue the interrupted run with this output, if there is one. The tables must be the same,
            and so must the model and what else decides its numbers.
        overwrite: Give an interrupted run with this output up.
        options: See `EngineOptions`: how a bundle is run, `side_by_side` unless that is False. A predictor
            has its own.

    Yields:
        `Preparing` where a model is no bundle, `RowsStarted`, then `RowsDone` a few times a second, and last
        `Summary`.

    Raises:
        ConfigError: A format or `on_error` is unknown, a predictor is given options, or an interrupted run
            lies beside the output that is neither continued nor given up, or had other settings or texts.
        DataError: The table cannot be read as asked, or its output not be written or would replace it; what
            the first lines tell is found before the model is loaded.
        ModelError: The bundle is damaged, is an encoder's, or takes pairs where there are none.
        ProviderError: The provider asked for cannot be had.
    """
    models = [model] if isinstance(model, str | Path | Predictor) else list(model)
    if any(isinstance(each, Predictor) for each in models):
        refuse_options(options, "a predictor")
    check_shard(shard, source)
    check_on_error(on_error)
    if not is_stream(target):  # what is wrong with the output is told before any work
        check_parent(target)
    elif resume:
        raise ConfigError("what was written to a stream cannot be continued: name an output file")
    check_safe(target, find_format(target, output_format, option="--output-format"), safe=safe_cells)
    state = None if is_stream(target) else PartialRun(Path(target), resume=resume, overwrite=overwrite)
    with state or nullcontext():
        asked = (text,) if text_pair is None else (text, text_pair)
        tables, texts, found_id = open_tables(
            source, asked, id_column, keep, reading=reading, on_error=on_error, file_column=file_column
        )
        check_target(source, target)
        options.setdefault("side_by_side", True)
        predictors = {}
        for name, each in _named(models).items():
            predictor = (
                each
                if isinstance(each, Predictor)
                else Predictor((yield from prepared(each, "classifier")), **options)
            )
            check_texts(predictor.bundle, texts, pair=predictor.pair)
            predictors[name] = predictor
        panel = Panel(predictors)
        wanted = shard_rows(shard, tables)
        repeated = repeated_columns(found_id, file_column, keep)
        errors = on_error == "mark"
        columns = output_columns(panel.tasks, repeated, errors=errors)
        resumed = state is not None and state.open(panel.settings(window_rows))
        work = Work(panel, texts, panel.gather, state, live=is_stream(target))
        yield announced(
            panel.predictors,
            tables,
            tuple(columns),
            found_id,
            found_text=found_text(text, texts[0]),
            resumed=resumed,
        )
        with (
            cancelled_pool(panel.workers) as pool,
            TableWriter(target, columns, format=output_format, safe=safe_cells) as writer,
        ):
            for window in work.windows(tables, window_rows, wanted, pool):
                logits = (yield from work.finish(window)).values
                cells = output_cells(panel.tasks, columns, window.rows, repeated, logits, errors=errors)
                writer.write({name: column[window.own] for name, column in cells.items()})
    provider = panel.predictors[0].session.provider
    yield Summary(
        **work.tally.sum_up(tables, on_error),
        altered=writer.altered,
        formulas=0 if safe_cells else writer.formulas,
        provider=provider,
    )


def _named(models: Sequence[Model]) -> dict[str, Model]:
    """Give models by the names that their columns begin with, where there are several.

    Raises:
        ConfigError: There is none, or two have been given the same name.
    """
    if not models:
        raise ConfigError("there is no model: name one (--model)")
    names = name_models([each.bundle.folder if isinstance(each, Predictor) else each for each in models])
    return {
        name: each if isinstance(each, Predictor) else found
        for (name, found), each in zip(names.items(), models, strict=True)
    }
