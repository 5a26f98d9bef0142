"""Pretraining: what it learns, what it writes, and that it can be stopped anywhere and goes on exactly."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
import typer
from corpora import make_corpus, tiny_run
from processes import TwilProcess, wait_for_lines
from typer.testing import CliRunner

import twil
from twil.cli import console
from twil.cli.console import Display, StopSignal
from twil.cli.main import guard
from twil.cli.pretrain import command
from twil.config.loop import LOG
from twil.config.pretraining import PretrainConfig, pretrain_config
from twil.config.training import finetune_config
from twil.core.errors import ConfigError, ModelError, TwilError
from twil.data.corpus.build import CorpusOptions, build_corpus
from twil.model.folder import save
from twil.model.original import import_original
from twil.train import checkpoint
from twil.train.checkpoint import CheckpointFolder
from twil.train.finetune import finetune_events
from twil.train.loop import Evaluated, Interrupted, Loss, StepDone
from twil.train.objectives import denoising
from twil.train.objectives.denoising import Denoising
from twil.train.pretraining import PretrainingFinished, PretrainingStarted, pretrain_events
from twil.train.run_log import read_log

RUNNER = CliRunner()
APP = typer.Typer()
APP.command("pretrain")(guard(command))
APP.callback()(lambda: None)  # a group, so that the command keeps its name


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, examples: Path, tokenizer_file: Path) -> Path:
    return make_corpus(examples, tokenizer_file, tmp_path_factory.mktemp("corpus") / "corpus")


@pytest.fixture
def config(corpus: Path) -> Callable[..., PretrainConfig]:
    return lambda *overrides, **train: tiny_run(corpus, *overrides, **train)


def of_kind(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return twil.load(folder).state_dict()


def same(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def timeless(folder: Path) -> list[dict[str, Any]]:
    """Read a log without times and speeds."""
    lines = read_log(folder / LOG)
    return [{key: value for key, value in line.items() if "second" not in key} for line in lines]


def stop_after(config: PretrainConfig, folder: Path, step: int, *, kill: bool = False) -> list[Any]:
    """Run until a step: then ask the run to stop, or drop it as SIGKILL would."""
    asked: list[bool] = []
    events = []
    for event in pretrain_events(config, folder, should_stop=lambda: bool(asked)):
        events.append(event)
        if isinstance(event, StepDone) and event.step == step:
            if kill:
                break
            asked.append(True)
    return events


def test_it_learns_and_says_so_in_events_folder_and_log(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    events = list(pretrain_events(config(epochs=6), tmp_path / "model"))
    started, finished = events[0], events[-1]
    assert isinstance(started, PretrainingStarted)
    assert isinstance(finished, PretrainingFinished)
    steps, evaluations = of_kind(events, StepDone), of_kind(events, Evaluated)
    assert len(steps) == started.steps == steps[-1].step
    assert steps[-1].loss < steps[0].loss - 0.5
    assert len(evaluations) == 6
    assert evaluations[-1].metrics["mlm_accuracy"] > 0.02  # one of 600 tokens by chance
    best = min(evaluations, key=lambda event: event.metrics["loss"])
    assert finished.step == best.step
    assert finished.metrics == best.metrics
    model = twil.load(tmp_path / "model")
    assert model.config.mlm
    assert model.config.rop is not None
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    assert record["best_step"] == best.step
    assert record["results"]["dev"] == best.metrics
    assert record["config"]["train"]["lr"] == 5e-3
    lines = read_log(tmp_path / "model" / LOG)
    assert [line["step"] for line in lines if line["event"] == "step"] == [event.step for event in steps]
    assert [line["loss"] for line in lines if line["event"] == "step"] == [event.loss for event in steps]
    assert not (tmp_path / "model.checkpoint").exists()


def test_counts_of_a_step_are_those_of_its_rows(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    events = list(pretrain_events(config(epochs=1), tmp_path / "model"))
    started, steps = events[0], of_kind(events, StepDone)
    assert sum(step.counts["rows"] for step in steps) == started.epoch_rows
    assert started.epoch_rows == 2 * started.pairs + started.texts
    assert sum(step.counts["ordered"] for step in steps) == 2 * started.pairs
    assert all(step.counts["rows"] == 32 for step in steps[:-1])


def test_without_reply_order_each_pair_is_seen_once_and_there_is_no_head(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    events = list(pretrain_events(config("objective.rop=false", epochs=1), tmp_path / "model"))
    assert events[0].epoch_rows == events[0].pairs + events[0].texts
    assert all("rop_loss" not in event.metrics for event in of_kind(events, StepDone))
    assert twil.load(tmp_path / "model").config.rop is None


def test_steps_go_on_over_epochs_and_evaluations_come_when_asked(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    events = list(pretrain_events(config(steps=17, evaluate_steps=5), tmp_path / "model"))
    epoch = max(event.step for event in of_kind(events, StepDone) if event.epoch == 1)
    assert 5 < epoch < 17
    wanted = sorted({5, 10, 15, epoch, 17} | ({2 * epoch} if 2 * epoch < 17 else set()))
    assert [event.step for event in of_kind(events, Evaluated)] == wanted


def test_patience_ends_a_run_that_gets_no_better(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    run = config(steps=30, evaluate_steps=2, patience=2, metric="mlm_accuracy", lr=1e-9)
    evaluations = of_kind(list(pretrain_events(run, tmp_path / "model")), Evaluated)
    assert evaluations[-1].last
    assert evaluations[-1].step < 30
    assert [event.best for event in evaluations[-2:]] == [False, False]


MEMORY = (
    "model.encoder.memory={layers=[1], n_heads=2, n_keys=8, key_size=8, knn=4, query_norm=true, "
    "output_dropout=0.1}"
)


@pytest.mark.parametrize(
    "settings",
    [
        ("optimiser.name=adamw", "model.encoder.output_dropout=0.1"),
        ("optimiser.name=twilbert-adam", "train.schedule=noam", "train.lr=1e-3"),
        ("optimiser.name=lamb", "optimiser.weight_decay=0.01", "model.encoder.input_dropout=0.1"),
        ("optimiser.name=NAdam", "train.packed=false"),
        (MEMORY, "optimiser.memory_rate=4.0", "train.precision=bf16"),
    ],
    ids=["adamw", "twilbert-adam", "lamb", "nadam-padded", "memory-bf16"],
)
def test_a_run_stopped_in_its_second_epoch_ends_bit_for_bit_the_same(
    config: Callable[..., PretrainConfig], tmp_path: Path, settings: tuple[str, ...]
) -> None:
    run = config(*settings, epochs=2, checkpoint_steps=3)
    whole = list(pretrain_events(run, tmp_path / "whole"))
    epoch = max(event.step for event in of_kind(whole, StepDone) if event.epoch == 1)
    stop = epoch + 2
    for way in ("asked to stop", "killed"):
        part = stop_after(run, tmp_path / way, stop, kill=way == "killed")
        assert isinstance(part[-1], StepDone if way == "killed" else Interrupted)
        assert not (tmp_path / way).exists()
        torch.manual_seed(12345)
        rest = list(pretrain_events(run, tmp_path / way, resume=True))
        # Killed, it goes on from the last checkpoint: that of three steps, or of the epoch's end.
        resumed = stop if way == "asked to stop" else max(epoch, stop - stop % 3 if stop % 3 else stop - 3)
        assert rest[0].resumed == resumed, way
        assert same(tmp_path / "whole", tmp_path / way), way
        # Losses and rates, step by step.
        assert of_kind(whole, StepDone)[resumed:] == of_kind(rest, StepDone), way
        assert timeless(tmp_path / "whole") == timeless(tmp_path / way), way


def test_a_stop_between_a_step_and_its_evaluation_is_made_up_for(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    run = config(steps=8, evaluate_steps=4)
    whole = list(pretrain_events(run, tmp_path / "whole"))
    part = stop_after(run, tmp_path / "part", 4)
    assert not of_kind(part, Evaluated)
    rest = list(pretrain_events(run, tmp_path / "part", resume=True))
    assert isinstance(rest[1], Evaluated)
    assert [event.metrics for event in of_kind(rest, Evaluated)] == [
        event.metrics for event in of_kind(whole, Evaluated)
    ]
    assert same(tmp_path / "whole", tmp_path / "part")


def test_the_state_is_kept_before_an_evaluation_that_takes_long(
    config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Denoising) -> dict[str, float]:
        raise Killed

    run = config(steps=8, evaluate_steps=4)
    list(pretrain_events(run, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(Denoising, "evaluate", killed)
        with pytest.raises(Killed):
            list(pretrain_events(run, tmp_path / "part"))
    rest = list(pretrain_events(run, tmp_path / "part", resume=True))
    assert rest[0].resumed == 4
    assert isinstance(rest[1], Evaluated)
    assert same(tmp_path / "whole", tmp_path / "part")


def test_patience_and_the_best_weights_survive_a_resume(
    config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It grows with every step, so that the first evaluation stays the best.
    def norm(self: Denoising) -> dict[str, float]:
        return {"loss": sum(float(weight.detach().norm()) for weight in self.model.parameters())}

    monkeypatch.setattr(Denoising, "evaluate", norm)
    run = config(steps=20, evaluate_steps=2, patience=3, lr=0.5, clip=0.0)
    whole = list(pretrain_events(run, tmp_path / "whole"))
    evaluations = of_kind(whole, Evaluated)
    assert evaluations[-1].last
    assert evaluations[-1].step < 20
    assert [event.best for event in evaluations] == [True, False, False, False]
    stop_after(run, tmp_path / "part", evaluations[-1].step - 1)
    rest = list(pretrain_events(run, tmp_path / "part", resume=True))
    assert of_kind(rest, Evaluated)[-1].step == evaluations[-1].step
    assert rest[-1].step == whole[-1].step
    assert same(tmp_path / "whole", tmp_path / "part")


class Killed(BaseException):
    """The process is gone."""


def kill_after_saving(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the process die as soon as its state was kept for the given time."""
    save_state, saved = CheckpointFolder.save, []

    def killing(self: CheckpointFolder, *args: Any, **options: Any) -> None:
        save_state(self, *args, **options)
        saved.append(True)
        if len(saved) == number:
            raise Killed

    monkeypatch.setattr(CheckpointFolder, "save", killing)


@pytest.mark.parametrize("evaluation", [1, 2], ids=["in between", "the last"])
def test_a_run_killed_between_keeping_an_evaluation_and_logging_it_lacks_no_line(
    config: Callable[..., PretrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    evaluation: int,
) -> None:
    run = config(steps=8, evaluate_steps=4)
    whole = list(pretrain_events(run, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        kill_after_saving(patch, evaluation)
        with pytest.raises(Killed):
            list(pretrain_events(run, tmp_path / "part"))
    assert timeless(tmp_path / "part.checkpoint")[-1]["event"] == "step"
    rest = list(pretrain_events(run, tmp_path / "part", resume=True))
    assert rest[-1].metrics == whole[-1].metrics
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "part")
    assert same(tmp_path / "whole", tmp_path / "part")


def test_what_a_killed_write_of_the_log_leaves_is_no_obstacle(
    config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(config(), tmp_path / "model", 2)

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            list(pretrain_events(config(), tmp_path / "model", resume=True))
    (left,) = (tmp_path / "model.checkpoint").glob(f".*.{LOG}")
    rest = list(pretrain_events(config(), tmp_path / "model", resume=True))
    assert rest[0].resumed == 2
    assert isinstance(rest[-1], PretrainingFinished)
    assert not left.exists()


def test_a_full_disk_is_one_clear_error_and_the_run_goes_on_when_there_is_room(
    config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(steps=6, checkpoint_steps=2)
    list(pretrain_events(run, tmp_path / "whole"))
    kept = checkpoint.save_file

    def full(tensors: Any, path: Path) -> None:
        if "000002" in str(path):
            raise safetensors.SafetensorError("No space left on device (os error 28)")
        kept(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(TwilError, match=r"No space left on device .* --resume"):
            list(pretrain_events(run, tmp_path / "part"))
    assert [path.name for path in (tmp_path / "part.checkpoint").glob("*checkpoint*")] == [
        "checkpoint-000001"
    ]
    rest = list(pretrain_events(run, tmp_path / "part", resume=True))
    assert rest[0].resumed == 2
    assert same(tmp_path / "whole", tmp_path / "part")


def test_a_checkpoint_whose_bytes_are_damaged_is_one_clear_error(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    stop_after(config(), tmp_path / "model", 1)
    folder = CheckpointFolder(tmp_path / "model.checkpoint")
    (state,) = folder.root.glob("*/state.pt")
    good, chance = state.read_bytes(), random.Random(7)
    refused = 0
    for _ in range(60):
        damaged = bytearray(good)
        for _ in range(20):
            damaged[chance.randrange(4000)] = chance.randrange(256)
        state.write_bytes(damaged)
        try:
            folder.load()
        except ModelError as error:
            refused += "--force" in str(error)
    assert refused > 50


def test_checkpoints_come_by_the_clock_too(config: Callable[..., PretrainConfig], tmp_path: Path) -> None:
    stop_after(config(checkpoint_minutes=1e-9), tmp_path / "often", 3, kill=True)
    stop_after(config(checkpoint_minutes=60.0), tmp_path / "seldom", 3, kill=True)
    often = CheckpointFolder(tmp_path / "often.checkpoint").load()
    assert often is not None
    assert often.state["progress"]["step"] == 2  # the third step was never ended
    assert CheckpointFolder(tmp_path / "seldom.checkpoint").load() is None


def test_what_killed_writes_left_goes_with_the_next_checkpoint(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    stop_after(config(), tmp_path / "model", 2)
    (left := tmp_path / "model.checkpoint" / ".checkpoint-000002-abcd").mkdir()
    (left / "weights.safetensors").write_bytes(b"half")
    list(pretrain_events(config(steps=4), tmp_path / "other"))
    events = pretrain_events(config(), tmp_path / "model", resume=True)
    next(event for event in events if isinstance(event, Evaluated))
    assert not left.exists()


def test_the_latest_checkpoints_are_kept(config: Callable[..., PretrainConfig], tmp_path: Path) -> None:
    stop_after(config(checkpoint_steps=2, keep=2), tmp_path / "model", 6)
    folder = CheckpointFolder(tmp_path / "model.checkpoint")
    assert len(list(folder.root.glob("checkpoint-*"))) == 2
    latest = folder.load()
    assert latest is not None
    assert latest.state["progress"]["step"] == 6


def test_a_run_with_other_settings_or_another_corpus_is_not_continued(
    config: Callable[..., PretrainConfig], tmp_path: Path, examples: Path, tokenizer_file: Path
) -> None:
    stop_after(config(), tmp_path / "model", 1)
    with pytest.raises(ConfigError, match=r"train\.batch_rows"):
        list(pretrain_events(config(batch_rows=16), tmp_path / "model", resume=True))
    with pytest.raises(ConfigError, match=r"objective\.masking"):
        list(pretrain_events(config("objective.masking.max_span=2"), tmp_path / "model", resume=True))
    other = make_corpus(examples, tokenizer_file, tmp_path / "corpus", dev=0.3)
    with pytest.raises(ConfigError, match="the corpus"):
        list(pretrain_events(tiny_run(other), tmp_path / "model", resume=True))
    with pytest.raises(ConfigError, match="--resume, or start anew with --force"):
        list(pretrain_events(config(), tmp_path / "model"))
    # Where checkpoints are written, and how often the log is, changes nothing that is learned.
    rest = list(
        pretrain_events(config(log_steps=5, checkpoint_steps=7, steps=None), tmp_path / "model", resume=True)
    )
    assert isinstance(rest[-1], PretrainingFinished)


def test_a_run_is_not_continued_from_other_weights(
    config: Callable[..., PretrainConfig], corpus: Path, tmp_path: Path
) -> None:
    def further(start: Path) -> PretrainConfig:
        value = {"data": {"corpus": corpus}, "model": {"folder": start}}
        return pretrain_config(value, {}, ["train.steps=4", "train.batch_rows=32"])

    for name, seed in (("one", 1), ("other", 2)):
        list(pretrain_events(config(steps=1, seed=seed), tmp_path / name))
    stop_after(further(tmp_path / "one"), tmp_path / "model", 2)
    with pytest.raises(ConfigError, match="the weights it starts from"):
        list(pretrain_events(further(tmp_path / "other"), tmp_path / "model", resume=True))
    (tmp_path / "one").rename(tmp_path / "moved")  # where they lie changes nothing
    rest = list(pretrain_events(further(tmp_path / "moved"), tmp_path / "model", resume=True))
    assert rest[0].resumed == 2


def test_a_file_where_the_state_is_kept_is_left_alone(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "model.checkpoint").write_text("notas")
    for options in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(TwilError, match="it is a file: choose another output"):
            list(pretrain_events(config(), tmp_path / "model", **options))
    assert (tmp_path / "model.checkpoint").read_text() == "notas"


def test_what_else_lies_where_the_state_is_kept_is_never_removed(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "model.checkpoint").mkdir()
    (tmp_path / "model.checkpoint" / "thesis.odt").touch()
    for options in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(TwilError, match=r"something else lies there \(thesis\.odt\)"):
            list(pretrain_events(config(), tmp_path / "model", **options))
    assert (tmp_path / "model.checkpoint" / "thesis.odt").exists()


@pytest.mark.parametrize("where", ["loss", "gradients", "gradients without a limit"])
def test_a_run_that_diverges_stops_before_the_update_and_names_step_and_batch(
    config: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    plain = denoising.Denoising.loss
    seen: list[torch.nn.Module] = []
    before: list[dict[str, torch.Tensor]] = []

    def poisoned(self: Any, batch: Any, counts: Any) -> Loss:
        loss = plain(self, batch, counts)
        seen.append(self.model)
        if len(before) == 0 and len(seen) > 6 and self.model.training:
            before.append({name: value.clone() for name, value in self.model.state_dict().items()})
            if where == "loss":
                return Loss(loss.share * float("nan"), loss.sums)
            # √x at 0: a finite value whose gradient is not.
            return Loss(loss.share + (self.model.mlm.bias[0] * 0).sqrt(), loss.sums)
        return loss

    monkeypatch.setattr(denoising.Denoising, "loss", poisoned)
    found = "the loss is nan" if where == "loss" else "the gradients' norm is nan"
    named = r"micro-batch \d+ of \d+" if where == "loss" else "the weights are those before it"
    with pytest.raises(ModelError, match=rf"{found} in epoch 1, step \d.*{named}"):
        list(pretrain_events(config(steps=9, clip=0.0 if "without" in where else 1.0), tmp_path / "model"))
    now = seen[0].state_dict()
    assert all(torch.equal(now[name], value) for name, value in before[0].items())
    assert not (tmp_path / "model").exists()


def test_a_pretrained_folder_is_trained_further(
    config: Callable[..., PretrainConfig], corpus: Path, tmp_path: Path
) -> None:
    list(pretrain_events(config(epochs=3), tmp_path / "first"))
    value = {"data": {"corpus": corpus}, "model": {"folder": tmp_path / "first"}}
    run = pretrain_config(value, {}, ["train.steps=3", "train.batch_rows=32", "train.precision=fp32"])
    events = list(pretrain_events(run, tmp_path / "second"))
    assert events[0].new_heads == ()
    begin, fresh = of_kind(events, StepDone)[0], config(epochs=3)
    anew = of_kind(list(pretrain_events(fresh, tmp_path / "third")), StepDone)[0]
    assert begin.loss < anew.loss - 0.3


def test_a_tied_head_is_trained_saved_and_trained_further(
    config: Callable[..., PretrainConfig], corpus: Path, tmp_path: Path
) -> None:
    tied = config("model.tie_word_embeddings=true", epochs=1)
    stopped = stop_after(tied, tmp_path / "stopped", 2)
    assert isinstance(stopped[-1], Interrupted)
    list(pretrain_events(tied, tmp_path / "stopped", resume=True))
    list(pretrain_events(tied, tmp_path / "whole"))
    assert same(tmp_path / "stopped", tmp_path / "whole")
    model = twil.load(tmp_path / "whole")
    assert model.config.tie_word_embeddings
    assert "mlm.weight" not in model.state_dict()
    value = {"data": {"corpus": corpus}, "model": {"folder": tmp_path / "whole"}}
    events = list(pretrain_events(pretrain_config(value, {}, ["train.steps=2"]), tmp_path / "further"))
    assert events[0].new_heads == ()
    assert twil.load(tmp_path / "further").config.tie_word_embeddings
    with pytest.raises(ConfigError, match=r"brings its own shape: leave init, encoder and tie"):
        pretrain_config(value, {}, ["model.tie_word_embeddings=true"])


def test_a_tied_head_on_factorised_embeddings_is_refused(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    run = config("model.tie_word_embeddings=true", "model.encoder.embedding_size=8", epochs=1)
    with pytest.raises(ConfigError, match="model: tie_word_embeddings: embeddings of 8 cannot be"):
        list(pretrain_events(run, tmp_path / "model"))
    assert not list(tmp_path.iterdir())


def test_an_imported_original_is_trained_further_with_its_own_tokenizer(
    tmp_path: Path, examples: Path, corpus: Path
) -> None:
    source = Path(__file__).parents[1] / "data" / "original"
    imported = import_original(
        source / "base_like" / "weights.hdf5", source / "base_like" / "config.json", source / "vocab"
    )
    save(tmp_path / "original", imported.model, imported.tokenizer, {})
    own = make_corpus(examples, tmp_path / "original" / "tokenizer.json", tmp_path / "own")

    def run(folder: Path) -> PretrainConfig:
        value = {"data": {"corpus": folder}, "model": {"folder": tmp_path / "original"}}
        return pretrain_config(value, {}, ["train.steps=2", "train.batch_rows=8"])

    events = list(pretrain_events(run(own), tmp_path / "adapted"))
    assert isinstance(events[-1], PretrainingFinished)
    with pytest.raises(ModelError, match=r"another tokenizer .* twil corpus … --tokenizer"):
        list(pretrain_events(run(corpus), tmp_path / "other"))


def test_a_tuned_classifier_is_pretrained_further_without_its_classifier(
    config: Callable[..., PretrainConfig], corpus: Path, tmp_path: Path, examples: Path
) -> None:
    list(pretrain_events(config(epochs=3), tmp_path / "first"))
    files = {"train": examples / "tweets_train.tsv", "dev": examples / "tweets_dev.tsv"}
    tuning = finetune_config(
        None, {"data": files, "model": {"folder": tmp_path / "first"}}, ["train.steps=1"]
    )
    list(finetune_events(tuning, tmp_path / "tuned"))
    value = {"data": {"corpus": corpus}, "model": {"folder": tmp_path / "tuned"}}
    run = pretrain_config(value, {}, ["train.steps=1", "train.batch_rows=32", "train.precision=fp32"])
    events = list(pretrain_events(run, tmp_path / "second"))
    shape = twil.load(tmp_path / "second").config
    assert shape.mlm
    assert shape.rop is not None
    assert shape.classifier is None
    tuned = twil.load(tmp_path / "tuned").config
    assert events[0].new_heads == tuple(
        name for name, head in (("mlm", tuned.mlm), ("rop", tuned.rop)) if not head
    )


@pytest.mark.parametrize("anew", [True, False])
def test_rows_that_are_longer_than_the_model_are_refused_with_a_way_out_that_there_is(
    config: Callable[..., PretrainConfig], corpus: Path, tmp_path: Path, examples: Path, anew: bool
) -> None:
    short = "model.encoder.max_positions=40"
    if anew:
        run = config(short)
    else:
        tokenizer = corpus / "tokenizer.json"
        few = make_corpus(examples, tokenizer, tmp_path / "few", max_length=40)
        list(pretrain_events(tiny_run(few, short, steps=1), tmp_path / "start"))
        run = pretrain_config({"data": {"corpus": corpus}, "model": {"folder": tmp_path / "start"}}, {})
    with pytest.raises(
        ConfigError, match=r"128 tokens, and the encoder 40 positions.*--max-length 40"
    ) as said:
        list(pretrain_events(run, tmp_path / "model"))
    assert ("max_positions" in str(said.value)) == anew


def test_the_metrics_that_are_announced_are_those_that_are_measured(
    config: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    for number, setting in enumerate(("objective.rop=true", "objective.rop=false")):
        run = config(setting, steps=1)
        (measured,) = of_kind(list(pretrain_events(run, tmp_path / f"{number}")), Evaluated)
        with pytest.raises(ConfigError, match="there is no metric 'bleu'") as said:
            list(pretrain_events(config(setting, metric="bleu"), tmp_path / "never"))
        assert set(str(said.value).partition("one of ")[2].split(", ")) == measured.metrics.keys()
        assert not (tmp_path / "never.checkpoint").exists()


# --- the command, as a process


def test_signals_that_come_together_are_one_wish_and_a_later_one_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    stop = StopSignal(Display(quiet=True))
    stop.arm()
    try:
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
        now[0] += 0.05
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:  # which would end all tests
            pytest.fail("the second signal of one wish ended the run")
        now[0] += 1.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        stop.disarm()


def arguments(corpus: Path, config: Path, output: Path, *more: str) -> list[str]:
    config.write_text(
        "[model.encoder]\nhidden_size = 16\nn_layers = 2\nn_heads = 2\nhead_size = 8\nmax_positions = 132\n"
        "[train]\nsteps = 60\nbatch_rows = 32\ncheckpoint_steps = 4\nlog_steps = 1\n",
        encoding="utf-8",
    )
    return ["pretrain", str(config), "--corpus", str(corpus), "-o", str(output), *more]


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the model of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert RUNNER.invoke(APP, arguments(corpus, folder / "run.toml", folder / "whole")).exit_code == 0
    return folder / "whole"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_stopped_at_a_random_step_goes_on_bit_for_bit(
    corpus: Path, tmp_path: Path, whole: Path, number: signal.Signals
) -> None:
    step = random.Random(time.time_ns()).randint(5, 40)
    part = arguments(corpus, tmp_path / "run.toml", tmp_path / "part")
    process = TwilProcess(*part)
    wait_for_lines(process, tmp_path / "part.checkpoint" / LOG, step)
    process.send_signal(number)
    code, said = process.wait(), process.said
    assert code == (-number if number == signal.SIGKILL else 130), (step, said)
    assert not (tmp_path / "part").exists()
    if number != signal.SIGKILL:
        assert "continue with the same command and --resume" in said
    done = RUNNER.invoke(APP, [*part, "--resume"])
    assert done.exit_code == 0, done.output
    assert same(whole, tmp_path / "part"), f"stopped after step {step}"
    assert timeless(whole) == timeless(tmp_path / "part"), f"stopped after step {step}"


def write_original(path: Path, examples: Path) -> Path:
    """Write a configuration of the original, for a model of two thin layers."""
    source = json.loads((Path(__file__).parents[1] / "data/original/base_like/config.json").read_text())
    pairs = path.parent / "pares.tsv"
    pairs.write_text((examples / "pairs.tsv").read_text(encoding="utf-8"), encoding="utf-8")
    source["dataset"] = {
        "file": str(pairs),
        "vocab_file": str(Path(__file__).parents[1] / "data/original/vocab"),
    }
    source["training"] = {
        "batch_size": 8,
        "accum_iters": 4,
        "epochs": 1,
        "optimizer": "adam",
        "noam_annealing": True,
        "warmup_steps": 10,
        "use_gpu": True,
        "multi_gpu": False,
        "n_gpus": 2,
        "path_save_weights": "./weights/",
        "verbose": 1,
    }
    path.write_text(json.dumps(source), encoding="utf-8")
    return path


def test_a_configuration_of_the_original_runs_and_says_what_no_longer_applies(
    tmp_path: Path, examples: Path
) -> None:
    original = write_original(tmp_path / "config.json", examples)
    command = ["pretrain", str(original), "-o", str(tmp_path / "model")]
    done = RUNNER.invoke(APP, command)
    assert done.exit_code == 0, done.output
    assert "path_save_weights no longer applies" in done.output
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    assert record["config"]["train"]["batch_rows"] == 32
    assert record["config"]["optimiser"]["name"] == "twilbert-adam"
    assert record["config"]["train"]["lr"] == pytest.approx((48 * 10) ** -0.5)
    again = RUNNER.invoke(APP, [*command, "--force", "--set", "train.steps=2"])
    assert again.exit_code == 0, again.output
    assert "is there already and is used as it is" in again.output
    assert json.loads((tmp_path / "model" / "run.json").read_text())["steps"] == 2  # and not the epochs


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--set", "train.lr=-1"], "train.lr"),
        (["--device", "tpu"], "there is no device 'tpu'"),
        (["--set", "train.seed=100000000000000000000"], "train.seed"),
        (["-o", "taken"], "is there already"),
    ],
)
def test_faults_are_found_before_a_corpus_is_made_of_the_originals_file(
    tmp_path: Path, examples: Path, more: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").mkdir()
    Path("taken/config.json").touch()
    original = write_original(tmp_path / "config.json", examples)
    before = sorted(tmp_path.iterdir())
    done = RUNNER.invoke(APP, ["pretrain", str(original), "-o", "model", *more])
    assert done.exit_code == 1
    assert said in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_corpus_of_another_file_or_length_is_not_taken_for_the_originals(
    tmp_path: Path, examples: Path
) -> None:
    original = write_original(tmp_path / "config.json", examples)
    command = ["pretrain", str(original), "-o", str(tmp_path / "model"), "--force", "--set", "train.steps=1"]
    assert RUNNER.invoke(APP, command).exit_code == 0
    config = json.loads(original.read_text())
    other = tmp_path / "other.tsv"
    other.write_bytes((examples / "pairs.tsv").read_bytes())
    for section, changes in (("dataset", {"file": str(other)}), ("representation", {"max_len": 20})):
        original.write_text(json.dumps(config | {section: config[section] | changes}))
        done = RUNNER.invoke(APP, command)
        assert done.exit_code == 1, done.output
        assert "was made of another file, vocabulary or length" in done.stderr


def test_a_corpus_of_single_texts_teaches_no_order_and_that_is_said(
    tmp_path: Path, examples: Path, tokenizer_file: Path
) -> None:
    list(build_corpus([examples / "tweets_dev.tsv"], tmp_path / "corpus", tokenizer_file, CorpusOptions()))
    more = ["--set", "train.steps=2", "--set", "train.warmup=50"]
    done = RUNNER.invoke(
        APP, arguments(tmp_path / "corpus", tmp_path / "run.toml", tmp_path / "model", *more)
    )
    assert done.exit_code == 0, done.output
    assert "no pairs: the order of replies is not learned" in done.stderr
    assert "the warm-up takes 50 steps, and the run has 2" in " ".join(done.stderr.split())
    assert twil.load(tmp_path / "model").config.rop is None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("corpus", "is no corpus"),
        ("folder", "is no corpus"),
        ("key", "train.stepz: there is no such setting"),
        ("toml", "is no TOML file"),
        ("metric", "there is no metric 'bleu' on dev: choose one of loss"),
        ("preset", "there is no preset 'gigantic'"),
        ("optimiser", "there is no optimiser 'adamz'"),
        ("device", "there is no device 'tpu'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    corpus: Path, tmp_path: Path, fault: str, said: str
) -> None:
    given = tmp_path / "nothing" if fault == "corpus" else tmp_path if fault == "folder" else corpus
    more = {
        "key": ["--set", "train.stepz=3"],
        "metric": ["--set", "train.metric=bleu", "--set", "train.steps=1"],
        "preset": ["--set", "model.init=gigantic"],
        "optimiser": ["--set", "optimiser.name=adamz"],
        "device": ["--device", "tpu"],
    }.get(fault, [])
    command = arguments(given, tmp_path / "run.toml", tmp_path / "model", *more)
    if fault == "toml":
        (tmp_path / "run.toml").write_text("this is = = no toml", encoding="utf-8")
    done = RUNNER.invoke(APP, command)
    assert done.exit_code == 1, done.output
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("twil: error:")
    assert said in error
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "model.checkpoint").exists()


def test_only_the_first_of_several_processes_speaks(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "RANK", "1")
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "1")
    done = RUNNER.invoke(
        APP, arguments(corpus, tmp_path / "run.toml", tmp_path / "model", "--set", "train.steps=2")
    )
    assert done.exit_code == 0
    assert done.output == ""
