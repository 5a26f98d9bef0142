"""Every kind of task the whole way: labelled file, model folder, bundle, predictions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import twil
from twil.cli.main import make_app
from twil.config.training import FinetuneConfig, finetune_config
from twil.core.errors import ConfigError
from twil.data.labelled import LabelledColumns
from twil.evaluation.evaluate import evaluate
from twil.exporting.bundle import export_onnx
from twil.inference.predictor import Predictor
from twil.model import heads
from twil.model.heads import content_mask, register_head
from twil.scores import metrics
from twil.text.tokenizer import CLS_ID, PAD_ID, SEP_ID
from twil.train.finetune import FinetuneFinished, FinetuneStarted, finetune_events
from twil.train.objectives import losses
from twil.train.objectives.losses import register_loss

RUNNER = CliRunner()
GOOD = ["me encanta este sitio", "qué día tan genial", "gracias, todo perfecto", "feliz con el regalo"]
BAD = ["odio esperar el bus", "qué servicio tan horrible", "todo fatal otra vez", "harta de este ruido"]

# Of each: columns, answers to good and to bad texts, options of the command, and how it is scored.
TASKS: dict[str, tuple[tuple[str, str], list[str], str]] = {
    "class": (("P", "N"), [], "macro_f1"),
    "pair": (("P", "N"), ["--text-pair", "REPLY"], "macro_f1"),
    "multi-label": (("1|0|1", "0|1|0"), ["--task", "multi-label", "--labels", "bien,mal,otro"], "macro_f1"),
    "names": (("bien|otro", "mal"), ["--task", "multi-label"], "macro_f1"),
    "regression": (("0.9", "-1.5"), ["--task", "regression"], "pearson"),
    "stance": (("FAVOR", "AGAINST"), ["--task", "stance", "--labels", "AGAINST,FAVOR"], "stance_f1"),
}


def write(path: Path, answers: tuple[str, str], *, copies: int) -> Path:
    texts = [(text, answers[0]) for text in GOOD] + [(text, answers[1]) for text in BAD]
    lines = [
        f"{number}\t{text}\tvaya, {text}\t{answer}" for number, (text, answer) in enumerate(texts * copies)
    ]
    path.write_text("\n".join(["ID\tTEXT\tREPLY\tCLASS", *lines, ""]), encoding="utf-8")
    return path


def twil_command(*arguments: object) -> Any:
    return RUNNER.invoke(make_app([]), [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", TASKS)
def test_a_task_goes_the_whole_way_and_the_bundle_answers_as_the_model(
    name: str, tmp_path: Path, tokenizer_file: Path
) -> None:
    answers, options, metric = TASKS[name]
    train, dev = (
        write(tmp_path / f"{part}.tsv", answers, copies=copies) for part, copies in (("train", 5), ("dev", 1))
    )
    model, bundle, out = (tmp_path / part for part in ("model", "bundle", "out.tsv"))
    start = [
        "--init",
        "tiny",
        "--tokenizer",
        tokenizer_file,
        "--epochs",
        6,
        "--lr",
        "1e-3",
        "--batch-tokens",
        64,
    ]
    done = twil_command("finetune", train, "--dev", dev, *start, *options, "-o", model)
    assert done.exit_code == 0, done.output
    run = json.loads((model / "run.json").read_text())
    assert run["config"]["train"]["metric"] == metric
    assert run["results"]["dev"]["metrics"][metric] > 0.9
    assert metric in {key.removeprefix("dev_") for key in run["history"][0]}

    done = twil_command("export", model, "--onnx", "-o", bundle)
    assert done.exit_code == 0, done.output
    pair = ["--text-pair", "REPLY"] if name == "pair" else []
    done = twil_command("predict", dev, "--model", bundle, "-o", out, *pair)
    assert done.exit_code == 0, done.output
    with Predictor(bundle, provider="cpu") as predictor:
        task = predictor.task
        texts: Sequence[Any] = GOOD + BAD
        if task.pair:
            texts = [(text, f"vaya, {text}") for text in texts]
        logits = predictor.predict_logits(texts)
    labels = task.decode(logits).labels
    rows = [line.split("\t") for line in out.read_text(encoding="utf-8").splitlines()]
    place = rows[0].index("value" if name == "regression" else "label")
    found = [row[place] for row in rows[1:]]
    if name == "regression":
        assert [float(value) for value in found] == pytest.approx(
            [float(value) for value in labels], abs=1e-4
        )
    else:
        assert found == labels

    columns = LabelledColumns(text_pair="REPLY") if task.pair else LabelledColumns()
    ours, theirs = (evaluate(path, dev, columns=columns).report for path in (model, bundle))
    assert ours.metrics == pytest.approx(theirs.metrics, abs=1e-3)
    assert ours.metrics[metric] == pytest.approx(run["results"]["dev"]["metrics"][metric])
    assert theirs.rows == len(GOOD + BAD)


@pytest.fixture
def config(tmp_path: Path, tokenizer_file: Path) -> Any:
    train = write(tmp_path / "train.tsv", ("P", "N"), copies=4)
    dev = write(tmp_path / "dev.tsv", ("P", "N"), copies=1)

    def make(*overrides: str, **data: Any) -> FinetuneConfig:
        return finetune_config(
            None,
            {
                "data": {"train": train, "dev": dev, **data},
                "model": {"init": "tiny", "tokenizer": tokenizer_file},
                "train": {"epochs": 2, "batch_tokens": 64, "lr": 1e-3},
            },
            overrides,
        )

    return make


def test_thresholds_and_temperature_tuned_on_dev_come_along_to_the_bundle(
    config: Any, tmp_path: Path
) -> None:
    run = config("decision.tune_threshold=f1", "decision.calibrate=temperature", "train.epochs=1")
    *_, finished = finetune_events(run, tmp_path / "model")
    assert isinstance(finished, FinetuneFinished)
    task = twil.load(tmp_path / "model").task
    assert task == finished.task
    assert task.temperature != 1
    assert len(task.thresholds) == 1
    manifest = export_onnx(tmp_path / "model", tmp_path / "bundle").manifest
    assert manifest.task == task
    with Predictor(tmp_path / "bundle", provider="cpu") as predictor:
        outputs = predictor.session.run(_one_batch(predictor))
        np.testing.assert_allclose(outputs["probabilities"], task.probabilities(outputs["logits"]), atol=1e-6)
        plain = task.undecided.probabilities(outputs["logits"])
        assert np.abs(plain - outputs["probabilities"]).max() > 1e-4
    record = json.loads((tmp_path / "model" / "run.json").read_text())["decision"]
    assert record["temperature"] == pytest.approx(task.temperature)
    assert record["after"]["score"] >= record["before"]["score"]
    # Trained further, the classifier is kept, and what was tuned on the old one is not.
    again = finetune_config(
        None,
        {"data": run.data.model_dump(), "model": {"folder": tmp_path / "model"}, "train": {"epochs": 1}},
    )
    started, *_ = finetune_events(again, tmp_path / "again")
    assert isinstance(started, FinetuneStarted)
    assert started.kept_classifier
    assert started.task == task.undecided


def _one_batch(predictor: Predictor) -> Any:
    from twil.data.batching import pad_batch

    return pad_batch(predictor.encode(GOOD + BAD).input_ids)


def test_weights_of_labels_change_what_is_learnt_and_are_told(config: Any, tmp_path: Path) -> None:
    runs = {}
    for weights in ("none", "{N = 4.0}"):
        started, *_, finished = finetune_events(
            config(f"train.class_weights={weights}"), tmp_path / weights[:2]
        )
        assert isinstance(started, FinetuneStarted)
        runs[weights] = (started.weights, twil.load(finished.folder).state_dict()["classifier.output.bias"])
    assert runs["none"][0] is None
    assert runs["{N = 4.0}"][0] == {"N": 4.0, "P": 1.0}
    assert not torch.equal(runs["none"][1], runs["{N = 4.0}"][1])


def test_frozen_parts_end_as_they_began_and_the_rest_does_not(config: Any, tmp_path: Path) -> None:
    list(finetune_events(config("train.epochs=1"), tmp_path / "first"))
    frozen = finetune_config(
        None,
        {
            "data": config().data.model_dump(),
            "model": {"folder": tmp_path / "first"},
            "train": {"epochs": 1, "freeze": "embeddings,0", "lr": 1e-3},
        },
    )
    started, *_ = finetune_events(frozen, tmp_path / "second")
    assert isinstance(started, FinetuneStarted)
    assert started.trainable < started.parameters
    before, after = (twil.load(tmp_path / name).state_dict() for name in ("first", "second"))
    same = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    assert {name for name in before if ".embeddings." in name or ".blocks.0." in name} == same


def test_between_epochs_of_the_same_score_the_loss_decides(config: Any, tmp_path: Path) -> None:
    run = config("train.lr=1e-6", "train.epochs=3", "train.metric=accuracy")  # hardly a step away
    *_, finished = finetune_events(run, tmp_path / "model")
    history = json.loads((tmp_path / "model" / "run.json").read_text())["history"]
    assert len({entry["dev_accuracy"] for entry in history}) == 1
    assert isinstance(finished, FinetuneFinished)
    assert finished.best_epoch == 1 + int(np.argmin([entry["dev_loss"] for entry in history])) == 3


def test_special_tokens_can_be_left_out_of_an_average() -> None:
    ids = torch.tensor(
        [[CLS_ID, 9, 8, SEP_ID], [CLS_ID, SEP_ID, PAD_ID, PAD_ID], [CLS_ID, 7, SEP_ID, PAD_ID]]
    )
    mask = (ids != PAD_ID).long()
    expected = [[0, 1, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0]]  # a row that has nothing else keeps them
    assert content_mask(ids, mask).tolist() == expected


@pytest.mark.parametrize("pooling", ["avg", "max", "concat"])
def test_pooling_without_special_tokens_exports(pooling: str, config: Any, tmp_path: Path) -> None:
    run = config(
        f"model.classifier.pooling={pooling}", "model.classifier.special_tokens=false", "train.epochs=1"
    )
    list(finetune_events(run, tmp_path / "model"))
    assert export_onnx(tmp_path / "model", tmp_path / "bundle").manifest.parity["label_agreement"] == 1.0
    kept = twil.load(tmp_path / "model")
    assert kept.config.classifier is not None
    assert kept.config.classifier.special_tokens is False


def test_a_head_and_a_loss_of_ones_own_are_trained_loaded_and_exported(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "_OWN", {})
    monkeypatch.setitem(losses._LOSSES, "class", dict(losses._LOSSES["class"]))

    @register_head("two_layers")
    def two_layers(size: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, outputs))

    @register_loss("hinge", "class")
    def hinge(logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.multi_margin_loss(logits, targets, reduction="none")

    run = config("model.classifier.head=two_layers", "train.loss=hinge", "train.epochs=6")
    *_, finished = finetune_events(run, tmp_path / "model")
    assert isinstance(finished, FinetuneFinished)
    assert finished.dev.metrics["accuracy"] > 0.8
    assert "classifier.output.2.weight" in twil.load(tmp_path / "model").state_dict()
    assert export_onnx(tmp_path / "model", tmp_path / "bundle").manifest.parity["label_agreement"] == 1.0
    for taken in ("two_layers", "linear"):
        with pytest.raises(ConfigError, match="choose another name"):
            register_head(taken)

    monkeypatch.setattr(heads, "_OWN", {})  # as in a program that has not registered it
    with pytest.raises(
        ConfigError, match=r"there is no head 'two_layers' \(there is linear\): .*register_head"
    ):
        twil.load(tmp_path / "model")


def test_the_example_of_the_documentation_runs_as_it_stands(
    config: Any, tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (heads, metrics):
        monkeypatch.setattr(module, "_OWN", {})
    monkeypatch.setitem(losses._LOSSES, "class", dict(losses._LOSSES["class"]))
    config()  # which writes train.tsv and dev.tsv
    shutil.copyfile(tokenizer_file, tmp_path / "tokenizer.json")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    exec(page.split("```python\n")[1].split("```")[0], {})
    run = json.loads((tmp_path / "model" / "run.json").read_text())
    assert "surest_tenth" in run["results"]["dev"]["metrics"]
    assert "classifier.output.2.weight" in twil.load(tmp_path / "model").state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tune-threshold", "f1", "--labels", "P,N,O"], "no row has the label O"),
        (["--task", "regression"], "'P' in the column CLASS is no number"),
        (["--task", "stance"], "a score of AGAINST, FAVOR is wanted, and the labels are N, P"),
        (["--text-pair", "ANSWER"], "ANSWER"),
        (["--loss", "mse2"], "there is no loss 'mse2'"),
        (["--loss", "binary_cross_entropy"], "does not fit a class task"),
        (["--class-weights", "P=viel"], "--class-weights takes none, balanced"),
        (["--class-weights", "X=2"], "there is no label 'X'"),
        (["--freeze", "7"], "this encoder has embeddings and the layers 0 to 1"),
        (["--set", "train.metric=pearson"], "there is no metric 'pearson' of a class task"),
        (["--set", "model.classifier.head=mine"], "there is no head 'mine'"),
        (["--set", "data.scored=['P']"], "scored has no effect"),
        (["--set", "train.layer_decay=0"], "layer_decay"),
        (["--calibrate", "vibes"], "temperature"),
    ],
)
def test_what_does_not_fit_is_one_clear_line_and_nothing_is_written(
    options: list[str], message: str, config: Any, tmp_path: Path, tokenizer_file: Path
) -> None:
    data = config().data
    start = ["--init", "tiny", "--tokenizer", tokenizer_file]
    done = twil_command("finetune", data.train, "--dev", data.dev, *start, *options, "-o", tmp_path / "model")
    assert done.exit_code == 1, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "model.checkpoint").exists()


def test_a_threshold_is_refused_for_three_labels(config: Any, tmp_path: Path, tokenizer_file: Path) -> None:
    data = config().data
    data.train.write_text(data.train.read_text() + "99\tbueno\tvale\tNEU\n")
    start = ["--init", "tiny", "--tokenizer", tokenizer_file, "--tune-threshold", "f1"]
    done = twil_command("finetune", data.train, "--dev", data.dev, *start, "-o", tmp_path / "model")
    assert done.exit_code == 1
    assert "the likeliest of 3 labels, and needs no threshold" in done.stderr


@pytest.mark.parametrize("name", ["pair", "multi-label", "regression", "stance"])
def test_every_kind_of_task_is_held_to_its_answers_in_int8(
    name: str, tmp_path: Path, tokenizer_file: Path
) -> None:
    answers, options, metric = TASKS[name]
    train = write(tmp_path / "train.tsv", answers, copies=4)
    start = [
        "--init",
        "tiny",
        "--tokenizer",
        tokenizer_file,
        "--epochs",
        4,
        "--lr",
        "1e-3",
        "--batch-tokens",
        64,
    ]
    done = twil_command("finetune", train, "--dev", train, *start, *options, "-o", tmp_path / "model")
    assert done.exit_code == 0, done.output
    pair = ["--text-pair", "REPLY"] if name == "pair" else []
    files = ["--precision", "int8", "--calibration", train, "--eval", train, *pair]
    loose = ["--max-drop", 100, "--min-agreement", 0, "--max-change", 1]
    done = twil_command("export", tmp_path / "model", "--onnx", *files, *loose, "-o", tmp_path / "bundle")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "bundle" / "bundle.json").read_text())["int8"]
    assert found["metric"] == metric
    assert found["same"] > 0.8 * found["answers"]
    assert abs(found["fp32_score"] - found["int8_score"]) < 10
    if name == "regression":  # no rounded graph gives the very same numbers
        strict = ["--max-drop", 0, "--min-agreement", 100, "--max-change", 0]
        done = twil_command(
            "export", tmp_path / "model", "--onnx", *files, *strict, "-o", tmp_path / "strict"
        )
        assert done.exit_code == 1
        assert "does not keep its answers (Pearson correlation" in done.stderr
        assert not (tmp_path / "strict").exists()
