"""Which words weighed: what is said of a text without each of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bundles import write_bundle
from tuning import twil_command

import twil
from twil.core.errors import ConfigError
from twil.core.task import Task


def test_a_words_weight_is_what_the_label_loses_without_it() -> None:
    text = "no me gusta  nada este barrio 😡"
    with twil.Predictor("sentiment") as predictor:
        found = predictor.explain(text)
        whole = predictor(text)
        assert (found.label, found.prediction) == (whole.label, whole)
        assert [word.word for word in found.words] == text.split()
        without = predictor("no me gusta  nada este barrio ").probabilities[whole.label]
        assert found.words[-1].weight == pytest.approx(whole.probabilities[whole.label] - without, abs=1e-6)
        other = predictor.explain(text, "positive")
        assert (other.label, other.prediction) == ("positive", whole)
        assert other.words != found.words
        with pytest.raises(ConfigError, match="no label 'joy': choose one of negative, neutral, positive"):
            predictor.explain(text, "joy")
    assert found.to_dict()["words"][0] == {"word": "no", "weight": found.words[0].weight}
    assert found._repr_html_().count("<span") == 7
    assert "&" not in found._repr_html_()


def test_words_of_both_texts_of_a_pair_and_numbers_are_explained(tmp_path: Path) -> None:
    pairs = write_bundle(tmp_path / "pairs", Task("class", ("a", "b"), pair=True))
    with twil.Predictor(pairs) as predictor:
        found = predictor.explain(("hola a todos", "<b>adiós</b>"))
        assert [word.word for word in found.words] == ["hola", "a", "todos", "<b>adiós</b>"]
        assert "&lt;b&gt;adiós" in found._repr_html_()
    number = write_bundle(tmp_path / "number", Task("regression", ("value",)))
    with twil.Predictor(number) as predictor:
        found = predictor.explain("hola a todos")
        assert found.label == ""
        assert found.prediction.value is not None
        assert len(found.words) == 3
        assert predictor.explain("").words == ()


def test_the_command_shows_words_and_writes_a_page(tmp_path: Path) -> None:
    page = tmp_path / "words.html"
    done = twil_command("explain", "qué <asco> de día", "--label", "negative", "-o", page)
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        *("negative", "word", "qué", "<asco>", "de", "día"),
    ]
    written = page.read_text(encoding="utf-8")
    assert "&lt;asco&gt;" in written
    assert "<script" not in written
    assert "color-mix(" in written
    again = twil_command("explain", "hola", "-o", page)
    assert (again.exit_code, "is there already" in again.stderr) == (1, True)
    told = json.loads(twil_command("explain", "hola", "--json").stdout)
    assert (told["text"], len(told["words"])) == ("hola", 1)
    assert twil_command("explain", "hola", "-o", "page.txt").exit_code == 1
