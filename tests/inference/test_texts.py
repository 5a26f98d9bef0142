"""What Python may give as texts: every kind has one meaning, and what has none is refused by its type."""

from __future__ import annotations

import collections
import enum
import io
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bundles import HIDDEN, POLARITY, write_bundle

from twil.core.errors import DataError
from twil.core.task import Task
from twil.inference import engine as engine_module
from twil.inference.embedder import Embedder
from twil.inference.predictor import Predictor

TWEETS = ["¡Qué partidazo! 😀", "ni fu ni fa", "", "qué horror de lunes, otra vez llueve", "sí"]
IDS = [10**17 + row for row in range(len(TWEETS))]
REPLIES = Task("class", ("NO", "SÍ"), pair=True)
NOT_UTF8 = pa.StringArray.from_buffers(
    2, pa.array([0, 4, 6], pa.int32()).buffers()[1], pa.py_buffer("solosí".encode("latin-1"))
)

Tweet = enum.Enum("Tweet", [(f"T{row}", text) for row, text in enumerate(TWEETS)], type=str)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(write_bundle(tmp_path_factory.mktemp("bundles") / "polarity"), provider="cpu")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder(write_bundle(tmp_path_factory.mktemp("bundles") / "encoder", None), provider="cpu")


@pytest.fixture(scope="module")
def pair_predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = write_bundle(tmp_path_factory.mktemp("bundles") / "replies", REPLIES)
    return Predictor(folder, provider="cpu", text="tweet", text_pair="reply")


@pytest.fixture(params=["predictor", "logits", "embedder", "tokens"])
def answer(request: pytest.FixtureRequest, predictor: Predictor, embedder: Embedder) -> Callable[[Any], Any]:
    """Give each of the ways in which texts are taken."""
    ways = {
        "predictor": predictor,
        "logits": predictor.predict_logits,
        "embedder": embedder,
        "tokens": embedder.tokens,
    }
    return ways[request.param]


def pandas() -> Any:
    return pytest.importorskip("pandas", reason="the extra dev brings it")


def polars() -> Any:
    return pytest.importorskip("polars", reason="the extra dev brings it")


def series(**options: Any) -> Callable[[list[str]], Any]:
    return lambda texts: pandas().Series(texts, **options)


SEVERAL: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "queue": collections.deque,
    "generator": lambda texts: (text for text in texts),
    "keys of a dict": lambda texts: dict.fromkeys(texts).keys(),
    "values of a dict": lambda texts: dict(enumerate(texts)).values(),
    "texts that an enumeration names": lambda texts: list(Tweet),
    "NumPy array": np.array,
    "NumPy array of objects": lambda texts: np.array(texts, dtype=object),
    "NumPy array of any lengths": lambda texts: np.array(texts, dtype=np.dtypes.StringDType()),
    "NumPy array with a mask": np.ma.array,
    "Arrow array": pa.array,
    "Arrow array, large": lambda texts: pa.array(texts, pa.large_string()),
    "Arrow array of views": lambda texts: pa.array(texts, pa.string_view()),
    "Arrow array with a dictionary": lambda texts: pa.array(texts).dictionary_encode(),
    "Arrow array in chunks": lambda texts: pa.chunked_array([texts[:2], texts[2:]]),
    "Arrow scalars": lambda texts: list(pa.array(texts)),
    "pandas series": series(),
    "pandas series of objects": series(dtype=object),
    "pandas series that may lack texts": series(dtype="string"),
    "pandas series of Arrow": lambda texts: series(dtype=pandas().ArrowDtype(pa.string()))(texts),
    "pandas series of categories": series(dtype="category"),
    "pandas series with labels": series(index=["columns", "column_names", "readline", "as_py", "x"]),
    "pandas index": lambda texts: pandas().Index(texts),
    "polars series": lambda texts: polars().Series(texts),
    "polars series of categories": lambda texts: polars().Series(texts, dtype=polars().Categorical),
}


@pytest.mark.parametrize("gather", SEVERAL.values(), ids=SEVERAL)
def test_whatever_holds_texts_one_after_another_is_taken(
    predictor: Predictor, embedder: Embedder, gather: Callable[[list[str]], Any]
) -> None:
    predictions = predictor(gather(TWEETS))
    assert [said.label for said in predictions] == [predictor(text).label for text in TWEETS]
    assert predictions == predictor(TWEETS)
    np.testing.assert_array_equal(predictor.predict_logits(gather(TWEETS)), predictor.predict_logits(TWEETS))
    np.testing.assert_array_equal(embedder(gather(TWEETS)), embedder(TWEETS))
    assert [text.tokens for text in embedder.tokens(gather(TWEETS))] == [
        text.tokens for text in embedder.tokens(TWEETS)
    ]


TABLES: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "dict": dict,
    "dict of arrays": lambda columns: {name: np.array(cells) for name, cells in columns.items()},
    "mapping": types.MappingProxyType,
    "pandas data frame": lambda columns: pandas().DataFrame(columns, index=[7, 7, 3, 1, 1]),
    "polars data frame": lambda columns: polars().DataFrame(columns),
    "Arrow table": pa.table,
    "Arrow batch": pa.RecordBatch.from_pydict,
}


@pytest.mark.parametrize("gather", TABLES.values(), ids=TABLES)
def test_the_texts_of_a_table_are_those_of_a_column(
    predictor: Predictor, embedder: Embedder, gather: Callable[[dict[str, list[Any]]], Any]
) -> None:
    """The other columns come before and behind it, and one of them is called as the predictions are."""
    table = gather({"ID": IDS, "TEXT": TWEETS, "label": ["x"] * 5, "text": ["otro"] * 5})
    columns = predictor(table)
    assert list(columns) == ["ID", "TEXT", "label", "text", "predicted_label", *POLARITY.labels]
    for name in ("ID", "TEXT", "label", "text"):
        assert type(columns[name]) is type(table[name])
        assert list(columns[name]) == list(table[name])
    assert columns["predicted_label"].tolist() == [said.label for said in predictor(TWEETS)]
    logits = predictor.predict_logits(TWEETS)
    np.testing.assert_array_equal(predictor.predict_logits(table), logits)
    np.testing.assert_array_equal(
        np.stack([columns[label] for label in POLARITY.labels], axis=1), POLARITY.probabilities(logits)
    )
    np.testing.assert_array_equal(embedder(table), embedder(TWEETS))
    assert [text.tokens for text in embedder.tokens(table)] == [
        text.tokens for text in embedder.tokens(TWEETS)
    ]


@pytest.mark.parametrize(
    "convert",
    [
        lambda table: table,
        lambda table: pandas().DataFrame(table.to_pandas(integer_object_nulls=True)),
        lambda table: polars().from_arrow(table),
    ],
    ids=["Arrow", "pandas", "polars"],
)
def test_a_table_of_the_same_kind_is_made_of_what_is_given_back(
    predictor: Predictor, convert: Callable[[Any], Any]
) -> None:
    ids = [*IDS[:4], None]  # numbers that no float holds, beside a missing one
    table = convert(pa.table({"ID": ids, "TEXT": TWEETS}))
    make: Any = pa.table if isinstance(table, pa.Table) else type(table)
    made = pa.table(make(predictor(table))).to_pydict()
    assert (list(made), made["ID"]) == (["ID", "TEXT", "label", *POLARITY.labels], ids)
    assert made["label"] == [said.label for said in predictor(TWEETS)]


@pytest.mark.parametrize("gather", TABLES.values(), ids=TABLES)
def test_pairs_are_those_of_two_columns(
    pair_predictor: Predictor, gather: Callable[[dict[str, list[Any]]], Any]
) -> None:
    columns = pair_predictor(gather({"reply": TWEETS[::-1], "TEXT": TWEETS, "tweet": TWEETS}))
    pairs = list(zip(TWEETS, TWEETS[::-1], strict=True))
    assert columns["label"].tolist() == [said.label for said in pair_predictor(pairs)]


@pytest.mark.parametrize(
    "gather",
    [
        lambda pairs: map(list, pairs),
        lambda pairs: dict(pairs).items(),
        np.array,
        lambda pairs: np.array(pairs, dtype=object),
        lambda pairs: pa.array(list(map(list, pairs))),
        lambda pairs: pandas().Series(pairs),
        lambda pairs: pandas().DataFrame(pairs, columns=["a", "b"]).itertuples(index=False),
    ],
    ids=["lists", "items of a dict", "NumPy", "NumPy, objects", "Arrow", "pandas series", "pandas rows"],
)
def test_whatever_holds_pairs_is_taken(pair_predictor: Predictor, gather: Callable[[Any], Any]) -> None:
    pairs = [("¿vienes?", "sí"), ("llueve", "qué rabia"), ("", "nada")]
    assert pair_predictor(gather(pairs)) == pair_predictor(pairs)


def test_columns_have_to_be_as_many_as_texts(predictor: Predictor, pair_predictor: Predictor) -> None:
    for folder, options, said in (
        (pair_predictor.bundle.folder, {}, "takes pairs of texts: name text_pair"),
        (predictor.bundle.folder, {"text_pair": "reply"}, "takes single texts: leave out text_pair"),
    ):
        with pytest.raises(DataError, match=said):
            Predictor(folder, provider="cpu", **options)({"TEXT": ["hola"], "reply": ["sí"]})
    with pytest.raises(
        DataError, match="takes single texts: leave out text_pair"
    ):  # whatever it is called with
        Predictor(predictor.bundle.folder, provider="cpu", text_pair="reply")


MISSING: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "NaN": lambda: float("nan"),
    "NaN of NumPy": lambda: np.float32("nan"),
    "mask of NumPy": lambda: np.ma.masked,
    "null of Arrow": lambda: pa.scalar(None, pa.string()),
    "NA of pandas": lambda: pandas().NA,
    "NaT of pandas": lambda: pandas().NaT,
}


@pytest.mark.parametrize("make", MISSING.values(), ids=MISSING)
def test_a_missing_text_is_named_by_its_place(
    answer: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    monkeypatch.setattr(engine_module, "WINDOW_ROWS", 3)  # the place is counted through all windows
    with pytest.raises(DataError, match=r"^item 4 is missing \(.*takes a text \(str\): replace it"):
        answer([*TWEETS[:4], make(), "y más"])
    with pytest.raises(DataError, match=r"^row 4 of column 'TEXT' is missing \("):
        answer({"ID": range(6), "TEXT": [*TWEETS[:4], make(), "y más"]})


@pytest.mark.parametrize(
    "name", [name for name in SEVERAL if name.startswith(("Arrow", "pandas s", "polars"))]
)
def test_a_text_that_a_series_lacks_is_missing(predictor: Predictor, name: str) -> None:
    with pytest.raises(DataError, match=r"^item 1 is missing \("):
        predictor(SEVERAL[name]([*TWEETS[:1], None, *TWEETS[2:]]))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (b"hola", r"a bytes \(b'hola'\)"),
        (7, r"an int \(7\)"),
        (("hola", "adiós"), r"a tuple \(\('hola', 'adiós'\)\)"),
        (["una", "dos"], r"a list"),
        (np.array(["una", "dos"]), r"a list"),
        ({"TEXT": "hola"}, r"a dict"),
        (pa.table({"TEXT": ["una", "dos"]}), r"a Table"),
        (pa.scalar(b"hola"), r"a bytes \(b'hola'\)"),
        (NOT_UTF8[1], r"a bytes \(b's\\xed'\)"),
    ],
)
def test_an_item_that_is_no_text_is_named_by_place_and_type(
    answer: Callable[[Any], Any], item: object, said: str
) -> None:
    with pytest.raises(DataError, match=rf"^item 2 is {said}.*, and this model takes a text [^\n]*$"):
        answer([*TWEETS[:2], item])
    with pytest.raises(DataError, match=rf"^row 0 of column 'TEXT' is {said}.*, and this model takes a text"):
        answer({"TEXT": [item]})


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("solo", "item 1 is a str"),
        (("uno",), "item 1 is a tuple"),
        (("a", "b", "c"), "item 1 is a tuple"),
        (None, "item 1 is missing"),
        (("a", None), "the second text of item 1 is missing"),
        ((3, "b"), r"the first text of item 1 is an int \(3\)"),
    ],
)
def test_what_is_no_pair_is_refused(pair_predictor: Predictor, item: object, said: str) -> None:
    with pytest.raises(DataError, match=f"^{said}.* takes a pair of texts"):
        pair_predictor([("¿vienes?", "sí"), item])


@pytest.mark.parametrize(
    ("broken", "which"), [("sí \ud83d", "U+D83D"), ("\ude00no", "U+DE00"), ("\udced", "U+DCED")]
)
def test_half_a_character_is_called_so(
    answer: Callable[[Any], Any], pair_predictor: Predictor, broken: str, which: str
) -> None:
    said = re.escape(
        f" holds half a character (a lone surrogate, {which}), which no encoding can write: replace"
    )
    with pytest.raises(DataError, match=f"^item 0{said}"):
        answer(broken)
    for several in (list, np.array, series(dtype=object)):
        with pytest.raises(DataError, match=f"^item 5{said}"):
            answer(several([*TWEETS, broken]))
    with pytest.raises(DataError, match=f"^row 5 of column 'TEXT'{said}"):
        answer({"TEXT": [*TWEETS, broken]})
    with pytest.raises(DataError, match=f"^the second text of item 1{said}"):
        pair_predictor([("¿vienes?", "sí"), ("¿vienes?", broken)])
    with pytest.raises(DataError, match=f"^row 0 of column 'reply'{said}"):
        pair_predictor({"tweet": ["¿vienes?"], "reply": [broken]})


@pytest.mark.parametrize(
    "given",
    [
        None,
        7,
        np.array("hola"),
        b"hola",
        bytearray(b"hola"),
        memoryview(b"hola"),
        Path("tweets.tsv"),
        pa.scalar("hola"),
        str,
        len,
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_holds_no_texts_is_refused_by_its_type(answer: Callable[[Any], Any], given: object) -> None:
    said = rf"^an? {type(given).__name__} \(.*\) was given in place of texts: give a text \(str\), a list"
    with pytest.raises(DataError, match=said):
        answer(given)


def test_a_frame_that_is_still_to_be_computed_is_refused(answer: Callable[[Any], Any]) -> None:
    with pytest.raises(DataError, match=r"^a LazyFrame .* in place of texts"):
        answer(polars().LazyFrame({"TEXT": TWEETS}))


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_is_refused_as_it_has_no_order(answer: Callable[[Any], Any], kind: type) -> None:
    with pytest.raises(DataError, match=f"^a {kind.__name__} .* has no order.*give a list"):
        answer(kind(TWEETS))


def test_an_open_file_is_refused_as_it_may_be_a_table(answer: Callable[[Any], Any], tmp_path: Path) -> None:
    table = tmp_path / "tweets.tsv"
    table.write_text("ID\tTEXT\n1\thola\n", encoding="utf-8")
    with table.open(encoding="utf-8") as lines, table.open("rb") as content:
        for file in (lines, content, io.StringIO("hola\n")):
            with pytest.raises(DataError, match=r"may hold texts or a table: give the list of its lines"):
                answer(file)
        answer(list(lines))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"TEXT": "hola"}, r"column 'TEXT' is a str \('hola'\).*give one text as it is"),
        ({"text": "hola"}, r"column 'text' is a str"),
        ({"ID": "7", "TEXT": ["hola"]}, r"column 'ID' is a str"),
        ({"TEXT": b"hola"}, r"column 'TEXT' is a bytes"),
        ({"TEXT": None}, r"column 'TEXT' is a NoneType"),
        ({"TEXT": np.array("hola")}, r"column 'TEXT' is a ndarray"),
        ({"TEXT": {0: "hola"}}, r"column 'TEXT' is a dict"),
        ({"ID": {1, 2}, "TEXT": ["a", "b"]}, r"column 'ID' is a set"),
        ({"TEXT": iter(TWEETS)}, r"column 'TEXT' is a list_iterator"),
        ({"ID": [1], "TEXT": ["a", "b"]}, r"column 'ID' has 1 cells, and column 'TEXT' has 2"),
        (
            {"ID": [1], "Text": ["hola"]},
            r"no column 'TEXT': the columns are ID, Text; did you mean 'Text'\? \(text=",
        ),
        (
            {"tweet": ["a"], "text": ["b"], "ID": [1]},
            r"no column 'TEXT', and text and tweet may each hold the texts: name one \(text=",
        ),
        ({1: ["hola"]}, r"no column 'TEXT': the columns are 1"),
        ({}, r"no column 'TEXT': the columns are none"),
    ],
)
def test_columns_without_texts_are_refused_with_what_is_wrong(
    answer: Callable[[Any], Any], columns: dict[Any, Any], said: str
) -> None:
    with pytest.raises(DataError, match=f"^{said}"):
        answer(columns)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pa.table([["a"], ["b"]], names=["TEXT", "TEXT"]), "more than one column is called 'TEXT'"),
        (
            lambda: pandas().DataFrame([["a", "b"]], columns=["TEXT", "TEXT"]),
            "more than one column is called",
        ),
        (lambda: pandas().DataFrame(TWEETS), "no column 'TEXT': the columns are 0 "),
        (lambda: pandas().DataFrame({"TEXT": [1.5]}), r"row 0 of column 'TEXT' is a float \(1.5\)"),
        (
            lambda: pandas().DataFrame({"TEXT": ["a", None]}, index=[8, 9]),
            "row 1 of column 'TEXT' is missing",
        ),
        (lambda: polars().DataFrame({"TEXT": ["a", None]}), "row 1 of column 'TEXT' is missing"),
        (lambda: polars().DataFrame({"tuit": ["a"]}), "no column 'TEXT': the columns are tuit"),
        (lambda: pa.table({"TEXT": NOT_UTF8}), "row 1 of column 'TEXT' is a bytes"),
    ],
)
def test_so_are_tables(answer: Callable[[Any], Any], make: Callable[[], Any], said: str) -> None:
    with pytest.raises(DataError, match=f"^{said}"):
        answer(make())


@pytest.mark.parametrize("name", ["text", "texto", "tweet", "full_text", "content", "review"])
def test_a_column_that_is_plainly_that_of_the_texts_need_not_be_named(
    predictor: Predictor, embedder: Embedder, name: str
) -> None:
    table = pa.table({"ID": [str(row) for row in range(5)], name: TWEETS})
    np.testing.assert_array_equal(predictor.predict_logits(table), predictor.predict_logits(TWEETS))
    np.testing.assert_array_equal(embedder(table), embedder(TWEETS))
    assert list(predictor(table)) == ["ID", name, "label", "NEG", "NEU", "POS"]


def test_a_column_of_texts_that_is_named_or_called_as_usual_is_not_second_guessed(
    predictor: Predictor,
) -> None:
    table = pa.table({"text": ["otro"] * 5, "TEXT": TWEETS, "review": ["más"] * 5})
    np.testing.assert_array_equal(predictor.predict_logits(table), predictor.predict_logits(TWEETS))
    named = Predictor(predictor.bundle.folder, provider="cpu", text="TEXT")
    with pytest.raises(DataError, match="no column 'TEXT': the columns are text;"):
        named({"text": TWEETS})


def test_the_column_may_have_any_name(predictor: Predictor, embedder: Embedder) -> None:
    table = pa.table({"TEXT": ["otro"] * 5, "tweet": TWEETS})
    named = Predictor(predictor.bundle.folder, provider="cpu", text="tweet")
    np.testing.assert_array_equal(named.predict_logits(table), predictor.predict_logits(TWEETS))
    with Embedder(embedder.bundle.folder, provider="cpu", text="tweet") as opened:
        np.testing.assert_array_equal(opened(table), embedder(TWEETS))


@pytest.mark.parametrize(
    "make",
    [
        list,
        lambda: iter(()),
        lambda: np.array([]),
        lambda: pa.array([], pa.string()),
        lambda: pandas().Series([], dtype=str),
        lambda: polars().Series([], dtype=polars().String),
    ],
)
def test_no_texts_give_no_results(predictor: Predictor, embedder: Embedder, make: Callable[[], Any]) -> None:
    assert predictor(make()) == embedder.tokens(make()) == []
    assert predictor.predict_logits(make()).shape == (0, 3)
    assert embedder(make()).shape == (0, HIDDEN)


@pytest.mark.parametrize("gather", TABLES.values(), ids=TABLES)
def test_no_rows_give_columns_without_any(
    predictor: Predictor, embedder: Embedder, gather: Callable[[dict[str, list[Any]]], Any]
) -> None:
    table = gather({"TEXT": TWEETS, "ID": IDS})
    nothing = {name: table[name][:0] for name in ("TEXT", "ID")} if isinstance(table, Mapping) else table[:0]
    columns = predictor(nothing)
    assert {name: len(cells) for name, cells in columns.items()} == dict.fromkeys(
        ["TEXT", "ID", "label", *POLARITY.labels], 0
    )
    assert (columns["label"].dtype.kind, columns["POS"].dtype) == ("U", np.float32)
    assert embedder(nothing).shape == (0, HIDDEN)
