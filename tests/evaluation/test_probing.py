"""Scores of pretrained models: the original's figures, brute force, and what must not change them."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from tokenizers import Tokenizer
from typer.testing import CliRunner

from twil.cli import evaluate as evaluate_command
from twil.cli.main import guard
from twil.config.model import ClassifierConfig, EncoderConfig, ModelConfig, RopConfig
from twil.config.pretraining import MaskingConfig
from twil.core.errors import ConfigError, DataError, ModelError, TwilError
from twil.core.task import Task
from twil.data.masking import mask
from twil.evaluation.pretrained.intrinsic import IntrinsicScores, Objective, ScoringProgress, score_pretrained
from twil.evaluation.pretrained.probing import (
    Probe,
    encode_rows,
    open_probe,
    order_probabilities,
    pseudo_log_likelihoods,
    top_tokens,
)
from twil.model.folder import save
from twil.model.original import import_original
from twil.model.twilbert import TWilBERT

CASE = Path(__file__).parents[1] / "data" / "original" / "base_like"
ALL: tuple[Objective, ...] = ("mlm", "rop", "pll")
PAIRS = [
    ("¿quién viene al cine esta noche?", "yo me apunto, ¿a qué hora quedamos?"),
    ("hoy no me levanto ni con grúa", "pues el lunes solo acaba de empezar"),
    ("¿alguien sabe si hay metro el domingo?", "sí, hasta las dos de la mañana"),
    ("acabo de adoptar un gato negro", "¡foto ya! ¿cómo se llama?"),
    ("qué partidazo el de anoche", "el árbitro nos robó otra vez, como siempre"),
]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Path:
    """Give a model drawn so wide that it is sure of what it says."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    path = tmp_path_factory.mktemp("probing") / "model"
    save(path, _model(tokenizer), tokenizer, {})
    return path


def _model(tokenizer: Tokenizer, **heads: Any) -> TWilBERT:
    encoder = EncoderConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        n_layers=2,
        n_heads=2,
        head_size=16,
        max_positions=40,
        initializer_range=0.3,
        output_dropout=0.5,  # must not act
    )
    torch.manual_seed(3)
    return TWilBERT(ModelConfig(encoder=encoder, **(heads or {"mlm": True, "rop": RopConfig()})))


@pytest.fixture
def probe(model_folder: Path) -> Probe:
    return open_probe(model_folder, mlm=True, rop=True, device="cpu", batch_tokens=64)


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.tsv", PAIRS)


def write_pairs(path: Path, pairs: list[tuple[str, str]]) -> Path:
    rows = [f"{2 * n}\t{first}\t{2 * n + 1}\t{second}" for n, (first, second) in enumerate(pairs)]
    path.write_text("\n".join(["ORIG_ID\tORIG_TEXT\tREPLY_ID\tREPLY_TEXT", *rows, ""]), encoding="utf-8")
    return path


def write_texts(path: Path, texts: list[str]) -> Path:
    path.write_text("\n".join([*texts, ""]), encoding="utf-8")
    return path


def score(model: Path, file: Path, *objectives: Objective, **options: Any) -> IntrinsicScores:
    *_, scores = score_pretrained(model, file, objectives or ALL, device="cpu", **options)
    assert isinstance(scores, IntrinsicScores)
    return scores


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("h5py")
    imported = import_original(CASE / "weights.hdf5", CASE / "config.json", CASE.parent / "vocab")
    path = tmp_path_factory.mktemp("original") / "base_like"
    save(path, imported.model, imported.tokenizer, {})
    return path


@pytest.mark.parametrize("batch_tokens", [40, 4096])
def test_every_token_has_the_log_probability_that_the_original_gives_it(
    original: Path, shared: Path, batch_tokens: int
) -> None:
    reference = json.loads((shared / "fixtures" / "evaluation" / "evaluation.json").read_text())["lm"]
    probe = open_probe(original, mlm=True, device="cpu", batch_tokens=batch_tokens)
    rows, truncated = encode_rows(probe, [text["text"] for text in reference])
    log_probs = [text for group in pseudo_log_likelihoods(probe, rows) for text in group]
    assert not truncated.any()
    for row, values, text in zip(rows, log_probs, reference, strict=True):
        assert [probe.spell(token) for token in row.input_ids] == text["tokens"]
        np.testing.assert_allclose(values, text["logp"], atol=1e-5)
        assert values.sum() / len(row.input_ids) == pytest.approx(text["score"], abs=1e-5)


def test_a_file_has_the_score_that_the_original_gives_it(original: Path, shared: Path) -> None:
    folder = shared / "fixtures" / "evaluation"
    reference = json.loads((folder / "evaluation.json").read_text())
    pll = score(original, folder / "lm_texts.txt", "pll").pll
    assert pll is not None
    assert pll.score == pytest.approx(reference["lm_score"], abs=1e-6)
    tokens = [value for text in reference["lm"] for value in text["logp"]]
    assert pll.perplexity == pytest.approx(math.exp(-np.mean(tokens)), rel=1e-5)
    assert (pll.texts, pll.tokens, pll.empty) == (len(reference["lm"]), len(tokens), 0)


def test_the_order_of_pairs_has_the_probability_that_the_original_gives_it(
    original: Path, shared: Path
) -> None:
    folder = shared / "fixtures" / "evaluation"
    reference = json.loads((folder / "evaluation.json").read_text())["rop"]
    lines = (folder / "rop_pairs.tsv").read_text(encoding="utf-8").splitlines()[1:]
    pairs = [(first, second) for first, second, _ in (line.split("\t") for line in lines)]
    probe = open_probe(original, rop=True, device="cpu", batch_tokens=100)
    rows, _ = encode_rows(probe, pairs)
    probabilities = order_probabilities(probe, rows)
    np.testing.assert_allclose(probabilities, [pair["probs"] for pair in reference], atol=1e-5)
    # Some of the file's pairs are turned round already; the scores show each as it stands, and turned.
    rop = score(original, folder / "rop_pairs.tsv", "rop").rop
    assert rop is not None
    answers = probabilities.argmax(1)
    assert rop.confusion[1] == np.bincount(answers, minlength=2).tolist()
    assert rop.shown == 2 * len(pairs)


def test_the_masked_language_scores_are_those_of_brute_force(
    probe: Probe, model_folder: Path, pairs_file: Path
) -> None:
    masking = MaskingConfig(kind="token", budget=0.3)
    rows, _ = encode_rows(probe, PAIRS)
    lengths = np.array([len(row.input_ids) for row in rows])
    ids = np.concatenate([row.input_ids for row in rows])
    vocabulary = probe.tokenizer.get_vocab_size()
    masked = mask(ids, lengths, masking, vocabulary, np.random.default_rng(7))
    log_probs, right = [], []
    start = 0
    for row, length in zip(rows, lengths.tolist(), strict=True):
        seen = torch.from_numpy(masked.input_ids[start : start + length])[None]
        segments = torch.from_numpy(row.segment_ids)[None]
        with torch.no_grad():
            logits = probe.model.mlm_logits(probe.model.encode(seen, None, segments))[0].log_softmax(-1)
        for place in (
            masked.positions[(masked.positions >= start) & (masked.positions < start + length)] - start
        ):
            target = row.input_ids[place]
            log_probs.append(logits[place, target].item())
            right.append(logits[place].argmax().item() == target)
        start += length

    mlm = score(model_folder, pairs_file, "mlm", masking=masking, seed=7, batch_tokens=50).mlm
    assert mlm is not None
    assert mlm.masked == len(masked.positions) == sum(math.ceil(0.3 * (length - 3)) for length in lengths)
    assert mlm.loss == pytest.approx(-np.mean(log_probs), abs=1e-5)
    assert mlm.perplexity == pytest.approx(math.exp(mlm.loss))
    assert mlm.accuracy == np.mean(right)

    targets = Counter(masked.targets.tolist())
    assert mlm.frequent_accuracy == max(targets.values()) / mlm.masked
    assert targets[probe.tokenizer.token_to_id(mlm.frequent_token)] == max(targets.values())
    tokens = Counter(token for token in ids.tolist() if token >= 5)
    size = tokens.total() - 1 + 0.1 * vocabulary
    baseline = [math.log((tokens[target] - 1 + 0.1) / size) for target in masked.targets.tolist()]
    assert mlm.unigram_perplexity == pytest.approx(math.exp(-np.mean(baseline)))


def test_logits_are_computed_for_masked_tokens_only(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = encode_rows(probe, [text for pair in PAIRS for text in pair])
    asked = []
    mlm_logits = probe.model.mlm_logits

    def watched(hidden: torch.Tensor) -> torch.Tensor:
        asked.append(hidden.shape)
        return mlm_logits(hidden)

    monkeypatch.setattr(probe.model, "mlm_logits", watched)
    list(pseudo_log_likelihoods(probe, rows))
    assert all(len(shape) == 2 for shape in asked)
    assert sum(shape[0] for shape in asked) == sum(len(row.input_ids) - 2 for row in rows)


def test_the_size_of_batches_and_the_order_of_rows_change_no_score(
    model_folder: Path, tmp_path: Path, pairs_file: Path
) -> None:
    turned = write_pairs(tmp_path / "turned.tsv", PAIRS[::-1])
    small, large = (score(model_folder, pairs_file, batch_tokens=size) for size in (1, 10_000))
    other = score(model_folder, turned, "rop", "pll")
    assert small.mlm is not None
    assert large.mlm is not None
    assert small.mlm.loss == pytest.approx(large.mlm.loss, abs=1e-5)
    for scores in (small, large):
        for name in ("rop", "pll"):
            ours, theirs = getattr(scores, name), getattr(other, name)
            for field, value in vars(theirs).items():
                np.testing.assert_allclose(getattr(ours, field), value, atol=1e-5, rtol=1e-5, err_msg=field)


def test_a_limit_reads_the_first_rows_only(model_folder: Path, tmp_path: Path, pairs_file: Path) -> None:
    start = write_pairs(tmp_path / "start.tsv", PAIRS[:2])
    limited, whole = score(model_folder, pairs_file, limit=2).as_dict(), score(model_folder, start).as_dict()
    assert limited.pop("seconds") > 0
    del whole["seconds"]
    assert limited == whole
    assert limited["rows"] == 2


def test_rows_beyond_a_window_are_scored_and_progress_is_told(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twil.evaluation.pretrained.intrinsic.WINDOW_ROWS", 2)
    monkeypatch.setattr("twil.evaluation.pretrained.intrinsic._PROGRESS_SECONDS", 0.0)
    file = write_pairs(tmp_path / "pairs.tsv", PAIRS)
    *progress, scores = score_pretrained(model_folder, file, ALL, device="cpu")
    assert isinstance(scores, IntrinsicScores)
    assert scores.rop is not None
    assert scores.pll is not None
    assert (scores.rows, scores.rop.shown, scores.pll.texts) == (5, 10, 10)
    told = [(event.rows, event.texts) for event in progress if isinstance(event, ScoringProgress)]
    assert told == sorted(told)
    assert told[-1] == (4, 10)


def test_what_is_cut_or_empty_is_counted(model_folder: Path, tmp_path: Path) -> None:
    long = " ".join(["una vuelta más al parque"] * 20)
    file = write_pairs(tmp_path / "pairs.tsv", [("hola", long), ("   ", "buenos días"), ("vale", "vale")])
    scores = score(model_folder, file)
    assert scores.mlm is not None
    assert scores.rop is not None
    assert scores.pll is not None
    assert (scores.mlm.truncated, scores.rop.truncated, scores.pll.truncated) == (1, 2, 1)
    assert (scores.pll.texts, scores.pll.empty) == (5, 1)
    assert (scores.rop.shown, scores.rop.empty) == (4, 1)  # an empty text looks the same in both orders


def test_a_file_whose_pairs_all_lack_a_text_has_no_order_to_tell(model_folder: Path, tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "pairs.tsv", [("   ", "buenos días"), ("hola a todos", " ")])
    with pytest.raises(DataError, match="no pair holds two texts"):
        score(model_folder, file, "rop")


def test_single_texts_have_scores_but_no_order(model_folder: Path, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", [text for pair in PAIRS for text in pair])
    scores = score(model_folder, texts, "mlm", "pll")
    paired = score(model_folder, write_pairs(tmp_path / "pairs.tsv", PAIRS), "pll")
    assert (scores.rows, scores.pairs, scores.rop) == (10, False, None)
    assert scores.pll is not None
    assert paired.pll is not None
    assert scores.pll.score == pytest.approx(paired.pll.score, abs=1e-6)  # of a pair each text by itself
    with pytest.raises(DataError, match="only pairs have an order: leave out rop"):
        score(model_folder, texts)


@pytest.mark.parametrize(
    ("heads", "objective", "said"),
    [
        ({"rop": RopConfig()}, "pll", "no masked-language head: give a model that was pretrained with one"),
        ({"mlm": True}, "rop", "no reply-order head"),
        (
            {"classifier": ClassifierConfig(), "task": Task("class", ("a", "b"))},
            "mlm",
            "a fine-tuned classifier has none",
        ),
    ],
)
def test_a_model_without_the_head_is_one_clear_error(
    heads: dict[str, Any],
    objective: Objective,
    said: str,
    tmp_path: Path,
    tokenizer: Tokenizer,
    pairs_file: Path,
) -> None:
    save(tmp_path / "model", _model(tokenizer, **heads), tokenizer, {})
    with pytest.raises(ModelError, match=said):
        score(tmp_path / "model", pairs_file, objective)


def test_what_cannot_be_scored_is_one_clear_error(
    model_folder: Path, tmp_path: Path, pairs_file: Path
) -> None:
    blank = write_pairs(tmp_path / "blank.tsv", [(" ", " ")])
    header = write_pairs(tmp_path / "header.tsv", [])
    for file, said in ((blank, "no row holds a token"), (header, "no rows")):
        with pytest.raises(DataError, match=said):
            score(model_folder, file)
    with pytest.raises(ConfigError, match="one or more of mlm, rop, pll"):
        list(score_pretrained(model_folder, pairs_file, ()))
    with pytest.raises(ConfigError, match="limit of 0"):
        score(model_folder, pairs_file, limit=0)
    with pytest.raises(ConfigError, match="batch cannot have 0"):
        score(model_folder, pairs_file, batch_tokens=0)
    with pytest.raises(TwilError, match="there is no model folder"):
        score(tmp_path / "none", pairs_file)


def test_the_likeliest_tokens_are_those_of_the_whole_softmax(probe: Probe) -> None:
    (row, *_), _ = encode_rows(probe, [PAIRS[0]])
    asked = type(row)(row.input_ids, row.segment_ids, np.array([3, 1]))
    best = top_tokens(probe, [asked], 4)
    with torch.no_grad():
        hidden = probe.model.encode(
            *(
                torch.from_numpy(part)[None]
                for part in (row.input_ids, np.ones_like(row.input_ids), row.segment_ids)
            )
        )
        probabilities = probe.model.mlm_logits(hidden)[0].softmax(-1).numpy()
    for number, place in enumerate((3, 1)):
        order = np.argsort(-probabilities[place])[:4]
        assert best.tokens[number].tolist() == order.tolist()
        np.testing.assert_allclose(best.probabilities[number], probabilities[place, order], atol=1e-6)
    with pytest.raises(ConfigError, match="choose 1 to"):
        top_tokens(probe, [asked], probe.model.config.encoder.vocab_size + 1)


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("evaluate")(guard(evaluate_command.command))
    return app


def test_the_command_shows_scores_beside_their_baselines(
    app: typer.Typer, model_folder: Path, pairs_file: Path
) -> None:
    asked = [str(model_folder), str(pairs_file), "--device", "cpu"]
    done = CliRunner().invoke(app, [*asked, "--mlm", "--rop", "--pll"])
    assert done.exit_code == 0, done.output
    scores = score(model_folder, pairs_file, batch_tokens=1024)
    assert scores.mlm is not None
    assert scores.rop is not None
    assert scores.pll is not None
    for line, value, baseline in (
        ("MLM accuracy", scores.mlm.accuracy, scores.mlm.frequent_accuracy),
        ("MLM perplexity", scores.mlm.perplexity, scores.mlm.unigram_perplexity),
        ("ROP accuracy", scores.rop.accuracy, 0.5),
        ("PLL score", scores.pll.score, scores.pll.unigram_score),
    ):
        (shown,) = [text for text in done.stdout.splitlines() if text.startswith(line)]
        found = [float(word) for word in shown.removeprefix(line).split()[:2]]
        assert found == pytest.approx([value, baseline], abs=1e-3)
    assert "5 pairs in " in done.stderr
    printed = CliRunner().invoke(app, [*asked, "--mlm", "--seed", "4", "--budget", "0.5", "--json", "-q"])
    value = json.loads(printed.stdout)
    assert (value["rop"], value["pll"]) == (None, None)
    assert value["mlm"]["masked"] > scores.mlm.masked
    assert printed.stderr == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--first", "A"], "--first would have no effect: only with --mlm, --rop or --pll"),
        (["--rop", "--label-separator", ","], "--label-separator would have no effect"),
        (["--mlm", "--shuffle-seed", "3"], "--shuffle-seed would have no effect"),
        (["--mlm", "--map-labels", "A=B"], "--map-labels would have no effect"),
        (["--rop", "--budget", "0.2"], "--budget would have no effect: only with --mlm"),
        (["--rop", "--label", "CLASS"], "--label would have no effect: only with a classifier's scores"),
        (["--mlm", "--masking", "token", "--max-span", "2"], "--max-span would have no effect"),
        (["--mlm", "--budget", "1.5"], "budget: Input should be less than 1"),
        (["--mlm", "--masking", "words"], "masking: kind: Input should be 'span' or 'token'"),
        (["--mlm", "--second", "REPLY_TEXT"], "that of the (first) text"),
    ],
)
def test_options_that_do_not_fit_are_one_clear_error(
    options: list[str], said: str, app: typer.Typer, model_folder: Path, pairs_file: Path
) -> None:
    done = CliRunner().invoke(app, [str(model_folder), str(pairs_file), *options])
    assert done.exit_code == 1
    assert done.stdout == ""
    assert said in " ".join(done.stderr.split())
    assert done.stderr.startswith("twil: error: ")
