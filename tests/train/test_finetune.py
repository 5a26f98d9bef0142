"""The training loop through fine-tuning: what it learns, and that it can be stopped anywhere."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_rows
from safetensors.torch import save_file
from tuning import twil_command

import twil
from twil import shipped
from twil.config.loop import OptimiserConfig, Precision
from twil.config.training import FinetuneConfig, TrainConfig, finetune_config
from twil.core.errors import ConfigError, DataError, ModelError, ModelWarning, TwilError
from twil.core.task import Task
from twil.evaluation.evaluate import evaluate
from twil.model.classifier import make_classifier
from twil.model.folder import load_with_tokenizer
from twil.scores.metrics import score_logits
from twil.text.tokenizer import max_length
from twil.train import checkpoint, devices
from twil.train.checkpoint import CheckpointFolder
from twil.train.finetune import FinetuneFinished, FinetuneStarted, finetune_events
from twil.train.loop import Evaluated, Interrupted, Step, StepDone, Trainer, count_steps
from twil.train.objectives.classification import Classification, EncodedSet, encode_set
from twil.train.optimisers import make_optimiser, rate

GOOD = ["me encanta este sitio", "qué día tan genial", "gracias, todo perfecto", "feliz con el regalo"]
BAD = ["odio esperar el bus", "qué servicio tan horrible", "todo fatal otra vez", "harta de este ruido"]


@pytest.fixture
def config(tmp_path: Path, tokenizer_file: Path) -> Callable[..., FinetuneConfig]:
    rows = [(f"{text} {number}", "P") for number in range(5) for text in GOOD]
    rows += [(f"{text} {number}", "N") for number in range(5) for text in BAD]
    train = write_rows(tmp_path / "train.tsv", rows)
    dev = write_rows(tmp_path / "dev.tsv", [(text, "P") for text in GOOD] + [(text, "N") for text in BAD])

    def make(*overrides: str, **train_options: Any) -> FinetuneConfig:
        options = {"epochs": 3, "batch_tokens": 64, "lr": 1e-3, **train_options}
        return finetune_config(
            None,
            {
                "data": {"train": train, "dev": dev},
                "model": {"init": "tiny", "tokenizer": tokenizer_file},
                "train": options,
            },
            overrides,
        )

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return twil.load(folder).state_dict()


def same(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_it_learns_and_the_folder_holds_the_best_epoch(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    events = list(finetune_events(config(epochs=6), tmp_path / "model"))
    assert isinstance(events[0], FinetuneStarted)
    assert isinstance(events[-1], FinetuneFinished)
    assert events[0].labels == {"N": 20, "P": 20}
    assert events[-1].dev.metrics["accuracy"] == 1.0
    epochs = [event for event in events if isinstance(event, Evaluated)]
    assert [event.epoch for event in epochs if event.best][-1] == events[-1].best_epoch
    assert evaluate(tmp_path / "model", tmp_path / "dev.tsv").report == events[-1].dev
    run = json.loads((tmp_path / "model" / "run.json").read_text())
    assert run["best_epoch"] == events[-1].best_epoch
    assert run["config"]["train"]["lr"] == 1e-3
    assert len(run["history"]) == len(epochs)
    assert not (tmp_path / "model.checkpoint").exists()


def test_a_preset_may_be_changed_for_a_model_drawn_anew(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    list(finetune_events(config("model.encoder.n_layers=1", epochs=1), tmp_path / "model"))
    shape = twil.load(tmp_path / "model").config.encoder
    assert (shape.n_layers, shape.hidden_size) == (1, 128)


def test_lower_precision_on_a_cpu_learns_too(config: Callable[..., FinetuneConfig], tmp_path: Path) -> None:
    events = list(finetune_events(config(epochs=4, precision="bf16"), tmp_path / "model"))
    assert isinstance(events[-1], FinetuneFinished)
    assert events[-1].dev.metrics["accuracy"] >= 0.75
    assert {value.dtype for value in weights(tmp_path / "model").values()} == {torch.float32}


@pytest.mark.parametrize(
    ("wanted", "units", "hidden_size", "given"),
    [
        ("auto", ["avx512_bf16"], 256, "bf16"),
        ("auto", ["amx_bf16"], 768, "bf16"),
        ("auto", ["avx512_bf16", "amx_bf16"], 128, "fp32"),
        ("auto", ["avx512_vnni"], 768, "fp32"),
        ("fp32", ["avx512_bf16"], 768, "fp32"),
        ("bf16", [], 64, "bf16"),
    ],
)
def test_auto_is_bf16_where_a_cpu_has_units_and_the_model_gains_by_them(
    wanted: Precision, units: list[str], hidden_size: int, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_flags", lambda: dict.fromkeys(units, True))
    assert devices.choose_precision(wanted, torch.device("cpu"), hidden_size) == given


def test_a_run_records_its_arithmetic_and_goes_on_in_no_other(
    config: Callable[..., FinetuneConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = config("model.encoder.hidden_size=256", "model.encoder.n_layers=1", epochs=1)
    monkeypatch.setattr(devices, "cpu_flags", lambda: {"avx512_bf16": True})
    begun = run_until(large, tmp_path / "model", lambda event: isinstance(event, StepDone))
    assert begun[0].precision == "bf16"
    monkeypatch.setattr(devices, "cpu_flags", dict)
    with pytest.raises(ConfigError, match=r"other settings \(train\.precision\)"):
        list(finetune_events(large, tmp_path / "model", resume=True))
    monkeypatch.undo()
    told = large.model_copy(update={"train": large.train.model_copy(update={"precision": "bf16"})})
    list(finetune_events(told, tmp_path / "model", resume=True))
    run = json.loads((tmp_path / "model" / "run.json").read_text())
    assert run["config"]["train"]["precision"] == "bf16"


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        list(finetune_events(config(epochs=1, seed=seed), tmp_path / name))
    assert same(tmp_path / "one", tmp_path / "two")
    assert not same(tmp_path / "one", tmp_path / "three")


def history(folder: Path) -> list[dict[str, float]]:
    epochs = json.loads((folder / "run.json").read_text())["history"]
    return [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in epochs]


def run_until(
    config: FinetuneConfig, folder: Path, last: Callable[[Any], bool], *, kill: bool = False
) -> list[Any]:
    """Run until an event: then ask the run to stop, or drop it as SIGKILL would."""
    asked: list[bool] = []
    events = []
    for event in finetune_events(config, folder, should_stop=lambda: bool(asked)):
        events.append(event)
        if last(event) and kill:
            break
        if last(event):
            asked.append(True)
    return events


@pytest.mark.parametrize("way", ["asked to stop", "killed"])
def test_a_run_stopped_in_its_second_epoch_ends_bit_for_bit_the_same(
    config: Callable[..., FinetuneConfig], tmp_path: Path, way: str
) -> None:
    whole = list(finetune_events(config(), tmp_path / "whole"))
    first_epoch = sum(isinstance(event, StepDone) and event.epoch == 1 for event in whole)
    stop = first_epoch + 2
    kill = way == "killed"
    part = run_until(
        config(),
        tmp_path / "part",
        lambda event: isinstance(event, StepDone) and event.step == stop,
        kill=kill,
    )
    assert isinstance(part[-1], StepDone if kill else Interrupted)
    resumed_at = first_epoch if kill else stop
    assert not (tmp_path / "part").exists()
    torch.manual_seed(12345)
    rest = list(finetune_events(config(), tmp_path / "part", resume=True))
    assert isinstance(rest[0], FinetuneStarted)
    assert rest[0].resumed == resumed_at
    assert same(tmp_path / "whole", tmp_path / "part")

    def steps(events: list[Any]) -> list[StepDone]:
        return [event for event in events if isinstance(event, StepDone)]

    assert steps(whole)[resumed_at:] == steps(rest)  # losses and learning rates, step by step
    assert history(tmp_path / "whole") == history(tmp_path / "part")


def test_patience_and_the_best_epoch_survive_a_resume(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    # Without learning no epoch is better than the first: patience 3 ends the run after the fourth.
    stuck = config(epochs=9, patience=3, lr=1e-12)
    part = finetune_events(stuck, tmp_path / "model")
    for event in part:
        if isinstance(event, Evaluated) and event.epoch == 2:
            break
    part.close()
    rest = list(finetune_events(stuck, tmp_path / "model", resume=True))
    assert [event.epoch for event in rest if isinstance(event, Evaluated)] == [3, 4]
    assert [event.last for event in rest if isinstance(event, Evaluated)] == [False, True]
    assert isinstance(rest[-1], FinetuneFinished)
    assert rest[-1].best_epoch == 1


def test_a_stopped_run_may_be_made_longer_and_a_finished_one_is_trained_further_elsewhere(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    # Of one learning rate throughout, so that a longer run begins as a shorter one does.
    steady = {"schedule": "constant", "warmup": 0.0, "patience": None}
    whole = list(finetune_events(config(epochs=3, **steady), tmp_path / "whole"))
    list(finetune_events(config(epochs=2, **steady), tmp_path / "part", should_stop=lambda: True))
    with pytest.raises(ConfigError, match=r"train\.epochs"):
        list(finetune_events(config(epochs=1, **steady), tmp_path / "part", resume=True))
    rest = list(finetune_events(config(epochs=3, **steady), tmp_path / "part", resume=True))
    assert [event for event in whole if isinstance(event, Evaluated)][-1].epoch == 3
    assert [event for event in rest if isinstance(event, Evaluated)][-1].epoch == 3
    assert same(tmp_path / "whole", tmp_path / "part")
    # Also one that was killed when its last step was done.
    run_until(
        config(epochs=2, **steady),
        tmp_path / "killed",
        lambda event: isinstance(event, Evaluated) and event.last,
        kill=True,
    )
    list(finetune_events(config(epochs=3, **steady), tmp_path / "killed", resume=True))
    assert same(tmp_path / "whole", tmp_path / "killed")
    with pytest.raises(ConfigError, match=r"is finished.*--model .*part.*--init .*part.*--force"):
        list(finetune_events(config(epochs=9, **steady), tmp_path / "part", resume=True))


def test_a_run_with_other_settings_is_not_continued(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    list(finetune_events(config(), tmp_path / "model", should_stop=lambda: True))
    with pytest.raises(ConfigError, match=r"train\.lr"):
        list(finetune_events(config(lr=2e-3), tmp_path / "model", resume=True))
    with pytest.raises(ConfigError, match="--resume, or start anew with --force"):
        list(finetune_events(config(), tmp_path / "model"))
    (tmp_path / "dev.tsv").write_text((tmp_path / "dev.tsv").read_text() + "x\tuno más\tP\n")
    with pytest.raises(ConfigError, match="the dev data"):
        list(finetune_events(config(), tmp_path / "model", resume=True))
    assert isinstance(
        list(finetune_events(config(), tmp_path / "model", overwrite=True))[-1], FinetuneFinished
    )


@pytest.mark.parametrize("fault", ["save_file", "torch.save"])
def test_a_fault_while_writing_a_checkpoint_leaves_the_last_good_one(
    config: Callable[..., FinetuneConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    run = finetune_events(config(), tmp_path / "model")
    for event in run:
        if isinstance(event, Evaluated):
            break

    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        if fault == "save_file":
            patch.setattr(checkpoint, "save_file", broken)
        else:
            patch.setattr(torch, "save", broken)
        with pytest.raises(OSError, match="no space left"):
            list(run)
    kept = CheckpointFolder(tmp_path / "model.checkpoint").load()
    assert kept is not None
    assert kept.state["progress"]["epoch"] == 2
    rest = list(finetune_events(config(), tmp_path / "model", resume=True))
    list(finetune_events(config(), tmp_path / "whole"))
    assert isinstance(rest[-1], FinetuneFinished)
    assert same(tmp_path / "model", tmp_path / "whole")


def test_a_checkpoint_with_code_in_it_is_refused_and_nothing_runs(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    list(finetune_events(config(), tmp_path / "model", should_stop=lambda: True))
    (state,) = (tmp_path / "model.checkpoint").glob("*/state.pt")
    torch.save({"payload": Payload()}, state)
    with pytest.raises(ModelError, match="the checkpoint"):
        list(finetune_events(config(), tmp_path / "model", resume=True))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("damage", ["empty", "another dictionary", "a list", "other weights", "no weights"])
def test_a_damaged_checkpoint_is_one_clear_error_and_is_kept(
    config: Callable[..., FinetuneConfig], tmp_path: Path, damage: str
) -> None:
    list(finetune_events(config(), tmp_path / "model", should_stop=lambda: True))
    (folder,) = (tmp_path / "model.checkpoint").glob("checkpoint-*")
    if damage == "empty":
        (folder / "state.pt").write_bytes(b"")
    elif damage == "no weights":
        (folder / "weights.safetensors").unlink()
    elif damage == "other weights":
        save_file({"x": torch.zeros(1)}, folder / "weights.safetensors")
    else:
        torch.save({"x": 1} if "dictionary" in damage else [1], folder / "state.pt")
    with pytest.raises(ModelError, match=r"cannot be read .*--force"):
        list(finetune_events(config(), tmp_path / "model", resume=True))
    assert folder.is_dir()


def test_a_run_killed_while_it_moves_its_checkpoint_goes_on_from_the_one_before(
    config: Callable[..., FinetuneConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(finetune_events(config(), tmp_path / "whole"))
    run = finetune_events(config(), tmp_path / "model")
    for event in run:
        if isinstance(event, Evaluated):
            break

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            list(run)
    (tmp_path / "model.checkpoint" / ".checkpoint-000002-half").mkdir()
    list(finetune_events(config(), tmp_path / "model", resume=True))
    assert same(tmp_path / "whole", tmp_path / "model")
    assert not (tmp_path / "model.checkpoint").exists()


def test_what_lies_where_the_state_is_kept_is_never_removed(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    (tmp_path / "model.checkpoint").mkdir()
    (tmp_path / "model.checkpoint" / "thesis.odt").touch()
    for options in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(TwilError, match=r"something else lies there \(thesis\.odt\)"):
            list(finetune_events(config(), tmp_path / "model", **options))
    assert (tmp_path / "model.checkpoint" / "thesis.odt").exists()


def test_a_run_is_not_continued_with_another_model(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    list(finetune_events(config(), tmp_path / "model", should_stop=lambda: True))
    for override in ("model.init=small", "model.output_dropout=0.2"):
        with pytest.raises(ConfigError, match="the model"):
            list(finetune_events(config(override), tmp_path / "model", resume=True))


def test_a_stop_between_epochs_is_heard_too(config: Callable[..., FinetuneConfig], tmp_path: Path) -> None:
    events = run_until(config(), tmp_path / "model", lambda event: isinstance(event, Evaluated))
    assert isinstance(events[-1], Interrupted)
    assert isinstance(events[-2], Evaluated)
    list(finetune_events(config(), tmp_path / "model", resume=True))
    list(finetune_events(config(), tmp_path / "whole"))
    assert same(tmp_path / "whole", tmp_path / "model")


def make_trainer(config: FinetuneConfig, folder: Path, **train: Any) -> tuple[Trainer, Classification]:
    torch.manual_seed(0)
    task = Task("class", ("N", "P"))
    start = config.model.model_copy(
        update={"classifier": config.model.classifier.model_copy(update={"dropout": 0.0})}
    )
    made = make_classifier(start, task)
    model, tokenizer = made.model, made.tokenizer
    from twil.data.labelled import read_labelled

    encoded = encode_set(read_labelled(config.data.train), tokenizer, task)
    loop = TrainConfig(lr=1e-3, warmup=0, precision="fp32", **train)
    objective = Classification(model, encoded, encoded, loop)
    trainer = Trainer(
        objective,
        loop,
        optimiser=make_optimiser(model, OptimiserConfig(weight_decay=0.01), lr=1e-3),
        steps=count_steps(objective, loop),
        checkpoints=CheckpointFolder(folder),
        fingerprint={},
    )
    return trainer, objective


def test_accumulated_gradients_are_those_of_the_whole_batch(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    rows = np.arange(17)  # micro-batches of unequal size: a mean of means would be another number
    gradients = []
    for parts in (1, 5):
        trainer, objective = make_trainer(config(), tmp_path / "c")
        objective.model.eval()
        trainer._backward(Step(np.array_split(rows, parts), {}), {"rows": 17})
        gradients.append([p.grad.clone() for p in objective.model.parameters() if p.grad is not None])
    assert len(gradients[0]) > 10
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_the_mean_of_the_weights_is_measured_and_kept(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    trainer, objective = make_trainer(
        config(), tmp_path / "c", epochs=2, average=0.9, metric="loss", batch_tokens=64
    )
    name = "classifier.output.weight"
    expected, measured = None, []
    evaluate = objective.evaluate
    objective.evaluate = lambda: (  # type: ignore[method-assign]
        measured.append(objective.model.state_dict()[name].clone()),
        evaluate(),
    )[1]
    for event in trainer.run():
        weight = objective.model.state_dict()[name].clone()
        if isinstance(event, StepDone):
            stays = min(0.9, event.step / (event.step + 10))
            expected = weight if expected is None else stays * expected + (1 - stays) * weight
        else:  # the weights go on from where they were
            torch.testing.assert_close(measured[-1], expected)
            assert not torch.equal(measured[-1], weight)
    assert len(measured) == 2
    best = objective.model.state_dict()[name]
    assert any(torch.equal(best, each) for each in measured)


def test_the_mean_of_the_weights_survives_a_resume(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    averaged = config("train.average=0.9")
    list(finetune_events(averaged, tmp_path / "whole"))
    run_until(averaged, tmp_path / "model", lambda event: isinstance(event, StepDone) and event.step == 3)
    list(finetune_events(averaged, tmp_path / "model", resume=True))
    assert same(tmp_path / "whole", tmp_path / "model")
    list(finetune_events(config(), tmp_path / "last"))
    assert not same(tmp_path / "whole", tmp_path / "last")


def test_a_loss_that_is_not_finite_stops_before_the_update(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    trainer, objective = make_trainer(config(), tmp_path / "c")
    with torch.no_grad():
        objective.model.classifier.output.bias.fill_(math.nan)  # type: ignore[union-attr]
    before = {name: value.clone() for name, value in objective.model.state_dict().items()}
    with pytest.raises(ModelError, match="the loss is nan in epoch 1, step 1"):
        list(trainer.run())
    after = objective.model.state_dict()
    del before["classifier.output.bias"]  # nan is never equal to itself
    assert len(before) > 10
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_loss_on_dev_that_is_not_finite_is_no_best_epoch(
    config: Callable[..., FinetuneConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, objective = make_trainer(config(), tmp_path / "c")
    monkeypatch.setattr(objective, "evaluate", lambda: {"loss": math.nan, "macro_f1": 1.0})
    with pytest.raises(ModelError, match=r"the loss on dev is nan after step \d+: .*lower learning rate"):
        list(trainer.run())
    assert not trainer.best


def test_evaluation_leaves_the_order_of_rows_and_the_mode_alone(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    _, objective = make_trainer(config(), tmp_path / "c")
    from twil.train.objectives.classification import compute_logits

    objective.model.train()
    together = compute_logits(objective.model, objective.train, 4096)
    assert objective.model.training
    alone = [
        compute_logits(objective.model, EncodedSet([ids], None, objective.train.targets[:1], 0), 64)[0]
        for ids in objective.train.input_ids
    ]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-6)


def test_a_trained_model_can_be_tuned_further_with_other_labels(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    list(finetune_events(config(epochs=1), tmp_path / "first"))
    rows = [("uno", "a"), ("dos", "b"), ("tres", "c")] * 4
    data = write_rows(tmp_path / "other.tsv", rows)
    second = finetune_config(
        None,
        {
            "data": {"train": data, "dev": data, "test": data, "labels": ("c", "b", "a")},
            "model": {"folder": tmp_path / "first", "max_length": 20},
            "train": {"epochs": 1, "batch_tokens": 16},
        },
    )
    events = list(finetune_events(second, tmp_path / "second"))
    model, tokenizer = load_with_tokenizer(tmp_path / "second")
    assert model.task.labels == ("c", "b", "a")
    assert max_length(tokenizer) == 20
    assert isinstance(events[-1], FinetuneFinished)
    assert events[-1].test == events[-1].dev
    record = json.loads((tmp_path / "second" / "run.json").read_text())
    train = record["config"]["train"]
    assert (train["lr"], train["head_rate"]) == (3e-4, 10.0), "that of 128 hidden numbers, and a new head"
    assert record["steps"] > 1
    assert train["average"] == round(1 - 1 / record["steps"], 4), "over the one epoch"
    fresh = json.loads((tmp_path / "first" / "run.json").read_text())["config"]["train"]
    assert (fresh["head_rate"], fresh["average"]) == (1.0, 0.0)


def test_the_encoder_that_comes_with_twil_is_tuned_where_no_model_is_named(
    config: Callable[..., FinetuneConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(finetune_events(config(epochs=1), tmp_path / "twil-es"))
    sets = config().data
    words = ["finetune", sets.train, "--dev", sets.dev, "--epochs", 1, "-o", tmp_path / "model"]
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    assert "give either a model folder" in twil_command(*words).output
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    done = twil_command(*words)
    assert done.exit_code == 0, done.output
    assert "starting from twil-es, the encoder that comes with twil" in done.output
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    assert (record["config"]["model"]["folder"], record["hub"]) == ("twil-es", None)


def test_a_classifier_of_the_same_labels_and_pooling_is_trained_further(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    list(
        finetune_events(
            config("model.classifier.pooling=avg", "model.classifier.dropout=0.3", epochs=4),
            tmp_path / "first",
        )
    )
    before = evaluate(tmp_path / "first", tmp_path / "dev.tsv").report

    def go_on(name: str, *overrides: str) -> tuple[FinetuneStarted, FinetuneFinished]:
        data = {"train": tmp_path / "train.tsv", "dev": tmp_path / "dev.tsv"}
        still = {"epochs": 1, "lr": 1e-12, "seed": 7}
        options = {"data": data, "model": {"folder": tmp_path / "first"}, "train": still}
        started, *_, finished = finetune_events(finetune_config(None, options, overrides), tmp_path / name)
        assert isinstance(started, FinetuneStarted)
        assert isinstance(finished, FinetuneFinished)
        return started, finished

    started, finished = go_on("second")
    assert started.kept_classifier
    assert finished.dev == before  # nothing was learnt, and nothing was lost
    head = twil.load(tmp_path / "second").config.classifier
    assert head is not None
    assert (head.pooling, head.dropout) == ("avg", 0.3)
    for name, change in (("third", "model.classifier.pooling=max"), ("fourth", "data.labels=['P', 'N']")):
        with pytest.warns(ModelWarning, match=r"the classifier of .* \(class of N, P\) is left out"):
            assert not go_on(name, change)[0].kept_classifier


def test_a_label_that_training_lacks_is_named_with_file_and_line(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    with (tmp_path / "dev.tsv").open("a") as dev:
        dev.write("x\tregular\tNEU\n")
    with pytest.raises(DataError, match=r"dev\.tsv, line 10: the label 'NEU' is none of N, P"):
        list(finetune_events(config(), tmp_path / "model"))
    assert not (tmp_path / "model").exists()


def test_a_dev_set_may_lack_a_label(config: Callable[..., FinetuneConfig], tmp_path: Path) -> None:
    write_rows(tmp_path / "dev.tsv", [(text, "P") for text in GOOD])
    finished = list(finetune_events(config(epochs=1), tmp_path / "model"))[-1]
    assert isinstance(finished, FinetuneFinished)
    assert finished.dev.labels["N"]["support"] == 0


def test_one_label_only_and_rows_without_a_label_are_refused(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    write_rows(tmp_path / "train.tsv", [("hola", "P"), ("adiós", "P")])
    with pytest.raises(DataError, match="all rows have the label 'P'"):
        list(finetune_events(config(), tmp_path / "model"))
    write_rows(tmp_path / "train.tsv", [("hola", "P"), ("adiós", "")])
    with pytest.raises(DataError, match=r"line 3: the row has no label in the column CLASS"):
        list(finetune_events(config(), tmp_path / "model"))


def test_blank_lines_of_a_labelled_file_are_counted(
    config: Callable[..., FinetuneConfig], tmp_path: Path
) -> None:
    with (tmp_path / "train.tsv").open("a") as train:
        train.write("\n\n")
    started = next(finetune_events(config(), tmp_path / "model"))
    assert isinstance(started, FinetuneStarted)
    assert started.rows["train"] == 40
    assert started.blank == {"train": 2, "dev": 0}


@pytest.mark.parametrize("schedule", ["linear", "noam", "constant"])
def test_rates_rise_to_one_and_never_above(schedule: Any) -> None:
    rates = [rate(schedule, step, warmup=10, steps=50) for step in range(1, 51)]
    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert max(rates) == pytest.approx(1.0)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert all(value > 0 for value in rates)


def test_noam_is_the_formula_of_its_paper() -> None:
    peak = (48 * 40) ** -0.5
    for step in (1, 7, 40, 41, 900):
        expected = 48**-0.5 * min(step**-0.5, step * 40**-1.5)
        assert peak * rate("noam", step, warmup=40, steps=1000) == pytest.approx(expected)


def test_scores_are_those_worked_out_by_hand() -> None:
    true, answers = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])
    report = score_logits(np.eye(3, dtype=np.float32)[answers], true, Task("class", ("a", "b", "c")))
    assert report.confusion == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert report.metrics["accuracy"] == pytest.approx(3 / 6)
    by_hand = {"precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7, "support": 3}
    assert report.labels["a"] == pytest.approx(by_hand)
    assert report.metrics["macro_f1"] == pytest.approx((4 / 7 + 1 / 2 + 0) / 3)
    assert report.metrics["micro_f1"] == pytest.approx(3 / 6)
    assert report.metrics["weighted_recall"] == pytest.approx(3 / 6)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lrr=1", r"train\.lrr: there is no such setting; there are epochs, .*lr, schedule"),
        (
            "model.classifier.poling=max",
            r"model\.classifier\.poling: there is no such setting; there are pooling",
        ),
        ("train.lr=fast", r"train\.lr"),
        ("model.folder=x", "either a model folder"),
        ("train.metric=beauty", "there is no metric 'beauty'"),
        ("train.precision=fp16", "needs a CUDA device"),
        ("model.init=enormous", "tiny, small, base, large"),
        ("model.encoder.n_leyers=1", r"preset tiny: n_leyers: there is no such setting"),
        ("model.encoder.vocab_size=5", r"model\.encoder: .*vocab_size"),
        ("model.max_length=1000", "132 positions"),
        ("data.labels=['P']", "at least two labels"),
        ("lr", "--set takes section.key=value"),
    ],
)
def test_a_wrong_setting_is_named_before_any_work(
    config: Callable[..., FinetuneConfig], tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(TwilError, match=message):
        list(finetune_events(config(override), tmp_path / "model"))
    assert not list(tmp_path.glob("model*"))


def test_later_settings_win_over_earlier_ones(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    sections = (
        "[data]",
        'train = "a.tsv"',
        'dev = "b.tsv"',
        "[model]",
        'folder = "m"',
        "[train]",
        "lr = 1e-4",
        "epochs = 7",
    )
    file.write_text("\n".join(sections))
    options = {"train": {"epochs": 8, "seed": None}}
    config = finetune_config(file, options, ["train.lr=3e-5", "data.text=TWEET"])
    assert (config.train.lr, config.train.epochs, config.train.seed) == (3e-5, 8, 1)
    assert config.data.text == "TWEET"
    file.write_text("[model]\nclassifier = { pooling = 'avg', dropout = 0.5 }\n")
    given = {"data": {"train": "a", "dev": "b"}, "model": {"folder": "m", "classifier": {"pooling": "max"}}}
    classifier = finetune_config(file, given).model.classifier
    assert (classifier.pooling, classifier.dropout) == ("max", 0.5)
    file.write_text("data = 3\n")
    with pytest.raises(ConfigError, match="data is a section"):
        finetune_config(file, given)
    file.write_text("[train\n")
    with pytest.raises(ConfigError, match="no TOML file"):
        finetune_config(file, {})
