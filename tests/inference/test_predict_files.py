"""The file engine: a row out for each row in, in its order, whatever the table holds."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from bundles import POLARITY, write_bundle
from conftest import CHANGES, change, write_cells

from twil.config.reading import Reading
from twil.core.errors import ConfigError, DataError, ModelError, ProviderError, TwilError
from twil.core.task import Task
from twil.data.tables import streams
from twil.data.tables.table_sets import Shard
from twil.data.tables.tables import TableWriter
from twil.inference import pipeline as windows
from twil.inference import resume as partial
from twil.inference.events import RowsDone, RowsStarted, Summary
from twil.inference.predict_file import predict_events
from twil.inference.predictor import Predictor

TWEETS = ["¡Qué partidazo! 😀", "ni fu ni fa", "qué horror de lunes, otra vez llueve y no hay metro", "sí"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "polarity")


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return Predictor(bundle, provider="cpu")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_tweets(path: Path, texts: Sequence[str]) -> Path:
    return write(path, "ID\tTEXT\n" + "".join(f"t{row}\t{text}\n" for row, text in enumerate(texts)))


def read_tsv(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read a TSV as twil writes it: physical lines, no quoting."""
    header, *rows = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return header.split("\t"), [row.split("\t") for row in rows]


def run(source: Any, model: Path | Predictor, target: Path | str, **options: object) -> Summary:
    *_, last = predict_events(source, model, target, **options)  # type: ignore[arg-type]
    assert isinstance(last, Summary)
    return last


def scores_of(rows: list[list[str]]) -> np.ndarray:
    return np.array([[float(cell) for cell in row[-3:]] for row in rows])


def assert_predicted(rows: list[list[str]], predictor: Predictor, texts: Sequence[str]) -> None:
    """Check labels and probabilities against those of the texts one by one."""
    expected = [predictor(text) for text in texts]
    assert [row[-4] for row in rows] == [prediction.label for prediction in expected]
    np.testing.assert_allclose(
        scores_of(rows), [list(prediction.probabilities.values()) for prediction in expected], atol=2e-6
    )


def test_a_table_gets_its_ids_labels_and_a_probability_per_label(
    predictor: Predictor, tmp_path: Path
) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    summary = run(source, predictor, tmp_path / "out.tsv")
    header, rows = read_tsv(tmp_path / "out.tsv")
    assert header == ["ID", "label", "NEG", "NEU", "POS"]
    assert [row[0] for row in rows] == ["t0", "t1", "t2", "t3"]
    assert_predicted(rows, predictor, TWEETS)
    assert (summary.rows, summary.skipped, summary.marked, summary.altered, summary.first_errors) == (
        (4, 0, 0, 0, ())
    )
    assert (summary.provider, summary.peak_memory > 1 << 20) == ("cpu", True)
    assert summary.rows_per_second == pytest.approx(4 / summary.seconds)


def test_rows_out_are_rows_in_with_blank_lines_crlf_and_odd_line_separators(
    predictor: Predictor, tmp_path: Path
) -> None:
    texts = ["uno", "", "   ", "dos\u2028tres", "cuatro\x85cinco\x0bseis", "último"]
    for name, end, last in (("a", "\n", "\n"), ("b", "\r\n", "\r\n"), ("c", "\n", ""), ("d", "\r\n", "")):
        source = write(tmp_path / f"{name}.tsv", "TEXT" + end + end.join(texts) + last)
        summary = run(source, predictor, tmp_path / "out.tsv")
        header, rows = read_tsv(tmp_path / "out.tsv")
        assert header == ["label", "NEG", "NEU", "POS"]
        assert_predicted(rows, predictor, texts)
        assert (summary.rows, summary.empty) == (6, 2)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_nan_is_read_as_null_is(predictor: Predictor, tmp_path: Path, ending: str) -> None:
    outputs = []
    for missing in (float("nan"), None):
        columns = {"ID": [7.0, missing, 9.0], "TEXT": [1.0, 2.0, missing], "SCORE": [missing, 0.25, missing]}
        source = write_cells(tmp_path / f"t.{ending}", **columns)
        for form in ("tsv", "csv", "jsonl", "parquet"):
            summary = run(source, predictor, tmp_path / f"out.{form}", keep=["SCORE"])
            assert (summary.rows, summary.empty) == (3, 1)
            outputs.append((tmp_path / f"out.{form}").read_bytes())
    assert outputs[:4] == outputs[4:]
    assert b"nan" not in outputs[0].lower()


def test_plain_lines_are_texts(predictor: Predictor, tmp_path: Path) -> None:
    source = write(tmp_path / "texts.txt", "uno\n\ntab\tdentro\nsin fin")
    assert run(source, predictor, tmp_path / "out.tsv").rows == 4
    assert_predicted(read_tsv(tmp_path / "out.tsv")[1], predictor, ["uno", "", "tab\tdentro", "sin fin"])


def test_quotes_in_a_tsv_are_text(predictor: Predictor, tmp_path: Path) -> None:
    texts = ['"hola', 'dijo ""sí""', "'", '"', 'fin"']
    run(write_tweets(tmp_path / "tweets.tsv", texts), predictor, tmp_path / "out.tsv")
    assert_predicted(read_tsv(tmp_path / "out.tsv")[1], predictor, texts)


def test_null_and_na_stay_texts_and_blanks_around_names_do_not_matter(
    predictor: Predictor, tmp_path: Path
) -> None:
    texts = ["null", "NA", "None", "nan", "NaN"]
    source = write(tmp_path / "tweets.tsv", "\ufeff ID\tTEXT \n" + "".join(f"{t}\t{t}\n" for t in texts))
    assert run(source, predictor, tmp_path / "out.tsv").empty == 0
    header, rows = read_tsv(tmp_path / "out.tsv")
    assert header[0] == "ID"
    assert [row[0] for row in rows] == texts
    assert_predicted(rows, predictor, texts)


def test_emoji_and_address_only_tweets_are_read_and_empty_ones_predicted_and_counted(
    predictor: Predictor, tmp_path: Path
) -> None:
    texts = ["😀😂", "https://t.co/x", "", "❤"]
    summary = run(write_tweets(tmp_path / "tweets.tsv", texts), predictor, tmp_path / "out.tsv")
    assert_predicted(read_tsv(tmp_path / "out.tsv")[1], predictor, texts)
    assert (summary.rows, summary.empty) == (4, 1)


def test_texts_longer_than_the_model_reads_are_counted(predictor: Predictor, tmp_path: Path) -> None:
    texts = ["a" * 30, "a" * 31, "b" * 500, "c"]
    summary = run(write_tweets(tmp_path / "tweets.tsv", texts), predictor, tmp_path / "out.tsv")
    assert (summary.rows, summary.truncated) == (4, 2)


def test_a_shuffled_file_gives_the_shuffled_predictions(predictor: Predictor, tmp_path: Path) -> None:
    chance = random.Random(3)
    texts = ["".join(chance.choices("aáñ ¡😀", k=chance.randrange(80))) for _ in range(300)]
    order = chance.sample(range(300), 300)
    run(write_tweets(tmp_path / "a.tsv", texts), predictor, tmp_path / "out_a.tsv", window_rows=64)
    shuffled = write_tweets(tmp_path / "b.tsv", [texts[row] for row in order])
    run(shuffled, predictor, tmp_path / "out_b.tsv", window_rows=50)
    straight, mixed = (read_tsv(tmp_path / f"out_{name}.tsv")[1] for name in "ab")
    assert [row[1] for row in mixed] == [straight[row][1] for row in order]
    np.testing.assert_allclose(scores_of(mixed), scores_of(straight)[order], atol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 64 * 32])
def test_the_size_of_batches_and_windows_changes_nothing(
    bundle: Path, predictor: Predictor, tmp_path: Path, batch_tokens: int
) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS * 20)
    run(source, bundle, tmp_path / "out.tsv", batch_tokens=batch_tokens, window_rows=7, provider="cpu")
    assert_predicted(read_tsv(tmp_path / "out.tsv")[1], predictor, TWEETS * 20)


class TestBeforeTheModelIsLoaded:
    """What is wrong with the table is told at once, and no output is made."""

    @pytest.fixture(autouse=True)
    def _no_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Predictor, "__init__", lambda *_, **__: pytest.fail("the model was loaded"))

    @pytest.mark.parametrize(
        ("content", "options", "said"),
        [
            (b"ID\tTWEET\n1\thola\n", {"text": "TWEETS"}, "the columns are ID, TWEET; did you mean 'TWEET'"),
            (b"ID\tTEXT\n1\thola\n", {"id_column": "KEY"}, "no column 'KEY': the columns are ID, TEXT"),
            (b"ID\tTEXT\n1\thola\n", {"keep": ["DATE"]}, "no column 'DATE'"),
            (b"ID\tTEXT\n1\thola\n", {"text_pair": "REPLY"}, "no column 'REPLY'"),
            (b"", {}, "empty"),
            (b"\x89PNG\r\n\x1a\n\0\0", {}, "a PNG image"),
            (b"I\0D\0\t\0T\0E\0X\0T\0\n\0", {}, "NUL bytes"),
        ],
    )
    def test_a_fault_of_the_table(
        self, tmp_path: Path, content: bytes, options: dict[str, object], said: str
    ) -> None:
        source = write(tmp_path / "tweets.tsv", content)
        with pytest.raises(DataError, match=said) as caught:
            run(source, tmp_path / "no bundle", tmp_path / "out.tsv", **options)
        assert str(source) in str(caught.value)
        assert [file.name for file in tmp_path.iterdir()] == ["tweets.tsv"]

    def test_an_unknown_way_with_bad_rows(self, tmp_path: Path) -> None:
        source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
        with pytest.raises(ConfigError, match="'drop': choose one of fail, skip, mark"):
            run(source, tmp_path / "no bundle", tmp_path / "out.tsv", on_error="drop")

    def test_no_header_where_there_is_none_to_read(self, tmp_path: Path) -> None:
        source = write(tmp_path / "tweets.jsonl", '{"ID": 1, "TEXT": "hola"}\n')
        said = r"^--no-header would have no effect on .*tweets\.jsonl: only with TSV and CSV$"
        with pytest.raises(ConfigError, match=said):
            run(source, tmp_path / "no bundle", tmp_path / "out.tsv", reading=Reading(header=False))
        assert [file.name for file in tmp_path.iterdir()] == ["tweets.jsonl"]

    def test_an_output_name_without_a_format(self, tmp_path: Path) -> None:
        source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
        with pytest.raises(DataError, match=r"does not tell its format.*\(--output-format\)$"):
            run(source, tmp_path / "no bundle", tmp_path / "out")


def test_a_default_id_column_may_be_missing_and_that_is_told(predictor: Predictor, tmp_path: Path) -> None:
    source = write(tmp_path / "tweets.tsv", "TEXT\nhola\n")
    started, *_ = predict_events(source, predictor, tmp_path / "out.tsv")
    assert isinstance(started, RowsStarted)
    assert started.id_column is None
    assert read_tsv(tmp_path / "out.tsv")[0] == ["label", "NEG", "NEU", "POS"]


@pytest.mark.parametrize(
    ("names", "expected"), [("id", "id"), ("Id", "Id"), ("id\tID", "ID"), ("tweet_id", None)]
)
def test_the_default_id_column_is_found_in_any_case(
    predictor: Predictor, tmp_path: Path, names: str, expected: str | None
) -> None:
    source = write(tmp_path / "tweets.tsv", f"{names}\tTEXT\n{names}\thola\n")
    started, *_ = predict_events(source, predictor, tmp_path / "out.tsv")
    assert isinstance(started, RowsStarted)
    assert started.id_column == expected
    header, (row,) = read_tsv(tmp_path / "out.tsv")
    assert header[:-4] == row[:-4] == ([expected] if expected else [])


@pytest.mark.parametrize(
    "options",
    [
        {"provider": "auto"},
        {"threads": None},
        {"batch_tokens": 512},
        {"side_by_side": True, "threads": 2},
    ],
)
def test_options_that_a_predictor_cannot_follow_any_more_are_refused(
    predictor: Predictor, tmp_path: Path, options: dict[str, object]
) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    said = rf"^{', '.join(options)} would have no effect: a predictor has its own, .* or give its bundle$"
    with pytest.raises(ConfigError, match=said):
        run(source, predictor, tmp_path / "out.tsv", **options)
    assert [file.name for file in tmp_path.iterdir()] == ["tweets.tsv"]


def test_a_bundle_is_run_as_the_options_say(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, object]] = []
    make = Predictor.__init__

    def recording(self: Predictor, path: Path, **options: Any) -> None:
        made.append(options)
        make(self, path, **options)

    monkeypatch.setattr(Predictor, "__init__", recording)
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    run(source, predictor.bundle.folder, tmp_path / "out.tsv")
    run(source, predictor.bundle.folder, tmp_path / "out.tsv", threads=1, side_by_side=False)
    assert made == [{"side_by_side": True}, {"side_by_side": False, "threads": 1}]


def test_rows_of_jsonl_without_an_id_or_anything_are_predicted(predictor: Predictor, tmp_path: Path) -> None:
    source = write(tmp_path / "tweets.jsonl", '{"id": 1, "TEXT": "uno"}\n\n{"TEXT": "tres"}\n')
    assert run(source, predictor, tmp_path / "out.tsv").empty == 1
    _, rows = read_tsv(tmp_path / "out.tsv")
    assert [row[0] for row in rows] == ["1", "", ""]
    assert_predicted(rows, predictor, ["uno", "", "tres"])


def test_columns_are_kept_and_never_collide(predictor: Predictor, tmp_path: Path) -> None:
    content = "ID\tTEXT\tlabel\tPOS\tpredicted_POS\n1\thola\tNEG\tverbo\tx\n"
    source = write(tmp_path / "tweets.tsv", content)
    run(source, predictor, tmp_path / "out.tsv", keep=["label", "ID", "POS", "predicted_POS", "TEXT"])
    header, rows = read_tsv(tmp_path / "out.tsv")
    repeated = ["ID", "label", "POS", "predicted_POS", "TEXT"]
    assert header == [*repeated, "predicted_label", "NEG", "NEU", "predicted_predicted_POS"]
    assert rows[0][:5] == ["1", "NEG", "verbo", "x", "hola"]
    assert_predicted(rows, predictor, ["hola"])


BROKEN = b"ID\tTEXT\n1\tuno\n2\tdos\tde\tm\xc3\xa1s\n3\tb\xffytes\n4\t\n5\tcinco\n"


def test_a_bad_row_fails_with_its_line_and_leaves_no_output(predictor: Predictor, tmp_path: Path) -> None:
    source = write(tmp_path / "tweets.tsv", BROKEN)
    with pytest.raises(DataError, match=r"tweets\.tsv, line 3: 4 fields, expected 2"):
        run(source, predictor, tmp_path / "out.tsv")
    assert [file.name for file in tmp_path.iterdir()] == ["tweets.tsv"]


def test_skipped_rows_are_left_out_and_counted(predictor: Predictor, tmp_path: Path) -> None:
    summary = run(write(tmp_path / "tweets.tsv", BROKEN), predictor, tmp_path / "out.tsv", on_error="skip")
    _, rows = read_tsv(tmp_path / "out.tsv")
    assert [row[0] for row in rows] == ["1", "4", "5"]
    assert_predicted(rows, predictor, ["uno", "", "cinco"])
    assert (summary.rows, summary.skipped, summary.marked, summary.empty) == (3, 2, 0, 1)
    assert summary.first_errors == ("line 3: 4 fields, expected 2", "line 4: not UTF-8")


def test_marked_rows_keep_their_place_without_a_prediction(predictor: Predictor, tmp_path: Path) -> None:
    summary = run(write(tmp_path / "tweets.tsv", BROKEN), predictor, tmp_path / "out.tsv", on_error="mark")
    header, rows = read_tsv(tmp_path / "out.tsv")
    assert header == ["ID", "label", "NEG", "NEU", "POS", "error"]
    assert rows[1] == ["", "", "", "", "", "line 3: 4 fields, expected 2"]
    assert rows[2] == ["", "", "", "", "", "line 4: not UTF-8"]
    good = [rows[row] for row in (0, 3, 4)]
    assert {row[-1] for row in good} == {""}
    assert_predicted([row[:-1] for row in good], predictor, ["uno", "", "cinco"])
    assert (summary.rows, summary.skipped, summary.marked, summary.empty) == (5, 0, 2, 1)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_other_formats_hold_the_same_answers(predictor: Predictor, tmp_path: Path, ending: str) -> None:
    texts = [*TWEETS, 'con "comillas", comas y\ttabuladores']
    source = write(
        tmp_path / "tweets.jsonl",
        "".join(json.dumps({"ID": str(row), "TEXT": text}) + "\n" for row, text in enumerate(texts)),
    )
    target = tmp_path / f"out.{ending}"
    summary = run(source, predictor, target, keep=["TEXT"])
    if ending == "parquet":
        rows = pq.read_table(target).to_pylist()
    elif ending == "jsonl":
        rows = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(target.read_text(encoding="utf-8"), newline="")))
    assert [(row["ID"], row["TEXT"]) for row in rows] == [(str(i), text) for i, text in enumerate(texts)]
    assert_predicted([[str(cell) for cell in row.values()] for row in rows], predictor, texts)
    assert summary.altered == 0


def test_a_kept_cell_that_a_tsv_cannot_hold_is_counted(predictor: Predictor, tmp_path: Path) -> None:
    source = write(tmp_path / "tweets.csv", 'ID,TEXT\n1,"dos\nlíneas"\n2,una\n')
    assert run(source, predictor, tmp_path / "out.tsv", keep=["TEXT"]).altered == 1
    _, rows = read_tsv(tmp_path / "out.tsv")
    assert [row[1] for row in rows] == ["dos líneas", "una"]
    assert_predicted(rows, predictor, ["dos\nlíneas", "una"])


def test_texts_of_the_same_tokens_are_computed_once_and_answered_as_if_alone(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Predictor(bundle, provider="cpu", batch_tokens=1)
    texts = ["RT: gol", "otro día", "RT:  gol", "", "RT: gol", "  "]
    ran: list[int] = []
    run_batch = alone.session.run
    monkeypatch.setattr(
        alone.session, "run", lambda batch: ran.append(len(batch.input_ids)) or run_batch(batch)
    )
    logits = alone.predict_logits(texts)
    assert ran == [1, 1, 1]  # blanks are no tokens
    each = np.concatenate([alone.predict_logits([text]) for text in texts])
    assert logits.tobytes() == each.tobytes()
    ran.clear()
    source = write_tweets(tmp_path / "tweets.tsv", texts)
    summary = run(source, alone, tmp_path / "out.tsv", window_rows=4)
    assert (summary.rows, summary.repeated, sum(ran)) == (6, 1, 5)  # of a window, not of the file
    assert_predicted(read_tsv(tmp_path / "out.tsv")[1], alone, texts)


def test_pairs_are_the_same_only_where_both_texts_are(tmp_path: Path) -> None:
    predictor = Predictor(
        write_bundle(tmp_path / "b", Task("class", ("NO", "SÍ"), pair=True)), provider="cpu", batch_tokens=1
    )
    source = write(tmp_path / "pairs.tsv", "A\tB\nsí\tno\nno\tsí\nsí\tno\nsí\tsí\n")
    summary = run(source, predictor, tmp_path / "out.tsv", text="A", text_pair="B")
    assert (summary.rows, summary.repeated) == (4, 1)


def test_bad_rows_are_not_counted_as_repeated(predictor: Predictor, tmp_path: Path) -> None:
    source = write(tmp_path / "all.tsv", "ID\tTEXT\n1\n2\n3\n")
    summary = run(source, predictor, tmp_path / "out.tsv", on_error="mark")
    assert (summary.rows, summary.marked, summary.empty, summary.repeated) == (3, 3, 0, 0)
    source = write(tmp_path / "tweets.tsv", BROKEN)
    assert run(source, predictor, tmp_path / "out.tsv", on_error="mark").repeated == 0


def test_pairs_come_from_two_columns(tmp_path: Path) -> None:
    predictor = Predictor(
        write_bundle(tmp_path / "b", Task("class", ("NO", "SÍ"), pair=True)), provider="cpu"
    )
    source = write(tmp_path / "pairs.tsv", "A\tB\n¿vienes?\tsí\nllueve\tqué rabia\n\t\n\tsola\n")
    summary = run(source, predictor, tmp_path / "out.tsv", text="A", text_pair="B")
    expected = predictor([("¿vienes?", "sí"), ("llueve", "qué rabia"), ("", ""), ("", "sola")])
    _, rows = read_tsv(tmp_path / "out.tsv")
    assert [row[0] for row in rows] == [prediction.label for prediction in expected]
    assert summary.empty == 1
    with pytest.raises(DataError, match=r"takes pairs of texts: name .* \(--text-pair\)"):
        run(source, predictor, tmp_path / "other.tsv", text="A")


def test_a_second_text_is_refused_where_the_model_takes_one(predictor: Predictor, tmp_path: Path) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    with pytest.raises(DataError, match="takes single texts"):
        run(source, predictor, tmp_path / "out.tsv", text_pair="ID")


def test_a_regression_gives_values_and_several_labels_are_joined(tmp_path: Path) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    regression = Predictor(write_bundle(tmp_path / "r", Task("regression", ("humor",))), provider="cpu")
    run(source, regression, tmp_path / "r.tsv")
    header, rows = read_tsv(tmp_path / "r.tsv")
    assert header == ["ID", "value"]
    np.testing.assert_allclose(
        [float(row[1]) for row in rows], regression.predict_logits(TWEETS)[:, 0], rtol=1e-5, atol=1e-5
    )
    several = Predictor(write_bundle(tmp_path / "m", Task("multi-label", ("ira", "pena"))), provider="cpu")
    run(source, several, tmp_path / "m.tsv")
    header, rows = read_tsv(tmp_path / "m.tsv")
    assert header == ["ID", "label", "ira", "pena"]
    assert [row[1] for row in rows] == [several(text).label for text in TWEETS]


def test_a_table_of_nothing_but_a_header_gives_one(predictor: Predictor, tmp_path: Path) -> None:
    assert run(write(tmp_path / "tweets.tsv", "ID\tTEXT\n"), predictor, tmp_path / "out.tsv").rows == 0
    assert read_tsv(tmp_path / "out.tsv") == (["ID", "label", "NEG", "NEU", "POS"], [])


def test_a_file_is_never_replaced_by_its_predictions(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    before = source.read_bytes()
    (tmp_path / "link.tsv").symlink_to(source)
    (tmp_path / "hard.tsv").hardlink_to(source)
    monkeypatch.chdir(tmp_path)
    for one, other in ((source, source), ("tweets.tsv", source), (source, "link.tsv"), ("hard.tsv", source)):
        with pytest.raises(DataError, match="the output would replace its input"):
            run(one, predictor, other)
    assert source.read_bytes() == before


def test_a_file_behind_a_standard_stream_is_not_replaced_either(bundle: Path, tmp_path: Path) -> None:
    table = write_tweets(tmp_path / "t.tsv", TWEETS)
    before = table.read_bytes()
    command = [sys.executable, "-m", "twil", "predict", "-m", str(bundle), "-q"]
    for arguments, mode in ((["-", "-o", str(table)], "rb"), ([str(table)], "ab")):
        with table.open(mode) as file:
            streams = {"stdin": file, "stdout": subprocess.PIPE} if mode == "rb" else {"stdout": file}
            done = subprocess.run([*command, *arguments], stderr=subprocess.PIPE, check=False, **streams)  # type: ignore[call-overload]
        assert done.returncode == 1
        assert b"the output would replace its input" in done.stderr
        assert table.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="this system does not name its streams")
def test_what_a_descriptor_leads_to_is_written_on(bundle: Path, tmp_path: Path) -> None:
    table, every = write_tweets(tmp_path / "t.tsv", TWEETS), tmp_path / "all.tsv"
    every.write_text("before\n", encoding="utf-8")
    command = [sys.executable, "-m", "twil", "predict", str(table), "-m", str(bundle), "-q"]
    with every.open("ab") as file:
        options = ["-o", "/dev/stdout", "--output-format", "tsv"]
        subprocess.run([*command, *options], stdout=file, check=True)
    lines = every.read_text(encoding="utf-8").splitlines()
    assert (lines[0], len(lines)) == ("before", 2 + len(TWEETS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.tsv", "t.tsv"]


def test_a_first_row_without_a_header_may_be_bad_as_any(predictor: Predictor, tmp_path: Path) -> None:
    for ending in ("tsv", "csv"):
        mark = {"tsv": b"\t", "csv": b","}[ending]
        content = b"1\tma\xf1ana\n2\thola\n".replace(b"\t", mark)
        table = write(tmp_path / f"t.{ending}", content)
        target = tmp_path / f"o-{ending}.tsv"
        options = {"reading": Reading(header=False), "text": "2", "id_column": "1", "on_error": "skip"}
        assert run(table, predictor, target, **options).skipped == 1
        assert [row[0] for row in read_tsv(target)[1]] == ["2"]
    with pytest.raises(DataError, match="line 1: not UTF-8"):
        run(table, predictor, tmp_path / "o.tsv")


@pytest.mark.parametrize(
    ("name", "column"), [("t.tsv", ""), (b"a\xf1o.tsv".decode(errors="surrogateescape"), "f")]
)
def test_a_column_of_files_that_cannot_be_is_told_before_any_work(
    name: str, column: str, predictor: Predictor, tmp_path: Path
) -> None:
    try:
        table = write_tweets(tmp_path / name, TWEETS)
    except OSError:
        pytest.skip("this system has no such names")
    with pytest.raises(ConfigError, match="--file-column"):
        run(table, predictor, tmp_path / "o.tsv", file_column=column)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_older_output_is_replaced(predictor: Predictor, tmp_path: Path) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    target = write(tmp_path / "out.tsv", "the old one\n")
    run(source, predictor, target)
    assert_predicted(read_tsv(target)[1], predictor, TWEETS)


def test_events_begin_with_the_setting_and_tell_the_progress(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "PROGRESS_SECONDS", 0)
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS * 10)
    started, *middle, last = predict_events(
        source, bundle, tmp_path / "out.tsv", window_rows=16, batch_tokens=64, provider="cpu", threads=1
    )
    columns = ("ID", "label", "NEG", "NEU", "POS")
    assert started == RowsStarted(bundle, "fp32", "cpu", "", 1, columns, "ID", resumed=False)
    assert all(type(event) is RowsDone for event in middle)
    rows = [event.rows for event in middle if isinstance(event, RowsDone)]
    assert len(rows) > 3
    assert rows == sorted(set(rows))
    assert isinstance(last, Summary)
    assert last.rows == rows[-1] == 40


def test_progress_is_told_at_most_five_times_a_second(predictor: Predictor, tmp_path: Path) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS * 500)
    start = time.perf_counter()
    events = list(predict_events(source, predictor, tmp_path / "out.tsv"))
    assert len(events) - 2 <= 5 * (time.perf_counter() - start)


@pytest.mark.parametrize("how", CHANGES)
def test_a_table_that_changes_while_it_is_read_leaves_no_output(
    predictor: Predictor, tmp_path: Path, how: str
) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS * 50)
    for shard in (None, Shard(1, 3)):  # a part has an end of its own, in rows that were counted before
        events = predict_events(source, predictor, tmp_path / "out.tsv", shard=shard, window_rows=20)
        assert isinstance(next(events), RowsStarted)
        before = source.read_bytes()
        change(source, how)
        with pytest.raises(DataError, match=r"tweets\.tsv: changed while it was read"):
            list(events)
        source.write_bytes(before)
        assert [path.name for path in tmp_path.iterdir()] == ["tweets.tsv"]


@pytest.mark.parametrize("end", ["close", "interrupt"])
def test_work_that_is_given_up_leaves_the_old_output_and_nothing_else(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(windows, "PROGRESS_SECONDS", 0)
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS * 50)
    target = write(tmp_path / "out.tsv", "the old one\n")
    events = predict_events(source, predictor, target, window_rows=20)
    assert isinstance(next(events), RowsStarted)
    while not isinstance(event := next(events), RowsDone) or event.rows <= 100:
        pass
    if end == "close":
        events.close()
    else:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(predictor.session._graph, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(events)
        monkeypatch.undo()
    assert target.read_text(encoding="utf-8") == "the old one\n"
    assert {file.name for file in tmp_path.iterdir()} == {"tweets.tsv", "out.tsv"}


def test_faults_of_the_model_leave_no_output(bundle: Path, tmp_path: Path) -> None:
    source = write_tweets(tmp_path / "tweets.tsv", TWEETS)
    with pytest.raises(ModelError, match="there is no bundle"):
        run(source, tmp_path / "no bundle", tmp_path / "out.tsv")
    with pytest.raises(ConfigError, match="0 tokens"):
        run(source, bundle, tmp_path / "out.tsv", batch_tokens=0)
    with pytest.raises(ProviderError):
        run(source, bundle, tmp_path / "out.tsv", provider="tpu")
    with pytest.raises(TwilError, match="there is no folder"):
        run(source, bundle, tmp_path / "none" / "out.tsv", provider="cpu")
    assert [file.name for file in tmp_path.iterdir()] == ["tweets.tsv"]


def test_standard_input_to_standard_output_without_torch(bundle: Path, predictor: Predictor) -> None:
    program = (
        "import sys; from twil.inference.predict_file import predict_events\n"
        f"*_, summary = predict_events('-', {str(bundle)!r}, '-', provider='cpu')\n"
        "print(summary.rows, 'torch' in sys.modules, file=sys.stderr)"
    )
    given = "ID\tTEXT\n" + "".join(f"{row}\t{text}\n" for row, text in enumerate(TWEETS))
    done = subprocess.run(
        [sys.executable, "-c", program], input=given.encode(), capture_output=True, check=False
    )
    assert done.stderr.decode() == "4 False\n"
    header, *lines = done.stdout.decode().removesuffix("\n").split("\n")
    assert header == "ID\tlabel\tNEG\tNEU\tPOS"
    assert_predicted([line.split("\t") for line in lines], predictor, TWEETS)


def test_rows_from_a_pipe_are_answered_before_more_come(predictor: Predictor) -> None:
    code = (
        "import sys\n"
        "from twil.inference.predict_file import predict_events\n"
        "from twil.config.reading import Reading\n"
        "formats = {'reading': Reading('tsv'), 'output_format': 'tsv'}\n"
        "for event in predict_events('-', sys.argv[1], '-', **formats, window_rows=2):\n"
        "    sys.stdout.flush()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(predictor.bundle.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("ID\tTEXT\n1\thola\n2\tqué tal\n3\tbien\n")
    process.stdin.flush()
    head, *rows = [process.stdout.readline().split("\t")[0] for _ in range(3)]
    assert (head, rows) == ("ID", ["1", "2"])  # while standard input stays open
    process.stdin.close()
    assert [line.split("\t")[0] for line in process.stdout] == ["3"]
    assert process.wait(timeout=30) == 0


class TestSeveralFiles:
    """Three tables are read one behind another as if they were one."""

    @pytest.fixture
    def paths(self, tmp_path: Path) -> list[Path]:
        texts = [[f"{text} {place}" for text in TWEETS] for place in range(3)]
        return [write_tweets(tmp_path / f"{place}.tsv", texts[place]) for place in range(3)]

    def test_they_give_the_output_of_their_rows_in_one(
        self, predictor: Predictor, paths: list[Path], tmp_path: Path
    ) -> None:
        rows = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()[1:]]
        write(tmp_path / "one.tsv", "\n".join(["ID\tTEXT", *rows, ""]))
        one = run(tmp_path / "one.tsv", predictor, tmp_path / "expected.tsv", window_rows=5)
        several = run(paths, predictor, tmp_path / "out.tsv", window_rows=5)
        assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "expected.tsv").read_bytes()
        assert (several.rows, several.repeated) == (one.rows, one.repeated) == (12, 0)

    def test_the_one_that_changes_before_its_turn_is_named(
        self, predictor: Predictor, paths: list[Path], tmp_path: Path
    ) -> None:
        events = predict_events(paths, predictor, tmp_path / "out.tsv", window_rows=5)
        next(events)
        change(paths[2], "appended")
        with pytest.raises(DataError, match=r"2\.tsv: changed while it was read"):
            list(events)

    def test_retweets_are_found_across_files(self, predictor: Predictor, tmp_path: Path) -> None:
        paths = [write_tweets(tmp_path / f"{name}.tsv", ["RT: gol", name]) for name in "abc"]
        assert run(paths, predictor, tmp_path / "out.tsv").repeated == 2

    def test_the_start_tells_how_many_they_are(
        self, predictor: Predictor, paths: list[Path], tmp_path: Path
    ) -> None:
        started, *_ = predict_events(paths, predictor, tmp_path / "out.tsv")
        assert isinstance(started, RowsStarted)
        assert started.files == 3

    def test_a_column_tells_from_which_file_a_row_came(
        self, predictor: Predictor, paths: list[Path], tmp_path: Path
    ) -> None:
        run(paths, predictor, tmp_path / "out.tsv", file_column="label", keep=["TEXT"], window_rows=7)
        header, rows = read_tsv(tmp_path / "out.tsv")
        assert header == ["ID", "label", "TEXT", "predicted_label", "NEG", "NEU", "POS"]
        assert [row[1] for row in rows] == [str(path) for path in paths for _ in TWEETS]
        with pytest.raises(ConfigError, match=r"0\.tsv has a column 'TEXT': call that of the files"):
            run(paths, predictor, tmp_path / "out.tsv", file_column="TEXT")

    def test_a_bad_row_is_named_with_its_file(
        self, predictor: Predictor, paths: list[Path], tmp_path: Path
    ) -> None:
        paths[1].write_bytes(BROKEN)
        with pytest.raises(DataError, match=r"1\.tsv, line 3: 4 fields, expected 2"):
            run(paths, predictor, tmp_path / "out.tsv")
        assert not (tmp_path / "out.tsv").exists()
        summary = run(paths, predictor, tmp_path / "out.tsv", on_error="mark")
        header, rows = read_tsv(tmp_path / "out.tsv")
        assert (summary.rows, summary.marked, header[-1]) == (13, 2, "error")
        assert rows[5][-1] == f"{paths[1]}, line 3: 4 fields, expected 2" == summary.first_errors[0]
        summary = run(paths, predictor, tmp_path / "out.tsv", on_error="skip")
        assert (summary.rows, summary.skipped) == (11, 2)

    @pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "txt", "tsv.gz"])
    def test_they_may_be_of_any_format(self, predictor: Predictor, tmp_path: Path, ending: str) -> None:
        paths = []
        for place in range(3):
            paths.append(tmp_path / f"{place}.{ending}")
            with TableWriter(paths[-1], {"TEXT": str}) as writer:
                writer.write({"TEXT": [f"{text} {place}" for text in TWEETS]})
        assert run(paths, predictor, tmp_path / "out.tsv").rows == 12
        texts = [f"{text} {place}" for place in range(3) for text in TWEETS]
        assert_predicted(read_tsv(tmp_path / "out.tsv")[1], predictor, texts)

    def test_tables_of_nothing_but_a_header_add_nothing(
        self, predictor: Predictor, paths: list[Path], tmp_path: Path
    ) -> None:
        nothing = [write(tmp_path / f"nothing-{place}.tsv", "TEXT\tID\n") for place in range(2)]
        assert run([nothing[0], *paths, nothing[1]], predictor, tmp_path / "out.tsv").rows == 12
        assert run(nothing, predictor, tmp_path / "out.tsv").rows == 0

    def test_keys_that_are_not_read_may_differ_from_one_jsonl_to_another(
        self, predictor: Predictor, tmp_path: Path
    ) -> None:
        first = write(tmp_path / "a.jsonl", '{"id": 1, "TEXT": "uno", "lang": "es"}\n')
        second = write(tmp_path / "b.jsonl", '{"TEXT": "dos", "id": 2, "place": null}\n')
        run([first, second], predictor, tmp_path / "out.tsv")
        assert [row[0] for row in read_tsv(tmp_path / "out.tsv")[1]] == ["1", "2"]
        without = write(tmp_path / "c.jsonl", '{"TEXT": "tres"}\n')
        with pytest.raises(DataError, match=r"c\.jsonl: lacks the column 'id', unlike .*a\.jsonl"):
            run([first, without], predictor, tmp_path / "out.tsv")

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("x.tsv", "ID\tTEXT\tDATE\n1\thola\thoy\n", r"x\.tsv: has the column 'DATE', unlike .*0\.tsv"),
            ("x.tsv", "TEXT\nhola\n", r"x\.tsv: lacks the column 'ID', unlike .*0\.tsv"),
            ("x.tsv", "ID\tTWEET\n1\thola\n", r"x\.tsv: no column 'TEXT': the columns are ID, TWEET"),
            ("x.csv", "ID,TEXT\n1,hola\n", r"x\.csv: is csv, and .*0\.tsv is tsv: .* have one format"),
            ("x.tsv", "", r"x\.tsv: is empty"),
            ("x.doc", "", r"x\.doc: the ending of its name does not tell its format.*\(--input-format\)"),
            ("x.xlsx", "", r"x\.xlsx: spreadsheets are not read or written: take CSV"),
            (None, "", r"0\.tsv: is named twice, and its rows would be there twice: name it once"),
            ("none.tsv", None, r"none\.tsv: there is no such file"),
            ("qué bien", None, r"qué bien: there is no such file"),
            ("folder", None, r"folder: is a folder"),
            ("-", None, "- is a stream, which is read alone: save it to a file first"),
        ],
    )
    def test_one_that_does_not_fit_is_told_before_the_model_is_loaded(
        self, paths: list[Path], tmp_path: Path, name: str | None, content: str | None, said: str
    ) -> None:
        (tmp_path / "folder").mkdir()
        more = paths[0] if name is None else "-" if name == "-" else tmp_path / name
        if name and content is not None:
            write(tmp_path / name, content)
        before = set(tmp_path.iterdir())
        with pytest.raises(TwilError, match=said) as caught:
            run([*paths, more], tmp_path / "no bundle", tmp_path / "out.tsv")
        assert "\n" not in str(caught.value)
        assert set(tmp_path.iterdir()) == before

    def test_a_file_by_another_name_is_the_same_file(
        self, predictor: Predictor, paths: list[Path], tmp_path: Path
    ) -> None:
        (tmp_path / "link.tsv").symlink_to(paths[1])
        with pytest.raises(DataError, match=r"link\.tsv: is the same file as .*1\.tsv"):
            run([*paths, tmp_path / "link.tsv"], predictor, tmp_path / "out.tsv")

    def test_none_of_them_is_replaced(self, predictor: Predictor, paths: list[Path]) -> None:
        with pytest.raises(DataError, match=r"2\.tsv: the output would replace its input"):
            run(paths, predictor, paths[2])
        with pytest.raises(ConfigError, match="there is no table to read"):
            run([], predictor, paths[2].with_name("out.tsv"))

    def test_the_command_takes_them_and_their_shards(self, bundle: Path, paths: list[Path]) -> None:
        def labelled(*options: str) -> list[str]:
            arguments = [*map(str, paths), "-m", str(bundle), "--file-column", "file", "-q", *options]
            command = [sys.executable, "-m", "twil", "predict", *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

        header, *rows = labelled()
        assert (header, len(rows)) == ("ID\tfile\tlabel\tNEG\tNEU\tPOS", 12)
        assert [labelled("--shard", f"{number}/2")[1:] for number in (1, 2)] == [rows[:6], rows[6:]]

    def test_memory_does_not_grow_with_their_number(
        self, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(partial, "PART_ROWS", 500)
        texts = [f"hola {row % 7}" for row in range(200)]
        paths = [write_tweets(tmp_path / f"{place}.tsv", texts) for place in range(60)]

        def peak(count: int) -> int:
            tracemalloc.start()
            try:
                summary = run(paths[:count], predictor, tmp_path / "out.tsv", window_rows=150)
                assert summary.rows == count * len(texts)
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        peak(1)  # what is allocated only once
        assert peak(60) <= 1.5 * peak(8)


def test_memory_does_not_grow_with_the_table(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 12)  # so that the small table has many blocks too
    monkeypatch.setattr(partial, "PART_ROWS", 500)  # and many parts that are kept

    def peak(rows: int) -> int:
        source = write_tweets(tmp_path / f"{rows}.tsv", [f"hola {row % 7}" for row in range(rows)])
        tracemalloc.start()
        try:
            assert run(source, predictor, tmp_path / "out.tsv", window_rows=100).rows == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # what is allocated only once
    assert peak(16_000) <= 1.5 * peak(2_000)  # threads decide how many windows are there at once


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell the peak")
def test_resident_memory_does_not_grow_with_the_table(bundle: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from twil.inference.predict_file import predict_events\n"
        "*_, summary = predict_events(sys.argv[1], sys.argv[2], sys.argv[3], provider='cpu', threads=1)\n"
        # Not getrusage, whose peak begins with that of the process that started this one.
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "print(summary.rows, *(line.split()[1] for line in lines if line.startswith('VmHWM')))"
    )

    def peak(rows: int) -> int:
        source = write_tweets(tmp_path / f"{rows}.tsv", [f"hola {row % 7}" for row in range(rows)])
        command = [sys.executable, "-c", program, str(source), str(bundle), str(tmp_path / "out.tsv")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        predicted, kibibytes = map(int, done.stdout.split())
        assert predicted == rows
        return kibibytes

    assert peak(160_000) <= 1.2 * peak(16_000)  # either fills all windows that are held at once


def test_labels_are_names_in_the_models_order(predictor: Predictor, tmp_path: Path) -> None:
    run(write_tweets(tmp_path / "tweets.tsv", TWEETS), predictor, tmp_path / "out.tsv")
    header, rows = read_tsv(tmp_path / "out.tsv")
    assert tuple(header[2:]) == POLARITY.labels
    best = scores_of(rows).argmax(axis=1)
    assert [row[1] for row in rows] == [POLARITY.labels[index] for index in best]


@pytest.mark.parametrize("name", ["text", "texto", "tweet", "full_text", "content", "review"])
@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "parquet"])
def test_a_column_that_is_plainly_that_of_the_texts_is_taken_and_said(
    predictor: Predictor, tmp_path: Path, name: str, ending: str
) -> None:
    with TableWriter(tmp_path / f"t.{ending}", {"ID": str, name: str, "lang": str}) as writer:
        writer.write({"ID": ["a", "b", "c", "d"], name: TWEETS, "lang": ["es"] * 4})
    started, *_ = predict_events(tmp_path / f"t.{ending}", predictor, tmp_path / "out.tsv")
    assert isinstance(started, RowsStarted)
    assert started.found_text == name
    run(tmp_path / f"t.{ending}", predictor, tmp_path / "out.tsv", keep=[name])
    header, rows = read_tsv(tmp_path / "out.tsv")
    assert header == ["ID", name, "label", "NEG", "NEU", "POS"]
    assert_predicted(rows, predictor, TWEETS)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (
            "tweet\ttext\nx\ty\n",
            {},
            r"no column 'TEXT', and text and tweet may each hold .*: name one \(--text\)",
        ),
        ("Text\tID\nx\ty\n", {}, "no column 'TEXT': the columns are Text, ID; did you mean 'Text'"),
        ("tuit\tID\nx\ty\n", {}, r"no column 'TEXT': the columns are tuit, ID \(--text names the column\)$"),
        ("tweet\tID\nx\ty\n", {"text": "TEXT"}, "no column 'TEXT': the columns are tweet, ID"),
        ("tweet\tID\nx\ty\n", {"reading": Reading(header=False)}, "no column 'TEXT': the columns are 1, 2"),
        ("tweet\tID\nx\ty\n", {"text_pair": "text"}, "no column 'text'"),
    ],
)
def test_which_column_holds_the_texts_is_never_guessed(
    bundle: Path, tmp_path: Path, content: str, options: dict[str, Any], said: str
) -> None:
    source = write(tmp_path / "t.tsv", content)
    with pytest.raises(DataError, match=said):
        run(source, tmp_path / "no bundle", tmp_path / "out.tsv", **options)


def test_the_usual_column_and_a_named_one_come_first(predictor: Predictor, tmp_path: Path) -> None:
    source = write(tmp_path / "t.tsv", "text\tTEXT\treview\n" + "".join(f"x\t{text}\ty\n" for text in TWEETS))
    for options in ({}, {"text": "TEXT"}):
        started, *_ = predict_events(source, predictor, tmp_path / "out.tsv", **options)  # type: ignore[arg-type]
        assert isinstance(started, RowsStarted)
        assert started.found_text is None
        assert_predicted(read_tsv(tmp_path / "out.tsv")[1], predictor, TWEETS)


def test_tables_read_together_have_their_texts_in_one_column(predictor: Predictor, tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", '{"tweet": "hola"}\n')
    other = write(tmp_path / "b.jsonl", '{"text": "adiós"}\n')
    with pytest.raises(DataError, match=r"b\.jsonl: no column 'tweet'"):
        run([first, other], predictor, tmp_path / "out.tsv")
    both = write(tmp_path / "c.jsonl", '{"text": "no", "tweet": "adiós"}\n')
    run([first, both], predictor, tmp_path / "out.tsv")
    assert_predicted(read_tsv(tmp_path / "out.tsv")[1], predictor, ["hola", "adiós"])


def test_a_row_of_jsonl_without_the_column_that_was_found_is_a_bad_one(
    predictor: Predictor, tmp_path: Path
) -> None:
    source = write(tmp_path / "t.jsonl", '{"tweet": "hola"}\n{"text": "adiós"}\n')
    with pytest.raises(DataError, match="text and tweet may each hold the texts"):
        run(source, predictor, tmp_path / "out.tsv")
    with pytest.raises(DataError, match="line 2: no key 'tweet'"):
        run(source, predictor, tmp_path / "out.tsv", text="tweet")
    run(source, predictor, tmp_path / "out.tsv", text="tweet,text")
    assert_predicted(read_tsv(tmp_path / "out.tsv")[1], predictor, ["hola", "adiós"])


@pytest.mark.parametrize(
    "lines",
    [
        ["me encanta este barrio"],
        ["hola, mundo", "qué tal; bien", "", '"ya"', "último"],
        ["textos", "de prueba"],
        ["", "la primera línea está en blanco"],
        ["{ qué cosa }", "x\ty"],
    ],
)
def test_lines_from_a_pipe_without_a_header_are_texts(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: list[str]
) -> None:
    stream = io.TextIOWrapper(io.BytesIO("".join(f"{line}\n" for line in lines).encode()), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stream)
    started, *_ = predict_events("-", predictor, tmp_path / "out.tsv")
    assert isinstance(started, RowsStarted)
    assert started.bare
    header, rows = read_tsv(tmp_path / "out.tsv")
    assert header == ["label", "NEG", "NEU", "POS"]
    assert_predicted(rows, predictor, lines)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("TEXT\nhola\n", {}, None),
        ("tweet\nhola\n", {}, None),
        (" text \nhola\n", {}, None),
        ("ID\tTEXT\n1\thola\n", {}, None),
        ("mensaje\nhola\n", {"text": "mensaje"}, None),
        ("mensaje\tx\nhola\ty\n", {}, "no column 'TEXT': the columns are mensaje, x"),
        ("id,mensaje\n1,hola\n", {}, "no column 'TEXT': the columns are id,mensaje"),
        ("Text\nhola\n", {}, "no column 'TEXT': the columns are Text; did you mean"),
        ('x;"Tweet"\n1;hola\n', {}, "no column 'TEXT'"),
        ('{"text": "hola"}\n', {}, "no column 'TEXT'"),
        ("mensaje\nhola\n", {"keep": ["fecha"]}, "no column"),
        ("mensaje\nhola\n", {"id_column": "fecha"}, "no column"),
        ("mensaje\nhola\n", {"reading": Reading("tsv")}, "no column 'TEXT'"),
        ("mensaje\nhola\n", {"reading": Reading(header=False)}, "no column 'TEXT': the columns are 1"),
    ],
)
def test_what_may_be_a_header_is_never_taken_for_a_text(
    predictor: Predictor,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: str,
    options: dict[str, Any],
    said: str | None,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode()), encoding="utf-8"))
    if said is None:
        assert run("-", predictor, tmp_path / "out.tsv", **options).rows == 1
        assert_predicted(read_tsv(tmp_path / "out.tsv")[1], predictor, ["hola"])
    else:
        with pytest.raises(DataError, match=said):
            run("-", predictor, tmp_path / "out.tsv", **options)


def test_a_file_without_a_header_is_no_pipe(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'TEXT': the columns are hola"):
        run(write(tmp_path / "t.tsv", "hola\nadiós\n"), predictor, tmp_path / "out.tsv")


def test_cells_that_a_spreadsheet_computes_are_told_or_made_text(
    predictor: Predictor, tmp_path: Path
) -> None:
    cells = ["=HYPERLINK(1)", "@ana hola", "-1 punto", "+34 600", "-0,5 %", "hola =1", "-", ""]
    lines = "".join(f"{number}\t{cell}\tx\n" for number, cell in enumerate(cells))
    source = write(tmp_path / "in.tsv", f"ID\tnota\tTEXT\n{lines}")
    *_, summary = predict_events(source, predictor, tmp_path / "out.csv", keep=["nota"])
    assert (summary.rows, summary.formulas) == (8, 4)
    *_, summary = predict_events(source, predictor, tmp_path / "safe.csv", keep=["nota"], safe_cells=True)
    assert summary.formulas == 0
    found, safe = (
        [row["nota"] for row in csv.DictReader((tmp_path / name).open(encoding="utf-8", newline=""))]
        for name in ("out.csv", "safe.csv")
    )
    assert found == cells
    assert safe == ["'=HYPERLINK(1)", "'@ana hola", "'-1 punto", "+34 600", "-0,5 %", "hola =1", "'-", ""]
    *_, summary = predict_events(source, predictor, tmp_path / "out.tsv", keep=["nota"])
    assert summary.formulas == 0
    with pytest.raises(ConfigError, match=r"--safe-cells would have no effect on .*out\.tsv"):
        run(source, predictor, tmp_path / "out.tsv", safe_cells=True)
