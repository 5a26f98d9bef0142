"""The predictor: what it takes, what it refuses, and that no text depends on its neighbours."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from bundles import POLARITY, expected_logits, make_tokenizer, write_bundle, write_manifest
from hypothesis import given
from hypothesis import strategies as st

from twil.core.errors import ModelError, ProviderError
from twil.core.task import Task
from twil.data.batching import Batch
from twil.inference import engine as engine_module
from twil.inference.predictor import Prediction, Predictor
from twil.text.tokenizer import encode, save_tokenizer

TWEETS = [
    "¡Qué partidazo! 😀",
    "ni fu ni fa",
    "@ana mira https://t.co/x",
    "qué horror de lunes, otra vez llueve y no hay metro",
    "",
    "año",
    "sí",
]
REPLIES = Task("class", ("NO", "SÍ"), pair=True)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(write_bundle(tmp_path_factory.mktemp("bundles") / "polarity"), provider="cpu")


def test_logits_are_those_computed_row_by_row(predictor: Predictor) -> None:
    ids = encode(make_tokenizer(32), TWEETS).input_ids
    expected = expected_logits(0, POLARITY, [(row, [0] * len(row)) for row in ids])
    logits = predictor.predict_logits(TWEETS)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_batches_side_by_side_give_what_they_give_one_by_one(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twil.core.machine.available_cpus", lambda: 4)
    texts = [f"{text} {number}" for number in range(40) for text in TWEETS]
    beside = Predictor(predictor.bundle.folder, provider="cpu", threads=3, batch_tokens=64, side_by_side=True)
    assert (predictor.workers, beside.workers, beside.session.threads) == (1, 3, 1)
    np.testing.assert_allclose(beside.predict_logits(texts), predictor.predict_logits(texts), atol=1e-5)
    again = [beside.predict_logits(texts).tobytes() for _ in range(3)]
    assert len(set(again)) == 1


def test_an_error_in_one_of_the_batches_is_raised_and_the_rest_left_out(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = Predictor(predictor.bundle.folder, threads=2, batch_tokens=40, side_by_side=True)
    run, runs = beside.session.run, []

    def failing(batch: Batch) -> dict[str, np.ndarray]:
        runs.append(batch)
        if len(runs) == 3:
            raise ModelError("memory ran out")
        return run(batch)

    monkeypatch.setattr(beside.session, "run", failing)
    with pytest.raises(ModelError, match="memory ran out"):
        beside([f"{text} {number}" for number in range(2_000) for text in TWEETS])
    assert len(runs) < 2_000  # of over 3,000: how soon the other thread learns of it is the machine's affair


def test_a_prediction_has_names_and_probabilities_that_sum_to_one(predictor: Predictor) -> None:
    prediction = predictor("¡Qué partidazo!")
    assert isinstance(prediction, Prediction)
    assert set(prediction.probabilities) == {"NEG", "NEU", "POS"}
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
    best = max(prediction.probabilities, key=prediction.probabilities.__getitem__)
    assert (prediction.label, prediction.labels, prediction.value) == (best, (best,), None)
    assert prediction.probability == prediction.probabilities[best]


@given(
    texts=st.lists(st.text(alphabet="aáñ ¡😀url@#\n\t", max_size=60), min_size=1, max_size=20),
    batch_tokens=st.sampled_from([1, 40, 64 * 32]),
)
def test_a_text_is_judged_alike_alone_and_among_any_neighbours(
    predictor: Predictor, texts: list[str], batch_tokens: int
) -> None:
    alone = np.concatenate([predictor.predict_logits([text]) for text in texts])
    predictor.batch_tokens, before = batch_tokens, predictor.batch_tokens
    try:
        together = predictor.predict_logits(texts)
    finally:
        predictor.batch_tokens = before
    np.testing.assert_allclose(POLARITY.probabilities(together), POLARITY.probabilities(alone), atol=1e-5)


def test_a_newline_at_the_end_changes_nothing(predictor: Predictor) -> None:
    with_newlines = predictor.predict_logits([f"{text}\n" for text in TWEETS])
    np.testing.assert_allclose(with_newlines, predictor.predict_logits(TWEETS), atol=1e-5)


def test_a_shuffled_list_gives_the_shuffled_predictions(predictor: Predictor) -> None:
    order = np.random.default_rng(7).permutation(len(TWEETS))
    shuffled = predictor.predict_logits([TWEETS[index] for index in order])
    np.testing.assert_allclose(shuffled, predictor.predict_logits(TWEETS)[order], atol=1e-5)


def test_a_closed_predictor_says_so(predictor: Predictor) -> None:
    with Predictor(predictor.bundle.folder, provider="cpu") as opened:
        assert opened.warm_up() > 0
        assert opened("hola").label in POLARITY.labels
    with pytest.raises(ModelError, match="was closed"):
        opened("hola")


def test_a_text_has_one_row_of_logits(predictor: Predictor) -> None:
    assert np.array_equal(predictor.predict_logits("hola"), predictor.predict_logits(["hola"]))


def test_windows_are_joined_in_order(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predictor.predict_logits(TWEETS)
    monkeypatch.setattr(engine_module, "WINDOW_ROWS", 3)
    np.testing.assert_allclose(predictor.predict_logits(iter(TWEETS)), whole, atol=1e-5)


def test_a_text_behind_the_maximum_is_cut_and_says_so(predictor: Predictor) -> None:
    long = predictor("a" * 31)
    assert long.truncated
    assert not predictor("a" * 30).truncated
    assert long.probabilities == pytest.approx(predictor("a" * 30).probabilities)


@pytest.fixture(scope="module")
def pair_predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = write_bundle(tmp_path_factory.mktemp("bundles") / "replies", REPLIES, seed=5)
    return Predictor(folder, provider="cpu")


def test_logits_of_pairs_follow_the_segments(pair_predictor: Predictor) -> None:
    pairs = [("¿vienes?", "sí"), ("llueve", "qué rabia, otra vez"), ("", "nada")]
    encoded = encode(make_tokenizer(32), pairs)
    assert encoded.segment_ids is not None
    expected = expected_logits(5, REPLIES, list(zip(encoded.input_ids, encoded.segment_ids, strict=True)))
    for given_pairs in (pairs, [list(pair) for pair in pairs], np.array(pairs)):
        np.testing.assert_allclose(pair_predictor.predict_logits(given_pairs), expected, atol=1e-5)


def test_several_labels_may_hold_or_none(tmp_path: Path) -> None:
    task = Task("multi-label", ("ira", "alegría", "miedo"))
    predictor = Predictor(write_bundle(tmp_path / "bundle", task), provider="cpu")
    predictions = predictor(TWEETS)
    assert {len(prediction.labels) for prediction in predictions} > {1}
    for prediction in predictions:
        holds = tuple(name for name, value in prediction.probabilities.items() if value >= 0.5)
        assert prediction.labels == holds
        assert prediction.label == "|".join(holds)
        assert prediction.probability is None


def test_a_regression_gives_its_number(tmp_path: Path) -> None:
    predictor = Predictor(write_bundle(tmp_path / "bundle", Task("regression", ("humor",))), provider="cpu")
    prediction = predictor(TWEETS[0])
    assert prediction.value == pytest.approx(predictor.predict_logits(TWEETS[:1]).item())
    assert prediction.value == pytest.approx(float(prediction.label), rel=1e-4)
    assert (prediction.probability, prediction.probabilities, prediction.labels) == (None, {}, ())


def test_an_encoder_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is an encoder.*twil finetune"):
        Predictor(write_bundle(tmp_path / "bundle", None))


def test_a_tokenizer_that_cuts_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", max_length=32)
    save_tokenizer(make_tokenizer(64), folder / "tokenizer.json")
    with pytest.raises(ModelError, match="SHA-256"):
        Predictor(folder)
    write_manifest(folder, POLARITY, 32)
    with pytest.raises(ModelError, match="cuts at 64 tokens, and the model reads 32"):
        Predictor(folder)


def test_a_bundle_moved_elsewhere_predicts_the_same(tmp_path: Path, predictor: Predictor) -> None:
    write_bundle(tmp_path / "here").rename(tmp_path / "ahí 2")
    moved = Predictor(tmp_path / "ahí 2", provider="cpu")
    assert np.array_equal(moved.predict_logits(TWEETS), predictor.predict_logits(TWEETS))


@pytest.mark.parametrize("side_by_side", [False, True])
@pytest.mark.parametrize("threads", [0, -2])
def test_no_threads_are_refused(predictor: Predictor, threads: int, side_by_side: bool) -> None:
    with pytest.raises(ProviderError, match=f"cannot have {threads} threads"):
        Predictor(predictor.bundle.folder, provider="cpu", threads=threads, side_by_side=side_by_side)


def test_threads_may_share_a_predictor(predictor: Predictor) -> None:
    groups = [[f"{text} {number}" for text in TWEETS] for number in range(24)]
    expected = [predictor.predict_logits(group) for group in groups]
    with ThreadPoolExecutor(8) as pool:
        for found, wanted in zip(pool.map(predictor.predict_logits, groups), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_no_process_is_forked_or_started(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("a process was started")

    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert len(predictor(TWEETS * 100)) == 700


def test_prediction_needs_neither_torch_nor_what_only_the_command_line_needs(predictor: Predictor) -> None:
    program = (
        "import sys; from twil import Predictor\n"
        f"Predictor({str(predictor.bundle.folder)!r}, provider='cpu')('hola')\n"
        "unwanted = {'torch', 'transformers', 'pandas', 'polars', 'pyarrow', 'sklearn', 'onnx', 'pydantic', "
        "'typer', 'rich', 'jinja2'}\n"
        "print(sorted(unwanted & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
