"""Models of the transformers library, trained: new classifiers, kept ones, and masked tokens."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import EXAMPLES, write_rows
from hub_models import FAMILIES, LAYERS, POSITIONS, library, make_hub_folder, texts
from tuning import same_weights, twil_command

from twil.config.pretraining import pretrain_config
from twil.config.training import FinetuneConfig, finetune_config
from twil.core.errors import ConfigError, ModelError
from twil.data.corpus.build import CorpusOptions, build_corpus
from twil.data.corpus.corpus import open_corpus
from twil.data.labelled import LabelledColumns, Sample, read_labelled
from twil.data.samples import NOT_MASKED, Samples
from twil.evaluation.evaluate import evaluate
from twil.evaluation.pretrained.probing import fill_masks, open_probe
from twil.model.folder import describe, load_tokens, load_with_tokenizer, read_run, save
from twil.scores.metrics import score_logits
from twil.text.special import find_special
from twil.train.finetune import FinetuneFinished, FinetuneStarted, finetune_events
from twil.train.loop import Interrupted
from twil.train.objectives.classification import compute_logits, encode_rows
from twil.train.objectives.denoising import DenoisingBatch, DenoisingNetwork
from twil.train.pretraining import make_model, pretrain_events

pytest.importorskip("transformers", reason="the extra 'hub' is not installed")

TRAIN, DEV = EXAMPLES / "tweets_train.tsv", EXAMPLES / "tweets_dev.tsv"
LIKE = 1e-5


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Name one family after the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def pretrained(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny masked language model."""
    return make_hub_folder(tmp_path_factory.mktemp(family) / "pretrained", family)


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny masked language model of one family."""
    return make_hub_folder(tmp_path_factory.mktemp("one") / "pretrained", "distilbert")


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny classifier with labels of its own."""
    folder = tmp_path_factory.mktemp("judge") / "judge"
    return make_hub_folder(
        folder, "roberta", "classifier", id2label={0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    )


NAMES = {"LABEL_0": "negative", "LABEL_1": "neutral", "LABEL_2": "positive"}


def run_of(folder: Path, *overrides: str, dev: Path | None = DEV, **model: Any) -> FinetuneConfig:
    return finetune_config(
        None,
        {
            "data": {"train": TRAIN, "dev": dev, "limit": 24},
            "model": {"folder": folder, **model},
            "train": {"epochs": 1, "lr": 1e-3, "batch_tokens": 256},
        },
        overrides,
    )


class TestFinetuning:
    def test_a_new_classifier_is_one_that_the_library_opens(self, pretrained: Path, tmp_path: Path) -> None:
        config = run_of(pretrained, "model.classifier.head=library")
        finished = list(finetune_events(config, tmp_path / "model"))[-1]
        assert isinstance(finished, FinetuneFinished)
        rows = read_labelled(DEV, sample=Sample(24))
        transformers = library()
        network = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
        tokens = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
        with torch.inference_mode():
            theirs = network(**tokens(rows.texts, padding=True, truncation=True, return_tensors="pt")).logits
        model, tokenizer = load_with_tokenizer(tmp_path / "model")
        targets = rows.targets(model.task)
        ours = compute_logits(model, encode_rows(rows.rows, targets, tokenizer), 256)
        assert np.abs(ours - theirs.numpy()).max() < LIKE
        assert finished.dev == score_logits(theirs.numpy(), targets, finished.task)
        assert network.config.id2label == dict(enumerate(finished.task.labels))

    def test_the_encoder_is_that_of_the_folder(self, pretrained: Path, tmp_path: Path) -> None:
        list(finetune_events(run_of(pretrained, "train.lr=1e-12"), tmp_path / "model"))
        before = library().AutoModel.from_pretrained(pretrained).state_dict()
        after = library().AutoModel.from_pretrained(tmp_path / "model").state_dict()
        read = [name for name in before if "pooler" not in name]
        assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in read)

    def test_the_same_seed_gives_the_same_weights(self, distilbert: Path, tmp_path: Path) -> None:
        for name in ("one", "two"):
            list(finetune_events(run_of(distilbert), tmp_path / name))
        assert same_weights(tmp_path / "one", tmp_path / "two")
        list(finetune_events(run_of(distilbert, "train.seed=2"), tmp_path / "three"))
        assert not same_weights(tmp_path / "one", tmp_path / "three")

    def test_a_stopped_run_ends_bit_for_bit_the_same(self, distilbert: Path, tmp_path: Path) -> None:
        config = run_of(distilbert, "train.epochs=2")
        list(finetune_events(config, tmp_path / "whole"))
        steps = iter(range(100))
        events = list(finetune_events(config, tmp_path / "parts", should_stop=lambda: next(steps) == 4))
        assert isinstance(events[-1], Interrupted)
        list(finetune_events(config, tmp_path / "parts", resume=True))
        assert same_weights(tmp_path / "whole", tmp_path / "parts")

    def test_parts_stay_as_they_are_and_layers_learn_at_their_own_rates(
        self, pretrained: Path, tmp_path: Path
    ) -> None:
        decay = "train.layer_decay=0.5"
        list(finetune_events(run_of(pretrained, "train.freeze=embeddings,0", decay), tmp_path / "model"))
        before, _ = load_with_tokenizer(pretrained)
        after, _ = load_with_tokenizer(tmp_path / "model")
        kept = [
            all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
            for one, other in zip(before.depths, after.depths, strict=True)
        ]
        assert kept == [True, True] + [False] * (LAYERS - 1)
        trained = dict(after.named_parameters())
        embedded = [name for name in trained if "embedding" in name]  # ELECTRA's projection among them
        assert all(
            torch.equal(value, trained[name]) for name, value in before.named_parameters() if name in embedded
        )

    @pytest.mark.parametrize("kind", ["pairs", "multi-label", "regression"])
    def test_every_kind_of_task_is_kept_with_the_folder(
        self, kind: str, distilbert: Path, tmp_path: Path
    ) -> None:
        labels = {"pairs": ["sí", "no"], "multi-label": ["a|b", "a"], "regression": ["0.5", "2"]}[kind]
        lines = [f"{text}\t{text[::-1]}\t{labels[row % 2]}" for row, text in enumerate(texts()[:16])]
        file = tmp_path / "rows.tsv"
        file.write_text("\n".join(["TEXT\tOTHER\tCLASS", *lines, ""]), encoding="utf-8")
        data = {"train": file, "dev": file, "text_pair": "OTHER" if kind == "pairs" else None}
        data["task"] = "class" if kind == "pairs" else kind
        config = finetune_config(None, {"data": data, "model": {"folder": distilbert}}, ["train.epochs=1"])
        finished = list(finetune_events(config, tmp_path / "model"))[-1]
        columns = LabelledColumns(text_pair=data["text_pair"])
        assert evaluate(tmp_path / "model", file, columns=columns).report == finished.dev
        assert describe(tmp_path / "model").task == finished.task
        assert finished.task.pair == (kind == "pairs")
        told = library().AutoConfig.from_pretrained(tmp_path / "model").problem_type
        assert told == {
            "pairs": "single_label_classification",
            "multi-label": "multi_label_classification",
        }.get(kind, "regression")

    def test_rows_are_those_that_the_datasets_library_draws(self) -> None:
        rows = read_labelled(TRAIN, sample=Sample(5, seed=42))
        whole = read_labelled(TRAIN)
        chosen = np.random.default_rng(42).permutation(len(whole))[:5]
        assert rows.texts == [whole.texts[row] for row in chosen]
        assert rows.lines == [whole.lines[row] for row in chosen]

    @pytest.mark.parametrize(
        "settings",
        [
            ("train.precision=bf16",),
            ("train.class_weights=balanced", "train.loss.name=cross_entropy"),
            ("train.epochs=9", "train.patience=2", "train.lr=1e-12"),
        ],
    )
    def test_it_learns_as_other_models_do(
        self, settings: tuple[str, ...], distilbert: Path, tmp_path: Path
    ) -> None:
        started, *_, finished = finetune_events(run_of(distilbert, *settings), tmp_path / "model")
        assert isinstance(started, FinetuneStarted)
        assert (started.weights is not None) == ("train.class_weights=balanced" in settings)
        assert evaluate(tmp_path / "model", DEV, sample=Sample(24)).report == finished.dev
        # Without learning no epoch is better than the first: patience 2 ends the run after the third.
        assert len(read_run(tmp_path / "model")["history"]) == (3 if "train.patience=2" in settings else 1)

    def test_the_run_says_where_it_began(self, distilbert: Path, tmp_path: Path) -> None:
        list(finetune_events(run_of(distilbert), tmp_path / "model"))
        record = read_run(tmp_path / "model")
        assert record["config"]["model"]["folder"] == str(distilbert)
        assert record["data"]["train"]["rows"] == 24

    def test_rows_longer_than_the_encoder_reads_are_refused(self, distilbert: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=rf"rows of 65 tokens do not fit: the encoder has {POSITIONS}"):
            list(finetune_events(run_of(distilbert, "model.max_length=65"), tmp_path / "m"))
        assert list(tmp_path.iterdir()) == []


class TestKeptHead:
    def test_a_classifier_is_trained_further_under_the_names_of_the_data(
        self, judge: Path, tmp_path: Path
    ) -> None:
        config = run_of(judge, "train.lr=1e-12", keep_head=True, map_labels=NAMES)
        started, *_, finished = finetune_events(config, tmp_path / "model")
        assert isinstance(started, FinetuneStarted)
        assert started.kept_classifier
        assert finished.task.labels == tuple(NAMES.values())
        as_it_is = evaluate(judge, DEV, map_labels=NAMES, sample=Sample(24))
        assert finished.dev.labels == as_it_is.report.labels
        assert describe(tmp_path / "model").task == finished.task

    def test_taken_as_it_is_it_gets_names_and_no_training(self, judge: Path, tmp_path: Path) -> None:
        config = run_of(judge, "train.epochs=0", dev=None, keep_head=True, map_labels=NAMES)
        finished = list(finetune_events(config, tmp_path / "model"))[-1]
        assert (finished.best_epoch, finished.dev, finished.test) == (0, None, None)
        model, before = load_with_tokenizer(tmp_path / "model")[0], load_with_tokenizer(judge)[0]
        assert all(map(torch.equal, model.state_dict().values(), before.state_dict().values()))
        assert evaluate(tmp_path / "model", DEV).report == evaluate(judge, DEV, map_labels=NAMES).report
        with pytest.raises(ConfigError, match="keep_head keeps one"):
            run_of(judge, "train.epochs=0", dev=None)

    def test_taken_as_it_is_it_can_be_reported_on_and_not_chosen(self, judge: Path, tmp_path: Path) -> None:
        names = ",".join(f"{old}={new}" for old, new in NAMES.items())
        as_it_is = (
            TRAIN,
            "--dev",
            DEV,
            "--model",
            judge,
            "--keep-head",
            "--map-labels",
            names,
            "--epochs",
            0,
        )
        done = twil_command("finetune", *as_it_is, "-o", tmp_path / "model")
        assert "the model is taken as it is" in done.stderr
        assert "dev, as it was" in done.stdout
        report = twil_command("report", tmp_path / "model", "-o", tmp_path / "report.html")
        assert report.exit_code == 0, report.stderr
        runs = twil_command("finetune", *as_it_is, "--runs", 2, "-o", tmp_path / "runs")
        assert (runs.exit_code, runs.stderr.count("\n")) == (1, 1)
        assert "without training" in runs.stderr
        assert not (tmp_path / "runs").exists()

    def test_labels_that_do_not_fit_are_shown_beside_those_of_the_data(
        self, judge: Path, distilbert: Path, tmp_path: Path
    ) -> None:
        both = r"has the labels LABEL_0, LABEL_1, LABEL_2, and the data have negative, neutral, positive"
        with pytest.raises(ConfigError, match=both):
            list(finetune_events(run_of(judge, keep_head=True), tmp_path / "model"))
        half = {"LABEL_0": "negative", "LABEL_1": "neutral"}
        with pytest.raises(ConfigError, match=r"\(--map-labels LABEL_2=positive,…\)"):
            list(finetune_events(run_of(judge, keep_head=True, map_labels=half), tmp_path / "model"))
        two = write_rows(tmp_path / "two.tsv", [("uno", "negative"), ("dos", "positive")] * 4)
        with pytest.raises(ConfigError, match="and the data have negative, positive: leave keep_head out"):
            list(
                finetune_events(
                    run_of(judge, f"data.train={two}", keep_head=True, map_labels=NAMES), tmp_path / "model"
                )
            )
        with pytest.raises(ConfigError, match="good cannot be called otherwise: the labels are LABEL_0"):
            list(
                finetune_events(
                    run_of(judge, keep_head=True, map_labels={"good": "positive"}), tmp_path / "model"
                )
            )
        with pytest.raises(ConfigError, match="has no classifier to keep"):
            list(finetune_events(run_of(distilbert, keep_head=True), tmp_path / "model"))
        with pytest.raises(ConfigError, match="only with keep_head"):
            run_of(judge, map_labels=NAMES)

    def test_the_command_takes_it_all(self, judge: Path, tmp_path: Path) -> None:
        names = ",".join(f"{old}={new}" for old, new in NAMES.items())
        options = ("--limit", 12, "--shuffle-seed", 1, "--keep-head", "--map-labels", names, "--epochs", 1)
        done = twil_command(
            "finetune", TRAIN, "--test", DEV, "--model", judge, *options, "-o", tmp_path / "m"
        )
        assert done.exit_code == 0, done.stderr
        assert "no dev file" in done.stderr
        assert "test, last epoch 1" in done.stdout
        wrong = twil_command("finetune", TRAIN, "--model", judge, "--map-labels", "a", "-o", tmp_path / "n")
        assert (wrong.exit_code, wrong.stderr.count("\n")) == (1, 1)
        assert "--map-labels takes OLD=NEW" in wrong.stderr
        scored = twil_command("evaluate", judge, DEV, "--map-labels", names, "--limit", 5)
        assert "5 rows" in scored.stderr
        compared = twil_command(
            "compare", DEV, judge, tmp_path / "m", "--map-labels", names, "--resamples", 200
        )
        assert compared.exit_code == 0, compared.stderr
        unknown = twil_command("compare", DEV, tmp_path / "m", "--map-labels", "X=Y")
        assert "no model has such a label" in unknown.stderr


class TestWithoutDev:
    def test_the_last_epoch_is_kept(self, distilbert: Path, tmp_path: Path) -> None:
        config = run_of(distilbert, "train.epochs=2", f"data.test={DEV}", dev=None)
        finished = list(finetune_events(config, tmp_path / "model"))[-1]
        assert (finished.best_epoch, finished.dev) == (2, None)
        assert evaluate(tmp_path / "model", DEV, sample=Sample(24)).report == finished.test
        record = read_run(tmp_path / "model")
        assert (record["best_epoch"], list(record["results"])) == (2, ["test"])
        report = twil_command("report", tmp_path / "model", "-o", tmp_path / "report.html")
        assert report.exit_code == 0, report.stderr
        assert "test, 24 rows" in report.stderr

    @pytest.mark.parametrize(
        "setting", ["decision.calibrate=temperature", "train.metric=accuracy", "train.patience=2"]
    )
    def test_what_needs_it_is_refused(self, setting: str, distilbert: Path) -> None:
        with pytest.raises(ConfigError, match=r"would have no effect: only with data\.dev \(--dev\)"):
            run_of(distilbert, setting, dev=None)

    def test_the_best_of_several_runs_cannot_be_chosen(self, distilbert: Path, tmp_path: Path) -> None:
        done = twil_command("finetune", TRAIN, "--model", distilbert, "--runs", 2, "-o", tmp_path / "m")
        assert (
            "the best of several runs is chosen by its scores on dev: name that file (--dev)" in done.stderr
        )
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def corpus(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a corpus of the model's own tokens."""
    folder = tmp_path_factory.mktemp("corpus")
    pairs = folder / "pairs.tsv"
    with (EXAMPLES / "pairs.tsv").open(encoding="utf-8") as file:
        pairs.write_text(file.read(), encoding="utf-8")
    list(build_corpus([pairs, TRAIN], folder / "corpus", load_tokens(pretrained), CorpusOptions(dev=0.2)))
    return folder / "corpus"


class TestPretraining:
    def samples(self, corpus: Path) -> Samples:
        held = open_corpus(corpus)
        config = pretrain_config({}, {"data": {"corpus": corpus}, "model": {"init": "tiny"}})
        return Samples(
            held.train,
            config.objective.masking,
            vocab_size=held.tokenizer.get_vocab_size(),
            rop=False,
            seed=1,
            special=find_special(held.tokenizer, source="here"),
        )

    def test_no_special_token_is_masked_and_none_comes_in_place_of_another(self, corpus: Path) -> None:
        samples = self.samples(corpus)
        special = samples.special
        rows = samples.draw(0, 0, len(samples))
        masked = rows.targets != NOT_MASKED
        assert masked.sum() > 200
        assert special.ordinary(rows.targets[masked]).all()
        became = rows.input_ids[masked]
        assert (special.ordinary(became) | (became == special.mask)).all()
        assert (became == special.mask).mean() == pytest.approx(0.8, abs=0.1)

    def test_rows_are_framed_as_the_tokenizer_frames_them(self, corpus: Path) -> None:
        samples, tokenizer = self.samples(corpus), open_corpus(corpus).tokenizer
        rows = samples.draw(0, 0, len(samples))
        whole = np.where(rows.targets == NOT_MASKED, rows.input_ids, rows.targets)
        ends = np.cumsum(rows.lengths)
        drawn = {tuple(row.tolist()) for row in np.split(whole, ends[:-1])}
        with TRAIN.open(encoding="utf-8") as file:
            tweets = [row["TEXT"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
        own = {tuple(row.ids) for row in tokenizer.encode_batch(tweets)}
        with (EXAMPLES / "pairs.tsv").open(encoding="utf-8") as file:
            pairs = [
                (row["ORIG_TEXT"], row["REPLY_TEXT"])
                for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            ]
        own |= {tuple(row.ids) for row in tokenizer.encode_batch(pairs)}
        assert len(drawn & own) > 0.9 * len(drawn)

    @pytest.mark.parametrize("packed", [True, False])
    def test_the_loss_is_that_of_the_library(self, packed: bool, corpus: Path, pretrained: Path) -> None:
        samples = self.samples(corpus)
        rows = samples.draw(0, 0, 12)
        model, _ = load_with_tokenizer(pretrained)
        with torch.inference_mode():
            sums = DenoisingNetwork(model, rop=False)(
                DenoisingBatch.of(rows, packed=packed, pad_id=samples.special.pad)
            )
        theirs = library().AutoModelForMaskedLM.from_pretrained(pretrained).eval()
        total = 0.0
        starts = np.cumsum(rows.lengths) - rows.lengths
        for start, length in zip(starts, rows.lengths, strict=True):
            part = slice(start, start + length)
            targets = torch.from_numpy(rows.targets[part])
            with torch.inference_mode():
                inputs = {"input_ids": torch.from_numpy(rows.input_ids[part])[None]}
                if "token_type_ids" in _inputs_of(pretrained):
                    inputs["token_type_ids"] = torch.from_numpy(rows.segment_ids[part])[None]
                total += theirs(**inputs, labels=targets[None]).loss.item() * int(
                    (targets != NOT_MASKED).sum()
                )
        assert sums[0].item() == pytest.approx(total, rel=LIKE)

    def test_an_adapted_model_opens_in_the_library_and_is_tuned(
        self, corpus: Path, pretrained: Path, tmp_path: Path
    ) -> None:
        config = pretraining(corpus, pretrained)
        list(pretrain_events(config, tmp_path / "adapted"))
        steps = iter(range(100))
        parts = tmp_path / "parts"
        assert isinstance(
            list(pretrain_events(config, parts, should_stop=lambda: next(steps) == 1))[-1], Interrupted
        )
        list(pretrain_events(config, parts, resume=True))
        assert same_weights(tmp_path / "adapted", parts)
        assert not same_weights(tmp_path / "adapted", pretrained)
        theirs = library().AutoModelForMaskedLM.from_pretrained(tmp_path / "adapted").eval()
        model, tokenizer = load_with_tokenizer(tmp_path / "adapted")
        ids = torch.tensor([tokenizer.encode(texts()[0]).ids])
        with torch.inference_mode():
            assert (model.mlm_logits(model.encode(ids)) - theirs(input_ids=ids).logits).abs().max() < LIKE
        finished = list(finetune_events(run_of(tmp_path / "adapted"), tmp_path / "tuned"))[-1]
        assert isinstance(finished, FinetuneFinished)


def _inputs_of(folder: Path) -> list[str]:
    names: list[str] = library().AutoTokenizer.from_pretrained(folder).model_input_names
    return names


def pretraining(corpus: Path, folder: Path, *overrides: str) -> Any:
    options = {
        "data": {"corpus": corpus},
        "model": {"folder": folder},
        "train": {"steps": 3, "batch_rows": 8, "batch_tokens": 512, "lr": 1e-3},
        "objective": {"rop": False},
    }
    return pretrain_config({}, options, overrides)


def test_a_corpus_is_the_same_of_a_model_and_of_its_tokenizer_file(pretrained: Path, tmp_path: Path) -> None:
    pairs = EXAMPLES / "pairs.tsv"
    of_model = twil_command("corpus", pairs, "--tokenizer", pretrained, "-o", tmp_path / "one")
    assert of_model.exit_code == 0, of_model.stderr
    file = pretrained / "tokenizer.json"
    without = twil_command("corpus", pairs, "--tokenizer", file, "-o", tmp_path / "two")
    assert (without.exit_code, without.stderr.count("\n")) == (1, 1)
    assert "(--max-length), or name the model" in without.stderr
    length = ("--max-length", POSITIONS)
    done = twil_command("corpus", pairs, "--tokenizer", file, *length, "-o", tmp_path / "two")
    assert done.exit_code == 0, done.stderr
    one, two = (open_corpus(tmp_path / name) for name in ("one", "two"))
    assert (one.info["parts"], one.max_length) == (two.info["parts"], POSITIONS)
    # Either may be trained on.
    for folder in (one.path, two.path):
        assert make_model(pretraining(folder, pretrained), open_corpus(folder))[0].has_mlm


@pytest.mark.parametrize("head", ["none", "classifier"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_without_a_masked_head_gets_a_new_one(family: str, head: str, tmp_path: Path) -> None:
    folder = make_hub_folder(tmp_path / "encoder", family, head)
    list(
        build_corpus(
            [EXAMPLES / "pairs.tsv"], tmp_path / "corpus", load_tokens(folder), CorpusOptions(dev=0.0)
        )
    )
    held = open_corpus(tmp_path / "corpus")
    model, tokenizer, new = make_model(pretraining(held.path, folder), held)
    assert (model.has_mlm, model.ties_mlm, new) == (True, True, ("mlm",))
    ids = torch.tensor(tokenizer.encode(texts()[0]).ids)[None]
    before = load_with_tokenizer(folder)[0]
    with torch.inference_mode():
        assert torch.equal(model.eval().encode(ids), before.eval().encode(ids))
    save(tmp_path / "model", model, tokenizer, {})
    again = load_with_tokenizer(tmp_path / "model")[0]
    with torch.inference_mode():
        assert torch.equal(again.mlm_logits(again.encode(ids)), model.mlm_logits(model.encode(ids)))


class TestRefused:
    def corpus_of(self, folder: Path, target: Path, file: Path = EXAMPLES / "pairs.tsv") -> Path:
        list(build_corpus([file], target, load_tokens(folder), CorpusOptions(dev=0.0)))
        return target

    def test_the_order_of_replies_is_learned_by_twilbert_alone(
        self, distilbert: Path, tmp_path: Path
    ) -> None:
        corpus = self.corpus_of(distilbert, tmp_path / "corpus")
        with pytest.raises(ConfigError, match=r"--set objective\.rop=false"):
            list(pretrain_events(pretraining(corpus, distilbert, "objective.rop=true"), tmp_path / "model"))

    def test_a_classifier_fills_no_masks(self, judge: Path) -> None:
        with pytest.raises(ModelError, match="no masked-language head"):
            open_probe(judge, mlm=True)

    def test_a_corpus_of_other_tokens_names_the_model_to_make_it_with(
        self, distilbert: Path, judge: Path, tmp_path: Path
    ) -> None:
        corpus = self.corpus_of(judge, tmp_path / "corpus")
        with pytest.raises(ModelError, match=f"--tokenizer {distilbert} --max-length {POSITIONS}$"):
            list(pretrain_events(pretraining(corpus, distilbert), tmp_path / "model"))

    def test_a_fresh_encoder_needs_tokens_of_twil(self, distilbert: Path, tmp_path: Path) -> None:
        corpus = self.corpus_of(distilbert, tmp_path / "corpus")
        config = pretrain_config({}, {"data": {"corpus": corpus}, "model": {"init": "tiny"}})
        with pytest.raises(ModelError, match="tokenizer of another kind"):
            list(pretrain_events(config, tmp_path / "model"))


class TestAsking:
    def test_masks_are_filled_as_the_library_fills_them(self, pretrained: Path) -> None:
        transformers = library()
        network = transformers.AutoModelForMaskedLM.from_pretrained(pretrained)
        tokens = transformers.AutoTokenizer.from_pretrained(pretrained)
        theirs = transformers.pipeline("fill-mask", model=network, tokenizer=tokens, top_k=3)(
            f"qué {tokens.mask_token} hace hoy"
        )
        filled, same = fill_masks(
            open_probe(pretrained, mlm=True),
            ["qué [MASK] hace hoy", f"qué {tokens.mask_token} hace hoy"],
            top_k=3,
        )
        assert filled.masks == same.masks
        assert [fill.probability for fill in filled.masks[0]] == pytest.approx(
            [one["score"] for one in theirs], abs=LIKE
        )
        assert [fill.token for fill in filled.masks[0]] == [
            tokens.convert_ids_to_tokens(one["token"]) for one in theirs
        ]

    @pytest.mark.parametrize("objective", ["--mlm", "--pll"])
    def test_a_pretrained_model_is_scored(self, objective: str, pretrained: Path) -> None:
        done = twil_command("evaluate", pretrained, TRAIN, objective, "--limit", 8, "--json", "--quiet")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["rows"] == 8

    def test_a_text_is_inspected(self, pretrained: Path) -> None:
        done = twil_command("inspect", pretrained, EXAMPLES / "pairs.tsv")
        assert done.exit_code == 0, done.stderr


def test_a_search_starts_from_a_model_of_the_library(pretrained: Path, tmp_path: Path) -> None:
    settings = ("--set", "lr=1e-4,1e-3", "--set", "epochs=1", "--set", "data.limit=6")
    folder = tmp_path / "search"
    done = twil_command("search", TRAIN, "--dev", DEV, "--model", pretrained, *settings, "-q", "-o", folder)
    assert done.exit_code == 0, done.stderr
    assert library().AutoModelForSequenceClassification.from_pretrained(folder / "best")


def test_several_runs_start_from_a_model_of_the_library(distilbert: Path, tmp_path: Path) -> None:
    common = (TRAIN, "--dev", DEV, "--limit", 12, "--model", distilbert, "--epochs", 1, "-q")
    runs = twil_command("finetune", *common, "--runs", 2, "-o", tmp_path / "model")
    assert runs.exit_code == 0, runs.stderr
    assert library().AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
