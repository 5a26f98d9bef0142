"""Which words weighed: each is left out alone, and weights are differences of the label's log-odds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from commands import Run, fails

from twil.core.errors import ConfigError, DataError
from twil.core.task import Task
from twil.inference.explanation import left_out, weigh_words, word_spans
from twil.inference.predictor import Predictor

TEXT = "qué  horror de lunes"
CLASSES = Task("class", ("NEG", "NEU", "POS"), temperature=2.0)
TAGS = Task("multi-label", ("ira", "pena"))
VALUE = Task("regression", ("intensidad",))
REPLIES = Task("class", ("NO", "SÍ"), pair=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "polarity", max_length=64)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "replies", REPLIES, max_length=64)


def test_each_word_is_left_out_with_the_blanks_behind_it() -> None:
    assert left_out(TEXT, 9) == [
        TEXT,
        "horror de lunes",
        "qué  de lunes",
        "qué  horror lunes",
        "qué  horror de",
    ]
    assert left_out(TEXT, 1) == [TEXT, "horror de lunes"]
    assert left_out(" \t", 9) == [" \t"]
    assert left_out(("a b", "c"), 9) == [("a b", "c"), ("b", "c"), ("a", "c"), ("a b", "")]


@pytest.mark.parametrize("task", [CLASSES, TAGS, VALUE])
def test_a_weight_is_what_the_log_odds_or_the_value_lose(task: Task) -> None:
    logits = np.random.default_rng(0).normal(size=(5, task.outputs)).astype(np.float32)
    found = weigh_words(task, TEXT, logits, 9, label=task.labels[-1])
    scores = task.probabilities(logits)[:, -1].astype(np.float64)
    odds = scores if task.kind == "regression" else np.log(scores / (1 - scores))
    np.testing.assert_allclose([word.weight for word in found.words], odds[0] - odds[1:], rtol=1e-4)
    np.testing.assert_allclose([word.without for word in found.words], scores[1:])
    assert (found.label, found.score) == (task.labels[-1], pytest.approx(scores[0]))
    assert "".join(text for text, _ in word_spans(found, 0)) == TEXT
    assert [word.text for _, word in word_spans(found, 0) if word] == TEXT.split()
    heavy = found.heaviest(2)
    assert abs(heavy[0].weight) >= abs(heavy[1].weight) >= min(abs(word.weight) for word in found.words)


def test_the_label_that_a_threshold_decides_is_explained() -> None:
    logits = np.array([[0.5, 0.0], [0.0, 0.0]], dtype=np.float32)
    assert weigh_words(Task("class", ("NO", "SÍ"), thresholds=(0.3,)), "sí", logits, 9).label == "SÍ"
    with pytest.raises(ConfigError, match="there is no label 'QUIZÁ' to explain: choose one of NO, SÍ"):
        weigh_words(REPLIES, "sí", logits, 9, label="QUIZÁ")


def test_a_predictor_explains_texts_and_pairs(bundle: Path, pairs: Path) -> None:
    with Predictor(bundle, provider="cpu") as predictor:
        found = predictor.explain(TEXT)
        label = found.label
        assert label == predictor(TEXT).label
        for word, text in zip(found.words, left_out(TEXT, 9)[1:], strict=True):
            assert word.without == pytest.approx(predictor(text).probabilities[label], abs=1e-6)
        assert predictor.explain("").words == ()
        assert predictor.explain("sí " * 90).truncated
        assert len(predictor.explain("sí " * 90).words) == 64  # as many as the model reads tokens
        assert json.loads(json.dumps(found.to_dict()))["words"][1]["text"] == "horror"
        assert "&lt;b&gt;" in predictor.explain("qué <b> lunes")._repr_html_()
        with pytest.raises(DataError, match="item 0"):
            predictor.explain(3)  # type: ignore[arg-type]
    with Predictor(pairs, provider="cpu") as predictor:
        both = predictor.explain(("vienes hoy", "no puedo"))
        assert [(word.part, word.start) for word in both.words] == [(0, 0), (0, 7), (1, 0), (1, 3)]


def test_the_command_tells_words_on_a_page_in_a_table_and_as_json(
    run: Run, tmp_path: Path, bundle: Path
) -> None:
    page, table = tmp_path / "words.html", tmp_path / "words.csv"
    rows = tmp_path / "tweets.tsv"
    rows.write_text("ID\tTEXT\n1\tqué horror <b>\n2\tni fu ni fa\n3\tbien\n", encoding="utf-8")
    code, out, err = run("explain", "--file", rows, "--limit", 2, "-m", bundle, "-o", page)
    assert (code, out) == (0, "")
    assert "the first 2 rows alone are explained" in err
    written = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;" in written
    assert ">fu</span>" in written
    assert "<b>" not in written
    assert run("explain", TEXT, "-m", bundle, "-o", table)[0] == 0
    assert len(table.read_text(encoding="utf-8").splitlines()) == 5
    fails(run("explain", TEXT, "-m", bundle, "-o", table), "--force")
    told = json.loads(run("explain", TEXT, "-m", bundle, "--label", "NEU", "--json")[1])
    assert (told["label"], len(told["words"])) == ("NEU", 4)
    assert "--file explains its rows" in run("explain", f"{rows}", "-m", bundle)[2]
    assert run("explain", TEXT, "-m", bundle)[1].startswith(
        "row\tpart\tword\tlabel\tweight\tscore\twithout\n"
    )


def test_the_command_takes_two_texts_for_a_pair(run: Run, pairs: Path) -> None:
    assert run("explain", "vienes hoy", "no", "-m", pairs)[1].count("\n") == 4
    fails(run("explain", "vienes hoy", "-m", pairs), "takes pairs of texts, and 1 are given")
    fails(run("explain", "-m", pairs), "give either texts, each in quotes, or a table of them (--file)")
    fails(run("explain", "a", "b", "-m", pairs, "-o", "words.pdf"), "does not tell its format")
