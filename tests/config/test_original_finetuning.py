"""The original's files for fine-tuning: what they become, what is said of them, and runs of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import EXAMPLES
from keras_files import finetuned, read_layers, write_layers
from typer.testing import CliRunner

import twil
from twil.cli.main import make_app
from twil.config.losses import ORIGINAL_LOSSES
from twil.config.original.finetuning import read_original_finetuning
from twil.config.training import FinetuneConfig, finetune_config
from twil.core.errors import ConfigError
from twil.core.task import Task
from twil.model.classifier import make_classifier
from twil.model.folder import load_with_tokenizer
from twil.model.original import import_original
from twil.train.layers import freeze

CASE = Path(__file__).parents[1] / "data" / "original" / "base_like"
VOCAB = CASE.parent / "vocab"
RUNNER = CliRunner()
APP = make_app([])

TWEETS = [
    ("qué alegría verte por aquí", "FAVOR", "0|1", "me alegro mucho", "2.5"),
    ("menudo desastre de partido", "AGAINST", "1|0", "no vuelvo más", "-1"),
    ("mañana abren la biblioteca", "NEUTRAL", "0|0", "a las nueve", "0.2"),
    ("me encanta esta canción", "FAVOR", "1|1", "es preciosa", "3"),
    ("otra vez sin luz en casa", "AGAINST", "1|0", "qué vergüenza", "-2"),
    ("el tren sale a las ocho", "NEUTRAL", "0|1", "gracias por avisar", "0"),
]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of the original with other settings, given by their paths; `...` takes one away."""
    model = json.loads((CASE / "config.json").read_text())["model"]
    del model["masked_lm"], model["pkm_params"], model["rop"]["hidden_size"]
    lines = [f"{number}\t" + "\t".join(row) for number, row in enumerate(TWEETS)]
    table = "\n".join(["ID\tTEXT\tCLASS\tBITS\tNEXT\tNUMBER", *lines, ""])
    for name in ("train.csv", "dev.csv", "test.csv"):
        (tmp_path / name).write_text(table, encoding="utf-8")
    shutil.copy(VOCAB, tmp_path / "vocab")
    shutil.copy(CASE / "weights.hdf5", tmp_path / "weights.hdf5")
    original = {
        "dataset": {
            "train_file": "./train.csv",
            "dev_file": "./dev.csv",
            "test_file": "./test.csv",
            "vocab_file": "vocab",
            "text_header": "TEXT",
            "class_header": "CLASS",
            "delimiter": "\t",
        },
        "task": {
            "regression": False,
            "categories": {"AGAINST": 0, "NEUTRAL": 1, "FAVOR": 2},
            "class_weights": {"0": 1, "1": 1, "2": 1},
            "eval_metric": "f1",
            "average_metric": "macro",
            "class_metric": None,
            "stance_f1": False,
            "multi_label": False,
        },
        "representation": {"max_len": 32, "max_len_test": 32},
        "model": model,
        "finetuning": {
            "batch_size": 32,
            "epochs": 1,
            "finetune_all": True,
            "collapse_mode": "avg",
            "use_special_tokens": True,
            "loss": "categorical_crossentropy",
            "optimizer": "adam_accumulated",
            "lr": 0.0001,
            "noam_annealing": False,
            "accum_iters": 1,
            "path_load_weights": "./weights.hdf5",
        },
    }

    def write(**changes: Any) -> Path:
        value = json.loads(json.dumps(original))
        for path, change in changes.items():
            *sections, key = path.split("__")
            section = value
            for name in sections:
                section = section.setdefault(name, {})
            if change is ...:
                del section[key]
            else:
                section[key] = change
        file = tmp_path / "original.json"
        file.write_text(json.dumps(value), encoding="utf-8")
        return file

    return write


def translated(path: Path, *overrides: str) -> FinetuneConfig:
    return finetune_config(path, {}, overrides, held=read_original_finetuning(path).config)


def run_command(*arguments: object) -> Any:
    return RUNNER.invoke(APP, ["finetune", *map(str, arguments)])


def of_several(**changes: Any) -> dict[str, Any]:
    """Give the changes that make the file one of several labels, as the original's are written."""
    task = {"dataset__class_header": "BITS", "task__categories": {"0": 0, "1": 1}, "task__multi_label": True}
    more = {"task__eval_metric": "accuracy", "finetuning__loss": "binary_crossentropy"}
    return {**task, **more, "task__class_weights": "auto", **changes}


def test_the_example_of_the_original_readme_is_understood(shared: Path, tmp_path: Path) -> None:
    readme = (shared / "seeds" / "twilbert-readme.txt").read_text(encoding="utf-8")
    example = re.search(
        r"^configs/finetuning/config_single_xlarge\.json\n(\{.*?^\})", readme, re.MULTILINE | re.DOTALL
    )
    assert example
    path = tmp_path / "config.json"
    path.write_text(example[1], encoding="utf-8")
    run = translated(path)
    assert run.data.train == Path("./finetuning_tasks/stance17/train.csv")
    assert (run.data.task, run.data.labels) == ("stance", ("AGAINST", "NEUTRAL", "FAVOR"))
    assert (run.data.scored, run.train.metric) == (("AGAINST", "FAVOR"), "stance_f1")
    assert (run.train.class_weights, run.train.loss.name) == ("none", "cross_entropy")
    assert (run.train.epochs, run.train.patience, run.train.batch_tokens) == (10, None, 1024)
    assert (run.train.lr, run.train.schedule, run.train.warmup) == (1e-4, "constant", 0)
    assert (run.optimiser.name, run.train.clip, run.train.freeze) == ("twilbert-adam", 0, None)
    assert (run.model.classifier.pooling, run.model.classifier.special_tokens) == ("avg", True)
    assert (run.model.classifier.dropout, run.model.max_length) == (0.15, 66)
    assert not any("no setting of the original" in note for note in read_original_finetuning(path).notes)


def test_a_pair_has_its_second_column_and_room_for_two_texts(write: Write) -> None:
    run = translated(write(dataset__aux_header="NEXT", finetuning__batch_size=16, finetuning__accum_iters=2))
    assert (run.data.text_pair, run.model.max_length) == ("NEXT", 2 * 32 + 3)
    assert (run.train.batch_tokens, run.train.accumulation) == (16 * 64, 2)


def test_labels_stand_in_the_order_of_their_numbers(write: Write) -> None:
    run = translated(write(task__categories={"FAVOR": 2, "AGAINST": 0, "NEUTRAL": 1}))
    assert run.data.labels == ("AGAINST", "NEUTRAL", "FAVOR")


def test_zeros_and_ones_of_several_labels_are_no_names(write: Write) -> None:
    run = translated(write(**of_several()))
    assert (run.data.task, run.data.labels, run.train.metric) == ("multi-label", None, "jaccard")
    assert (run.train.loss.name, run.train.class_weights) == ("binary_cross_entropy", "max-ratio")
    named = translated(write(**of_several(task__categories={"ira": 0, "alegría": 1})))
    assert named.data.labels == ("ira", "alegría")
    soft = write(**of_several(finetuning__loss="macro_f1"))
    assert translated(soft).train.class_weights == "none"
    assert any("class_weights are not used" in note for note in read_original_finetuning(soft).notes)


def test_the_flag_of_a_regression_is_followed(write: Write) -> None:
    changes = {"task__regression": True, "task__eval_metric": "pearson", "dataset__class_header": "NUMBER"}
    path = write(**changes, finetuning__loss="root_mean_squared_error")
    run = translated(path)
    assert (run.data.task, run.data.labels, run.train.metric) == ("regression", None, "pearson")
    assert (run.train.loss.name, run.train.class_weights) == ("rmse", "none")
    notes = " ".join(read_original_finetuning(path).notes)
    assert "reads the flag nowhere" in notes
    assert "task.categories is not used" in notes


@pytest.mark.parametrize(
    ("changes", "metric"),
    [
        ({"task__eval_metric": "accuracy"}, "accuracy"),
        ({"task__average_metric": "weighted", "task__eval_metric": "recall"}, "weighted_recall"),
        ({"task__class_metric": 0, "task__average_metric": None}, "f1:AGAINST"),
        ({"task__class_metric": 2, "task__eval_metric": "precision"}, "precision:FAVOR"),
        ({"task__stance_f1": True, "task__average_metric": None}, "stance_f1"),
        ({"task__stance_f1": True, "task__eval_metric": "accuracy"}, "accuracy"),
        ({"task__eval_metric": "pearson"}, "macro_f1"),  # of names, which have no correlation
        ({"task__eval_metric": "pearson", "task__categories": {"0": 0, "1": 1, "2": 2}}, "pearson"),
        (of_several(task__class_metric=1, task__eval_metric="f1"), "f1:2"),
    ],
)
def test_metrics_of_the_original(write: Write, changes: dict[str, Any], metric: str) -> None:
    assert translated(write(**changes)).train.metric == metric


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ("auto", "max-ratio"),
        ("ones", "none"),
        (None, "none"),
        ({"0": 2, "2": 0.5}, {"AGAINST": 2.0, "FAVOR": 0.5}),
    ],
)
def test_class_weights_of_the_original(write: Write, given: Any, weights: Any) -> None:
    assert translated(write(task__class_weights=given)).train.class_weights == weights


@pytest.mark.parametrize("loss", sorted(set(ORIGINAL_LOSSES) - {"binary_crossentropy"}))
def test_losses_of_the_original(write: Write, loss: str) -> None:
    assert translated(write(finetuning__loss=loss)).train.loss.name == ORIGINAL_LOSSES[loss]


@pytest.mark.parametrize(
    ("name", "ours", "clip", "said"),
    [
        ("lamb_accumulated", "lamb", 1.0, "each micro-batch"),
        ("adam", "Adam", 0.0, "at their own rate, 0.001"),
        ("RMSprop", "RMSprop", 0.0, "at their own rate, 0.001"),
        (None, "Adam", 0.0, "optimizer null"),
    ],
)
def test_optimisers_of_the_original(
    write: Write, name: str | None, ours: str, clip: float, said: str
) -> None:
    path = write(finetuning__optimizer=name)
    run = translated(path)
    assert (run.optimiser.name, run.train.clip, run.train.lr) == (ours, clip, 1e-4)
    assert said in " ".join(read_original_finetuning(path).notes)


def test_noam_sets_the_rate(write: Write) -> None:
    path = write(finetuning__noam_annealing=True, finetuning__warmup_steps=10)
    run = translated(path)
    assert (run.train.schedule, run.train.warmup) == ("noam", 10)
    assert run.train.lr == pytest.approx((48 * 10) ** -0.5)
    assert any("lr 0.0001 is not used" in note for note in read_original_finetuning(path).notes)


@pytest.mark.parametrize(
    ("layers", "frozen"),
    [
        ([-1], "embeddings,0"),
        ([-1, -2], "embeddings"),
        ([0, 1, 2, 3], "1"),
        ([0], "0-1"),  # embeddings are trained as one
        ([], "embeddings,0-1"),
        ([0, 1, 2, 3, 4], None),
        ("all", None),
    ],
)
def test_layers_that_are_not_trained_are_frozen(write: Write, layers: Any, frozen: str | None) -> None:
    run = translated(write(finetuning__finetune_all=..., finetuning__trainable_layers=layers))
    assert run.train.freeze == frozen
    model = make_classifier(run.model, Task("class", ("N", "P"))).model
    if frozen is not None:
        freeze(model, frozen)


def test_an_encoder_that_is_not_trained_is_frozen_whole(write: Write) -> None:
    assert translated(write(finetuning__finetune_all=False)).train.freeze == "embeddings,0-1"


@pytest.mark.parametrize("section", ["finetuning", "finetune_model"])
def test_dropouts(write: Write, section: str) -> None:
    run = translated(write(**{f"{section}__dropout": 0.25, "model__output_dropout": 0.1}))
    assert run.model.classifier.dropout == 0.25
    assert (run.model.input_dropout, run.model.output_dropout) == (0.0, 0.1)


def test_of_a_grid_the_first_setting_is_run_and_the_search_is_named(write: Write) -> None:
    grid = {"batch_size": [16, 32], "collapse_mode": ["max", "avg"], "lr": [1e-5, 5e-5], "runs": 3}
    taken = {f"finetuning__{key}": ... for key in ("batch_size", "collapse_mode", "lr")}
    path = write(grid_search={**grid, "monitorize": "accuracy"}, **taken)
    run = translated(path)
    assert (run.train.batch_tokens, run.model.classifier.pooling, run.train.lr) == (512, "max", 1e-5)
    notes = " ".join(read_original_finetuning(path).notes)
    assert "--set lr=1e-05,5e-05 --set batch_tokens=512,1024 --set pooling=max,avg --runs 3" in notes
    assert "grid_search.monitorize accuracy is not used" in notes


LEFT_OUT: dict[str, tuple[Any, str]] = {
    "dataset__id_header": ("ID", "training needs no ids"),
    "dataset__encoding": ("utf8", "dataset.encoding is no setting"),
    "representation__bucket_min": (5, "batched by length"),
    "representation__max_len_test": (16, "max_len_test 16 is not used"),
    "model__masked_lm": ({"budget": 0.15}, "nothing is masked"),
    "model__output_dropout": (0.1, "when predicting too"),
    "model__pkm_params": ({"k_dim": 16}, "pkm is off"),
    "finetuning__pred_batch_size": (32, "pred_batch_size no longer applies"),
    "finetuning__use_gpu": (True, "--device"),
    "finetuning__n_gpus": (2, "torchrun"),
    "finetuning__path_save_weights": ("pesos/", "--output"),
    "finetuning__model_name": ("polaridad", "--output"),
    "finetuning__verbose": (1, "--quiet"),
    "finetuning__warmup_steps": (5, "warmup_steps is not used"),
    "finetuning__early_stop": (3, "finetuning.early_stop is no setting"),
    "task__eval_metric": ("accuracy", "average_metric macro is not used"),
    "dataset__delimiter": (",", "quotes in a CSV"),
}


@pytest.mark.parametrize("path", LEFT_OUT)
def test_what_is_left_out_is_named_once(write: Write, path: str) -> None:
    value, word = LEFT_OUT[path]
    before = set(read_original_finetuning(write()).notes)
    new = [note for note in read_original_finetuning(write(**{path: value})).notes if note not in before]
    assert [word in note for note in new] == [True], new


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"finetuning": ..., "training": {}}, "describes a pretraining"),
        ({"finetuning": ..., "test": {}}, "describes an evaluation"),
        ({"finetuning": ...}, "describes no fine-tuning"),
        ({"task": {"rev_categories": {"0": "N"}}}, "describes a labelling"),
        ({"task": ...}, "task: is missing"),
        ({"dataset__train_file": ...}, "dataset.train_file: is missing"),
        ({"finetuning__batch_size": "32"}, "finetuning.batch_size"),
        ({"finetuning__lr": [1e-5]}, "finetuning.lr"),
        ({"finetuning__lr": ...}, "finetuning.lr: is missing"),
        ({"finetuning__path_load_weights": None}, "finetuning.path_load_weights"),
        ({"finetuning__loss": "hinge"}, "categorical_crossentropy"),
        ({"finetuning__loss": "binary_crossentropy"}, "does not fit the section task"),
        (of_several(finetuning__loss="categorical_crossentropy"), "binary_crossentropy fits"),
        ({"finetuning__optimizer": "adan"}, "adam_accumulated"),
        ({"finetuning__collapse_mode": "sum"}, "finetuning.collapse_mode"),
        ({"finetuning__noam_annealing": True}, "noam_annealing needs it"),
        ({"finetuning__trainable_layers": [7]}, "names 7"),
        ({"finetuning__trainable_layers": "some"}, "finetuning.trainable_layers"),
        ({"finetuning__trainable_layers": [1], "finetuning__finetune_all": False}, "contradict"),
        ({"finetuning__dropout": 0.1, "finetune_model__dropout": 0.2}, "contradict"),
        ({"grid_search": {"lr": []}}, "grid_search"),
        ({"task__categories": {"N": 0, "P": 0}}, "each number once"),
        ({"task__categories": {"N": 1, "P": 2}}, "from 0 to 1"),
        ({"task__categories": {}}, "task.categories is missing"),
        ({"task__class_weights": "balanced"}, "task.class_weights"),
        ({"task__class_weights": {"3": 2}}, "names the category 3"),
        ({"task__class_weights": {"FAVOR": 2}}, "task.class_weights"),
        ({"task__eval_metric": "auc"}, "task.eval_metric"),
        ({"task__average_metric": None}, "task.average_metric is null"),
        ({"task__class_metric": 3}, "names the category 3"),
        ({"task__class_metric": 1, "task__eval_metric": "accuracy"}, "contradict"),
        ({"task__class_metric": 1, "task__stance_f1": True}, "contradict"),
        ({"task__stance_f1": True, "task__categories": {"N": 0, "P": 1}}, "there are 2 categories"),
        ({"task__stance_f1": True, "task__multi_label": True}, "contradict"),
        ({"task__regression": True}, "no score of a regression"),
        ({"task__regression": True, "task__eval_metric": "pearson"}, "does not fit the section task"),
        ({"dataset__delimiter": "|"}, "dataset.delimiter"),
        ({"dataset__delimiter": ",", "dataset__dev_file": "dev.tsv"}, "call it .csv"),
        ({"model__n_heads": 0}, "n_heads"),
        ({"representation__max_len": 0}, "no room for text"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(
    write: Write, changes: dict[str, Any], said: str
) -> None:
    path = write(**changes)
    with pytest.raises(ConfigError) as caught:
        read_original_finetuning(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_are_found_in_the_working_directory_and_else_beside_the_configuration(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path("train.csv").write_text("ID\tTEXT\tCLASS\n", encoding="utf-8")
    run = translated(path)
    assert (run.data.train, run.data.dev) == (Path("train.csv"), tmp_path / "dev.csv")
    assert run.model.original is not None
    assert run.model.original.vocab == tmp_path / "vocab"


def test_the_start_has_the_weights_and_the_tokenizer_that_import_gives(write: Write) -> None:
    torch.manual_seed(0)
    path = write(representation__preprocessing=False)
    made = make_classifier(translated(path).model, Task("class", ("N", "P")))
    model, tokenizer, kept = made.model, made.tokenizer, made.kept
    imported = import_original(CASE / "weights.hdf5", path, VOCAB)
    ours, theirs = model.encoder.state_dict(), imported.model.encoder.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not kept
    assert tokenizer.encode("@ana hola").tokens == imported.tokenizer.encode("@ana hola").tokens
    plain = import_original(CASE / "weights.hdf5", CASE / "config.json", VOCAB).tokenizer
    assert tokenizer.encode("@ana hola").tokens != plain.encode("@ana hola").tokens


@pytest.mark.parametrize("several", [False, True])
def test_the_classifier_of_fine_tuned_weights_is_trained_further(
    write: Write, tmp_path: Path, several: bool
) -> None:
    labels = ("1", "2", "3", "4") if several else ("AGAINST", "NEUTRAL", "FAVOR")
    kernel, bias = torch.randn(48, len(labels)), torch.randn(len(labels))
    layers = finetuned(read_layers(CASE / "weights.hdf5"), kernel.numpy(), bias.numpy())
    write_layers(tmp_path / "weights.hdf5", layers)
    path = write(**of_several()) if several else write(task__stance_f1=True)
    run = translated(path)
    made = make_classifier(run.model, run.data.make_task(labels))
    model, kept = made.model, made.kept
    assert kept
    assert model.classifier is not None
    assert torch.equal(model.classifier.output.bias, bias)


@pytest.mark.parametrize(
    "changes",
    [
        {"task__class_weights": "auto"},
        {"dataset__aux_header": "NEXT", "task__stance_f1": True, "finetuning__trainable_layers": [-1]},
        of_several(finetuning__noam_annealing=True, finetuning__warmup_steps=2),
        {
            "dataset__class_header": "NUMBER",
            "task__regression": True,
            "task__eval_metric": "pearson",
            "finetuning__loss": "mean_squared_error",
        },
    ],
    ids=["single", "pair", "several labels", "regression"],
)
def test_one_command_trains_a_classifier(write: Write, tmp_path: Path, changes: dict[str, Any]) -> None:
    done = run_command(write(**changes), "-o", tmp_path / "model")
    assert done.exit_code == 0, done.output
    assert "note: batch_size 32 becomes" in done.stderr
    assert "[MASK] is mere punctuation" in done.stderr  # of the import
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    assert record["results"].keys() == {"dev", "test"}
    task = twil.load(tmp_path / "model").task
    assert task.pair == ("dataset__aux_header" in changes)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("model")) == ["model"]


def test_the_run_is_that_of_an_imported_folder(write: Write, tmp_path: Path) -> None:
    path = write()
    imported = ["import", tmp_path / "weights.hdf5", "--config", path, "--vocab", tmp_path / "vocab"]
    assert RUNNER.invoke(APP, [*map(str, imported), "-o", str(tmp_path / "imported")]).exit_code == 0
    for name, start in (("one", ()), ("two", ("--model", tmp_path / "imported"))):
        done = run_command("--config", path, *start, "--epochs", 2, "-o", tmp_path / name)
        assert done.exit_code == 0, done.output
    one, two = (load_with_tokenizer(tmp_path / name) for name in ("one", "two"))
    assert one[1].to_str() == two[1].to_str()
    weights = one[0].state_dict(), two[0].state_dict()
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_options_win_over_the_file(write: Write, tmp_path: Path, tokenizer_file: Path) -> None:
    path = write(finetuning__path_load_weights="absent.hdf5", dataset__test_file=None)
    start = ("--init", "tiny", "--tokenizer", tokenizer_file)
    done = run_command(path, *start, "--metric", "accuracy", "--lr", 1e-3, "-o", tmp_path / "model")
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    assert (record["config"]["train"]["metric"], record["config"]["train"]["lr"]) == ("accuracy", 1e-3)
    assert record["results"].keys() == {"dev"}


def test_several_seeds_start_from_the_same_weights(write: Write, tmp_path: Path) -> None:
    done = run_command(write(), "--runs", 2, "-o", tmp_path / "model")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "model" / "run.json").is_file()
    missing = run_command(write(dataset__vocab_file="none"), "--runs", 2, "-o", tmp_path / "other")
    assert missing.exit_code == 1
    assert "there is no file none" in missing.stderr


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        ({"dataset__dev_file": "none.csv"}, (), "there is no file none.csv"),
        ({"finetuning__path_load_weights": "none.hdf5"}, (), "--model"),
        ({"dataset__vocab_file": "none"}, (), "there is no file none"),
        ({"finetuning__path_load_weights": "vocab"}, (), "cannot be read as HDF5 weights"),
        ({"model__n_encoders": 3}, (), "another model"),
        ({"dataset__class_header": "POLARITY"}, (), "POLARITY"),
        ({"dataset__aux_header": "REPLY"}, (), "REPLY"),
        ({"task__categories": {"AGAINST": 0, "FAVOR": 1}}, (), "the label 'NEUTRAL'"),
        ({"finetuning__epochs": "many"}, (), "finetuning.epochs"),
        ({}, ("--config", "run.toml"), "give one of them"),
        ({}, ("--set", "train.lr=-1"), "train.lr"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    write: Write, tmp_path: Path, changes: dict[str, Any], more: tuple[str, ...], said: str
) -> None:
    path = write(**changes)
    before = sorted(tmp_path.iterdir())
    done = run_command(path, "-o", tmp_path / "model", *more)
    assert done.exit_code == 1, done.output
    (error,) = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert said in error
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    for content, said in ((b"{", "is no JSON"), (b"[1]", "it holds no sections")):
        file.write_bytes(content)
        done = run_command(file, "-o", tmp_path / "model")
        assert done.exit_code == 1
        assert said in done.stderr
    done = run_command(EXAMPLES / "none.json", "-o", tmp_path / "model")
    assert "there is no file" in done.stderr
