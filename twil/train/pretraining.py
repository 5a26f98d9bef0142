"""Pretraining: from a corpus to an encoder's model folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from tokenizers import Tokenizer

from twil.config.loop import Precision, noam_peak
from twil.config.pretraining import PEAK_LR, PretrainConfig, PretrainLoopConfig
from twil.core.errors import ConfigError, ModelError
from twil.core.machine import peak_memory
from twil.data.corpus.corpus import Corpus, open_corpus
from twil.data.samples import Samples
from twil.model.folder import load_with_tokenizer
from twil.model.hub.model import HubModel, draw_mlm
from twil.model.text_model import TextModel, parameter_count
from twil.model.twilbert import TWilBERT, with_heads
from twil.text.special import find_special
from twil.text.tokenizer import check_own, max_length, set_max_length
from twil.train.checkpoint import CheckpointFolder
from twil.train.devices import choose_device, settle_precision
from twil.train.loop import LoopEvent, Trainer, count_steps
from twil.train.objectives.denoising import Denoising
from twil.train.run import RunPlace, TrainingRun, kept_step, run_events


@dataclass(frozen=True)
class PretrainingStarted:
    """The corpus is open and the model is made.

    Attributes:
        pairs: Pairs of the corpus.
        texts: Its single texts.
        dev_rows: Rows of an evaluation; 0 without a held-out part.
        epoch_rows: Rows of an epoch.
        max_length: The longest row in tokens.
        parameters: Trainable numbers of the model.
        steps: Optimiser steps of the whole run.
        lr: Peak learning rate.
        device: Where it runs.
        precision: In which arithmetic.
        processes: How many share each step.
        new_heads: Heads that a model trained further did not have, and that are drawn anew.
        resumed: The step it continues from, 0 for a new run.
    """

    pairs: int
    texts: int
    dev_rows: int
    epoch_rows: int
    max_length: int
    parameters: int
    steps: int
    lr: float
    warmup: int
    device: str
    precision: Precision
    processes: int
    new_heads: tuple[str, ...]
    resumed: int


@dataclass(frozen=True)
class PretrainingFinished:
    """The model folder is written.

    Attributes:
        folder: Where.
        step: The step whose weights it holds.
        metrics: What dev gave for them; empty without a held-out part.
        seconds: Time of training, over all sittings.
        peak_memory: Most memory that the process held, in bytes.
    """

    folder: Path
    step: int
    metrics: dict[str, float]
    seconds: float
    peak_memory: int


PretrainEvent: TypeAlias = PretrainingStarted | LoopEvent | PretrainingFinished


def pretrain_events(
    config: PretrainConfig,
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[PretrainEvent]:
    """Pretrain an encoder and write its model folder.

    While it runs, its state and its log lie in ``OUTPUT.checkpoint`` beside the output; at the end the
    state is removed and the log moves into the model folder. Processes that `torchrun` has started share
    each step; all yield the same events, and the first one writes.

    Args:
        config: Corpus, model, objective, optimiser and loop.
        output: The model folder to write.
        resume: Continue the interrupted run of the same settings, if there is one.
        overwrite: Replace a model folder that is there.
        device: ``auto``, ``cpu`` or ``cuda``.
        should_stop: Asked after every step; true keeps the state and ends with `Interrupted`.

    Yields:
        `PretrainingStarted`, then the loop's events, then `PretrainingFinished` (or `Interrupted`).

    Raises:
        ConfigError: A setting does not fit.
        DataError: The corpus cannot be used.
        ModelError: The model cannot be loaded, or training has diverged.
        TwilError: The output is taken, or another process writes it.
    """
    return run_events(
        lambda place: _Pretraining(config, place),
        output,
        config.train.precision,
        resume=resume,
        overwrite=overwrite,
        device=device,
        should_stop=should_stop,
    )


@contextmanager
def reserved_place(
    config: PretrainConfig, output: Path, *, resume: bool, overwrite: bool, device: str
) -> Iterator[None]:
    """Hold the output of a run while what the run needs is made, once it is known that its device is there.

    Args and errors are those of `pretrain`.
    """
    choose_device(device, config.train.precision)
    with CheckpointFolder.beside(output).reserved(output, resume=resume, overwrite=overwrite):
        yield


class _Pretraining(TrainingRun[PretrainingFinished]):
    """A run of pretraining."""

    command = "pretrain"
    decides = ("objective", "optimiser", "train")
    config: PretrainConfig
    objective: Denoising

    def __init__(self, config: PretrainConfig, place: RunPlace) -> None:
        super().__init__(place)
        self.corpus = open_corpus(config.data.corpus)
        torch.manual_seed(config.train.seed)
        self.model, self.tokenizer, self.new_heads = make_model(config, self.corpus)
        self.config = config = settle_precision(config, self.device, self.model.architecture.hidden)
        self.objective = self._objective()
        _check_metric(config.train.metric, self.objective.measured)
        self.steps = count_steps(self.objective, config.train)
        self.loop = resolve(config.train, self.steps, self.model.architecture.hidden)

    def _objective(self) -> Denoising:
        config, corpus = self.config, self.corpus
        rop = learns_order(config, corpus)
        parts = [
            Samples(
                part,
                config.objective.masking,
                vocab_size=self.tokenizer.get_vocab_size(),
                rop=rop,
                seed=config.train.seed,
                special=find_special(self.tokenizer, source="the tokenizer"),
            )
            for part in (corpus.train, corpus.dev)
            if part is not None
        ]
        return Denoising(
            self.model.to(self.device),
            parts[0],
            parts[1] if corpus.dev is not None else None,
            config.train,
            dev_rows=config.data.dev_rows,
            world=self.world,
        )

    def started(self, trainer: Trainer) -> PretrainingStarted:
        """Say what is learned from what."""
        train, dev = self.objective.train, self.objective.dev
        assert self.loop.lr is not None
        return PretrainingStarted(
            pairs=train.pairs // train.orders,
            texts=train.texts,
            dev_rows=min(len(dev), self.config.data.dev_rows) if dev else 0,
            epoch_rows=len(train),
            max_length=self.corpus.max_length,
            parameters=parameter_count(self.model),
            steps=self.steps,
            lr=self.loop.lr,
            warmup=int(self.loop.warmup),
            device=self.device.type,
            precision=self.loop.precision,
            processes=self.world.size,
            new_heads=self.new_heads,
            resumed=trainer.progress.step,
        )

    def finish(self, trainer: Trainer) -> tuple[PretrainingFinished, dict[str, Any]]:
        """Say which weights are kept, and what they gave on the held-out part."""
        step, metrics = kept_step(trainer)
        told = {
            "corpus": {
                "folder": str(self.corpus.path),
                "sha256": self.corpus.sha256,
                "pairs": self.objective.train.pairs // self.objective.train.orders,
                "texts": self.objective.train.texts,
            },
            "best_step": trainer.progress.best_step,
            "results": {"dev": metrics},
        }
        seconds = trainer.progress.total_seconds
        return PretrainingFinished(self.output, step, metrics, seconds, peak_memory()), told

    def own_fingerprint(self) -> dict[str, str]:
        """Name the corpus, wherever it lies, and what is measured of it."""
        return {"data.dev_rows": repr(self.config.data.dev_rows), "the corpus": self.corpus.sha256}


def make_model(config: PretrainConfig, corpus: Corpus) -> tuple[TextModel, Tokenizer, tuple[str, ...]]:
    """Make the model that a run starts from, and its tokenizer with the corpus's longest length.

    Returns:
        Both, and the heads that a model folder lacked.

    Raises:
        ConfigError: The shape does not fit, or the corpus has rows that are too long.
        ModelError: The model folder cannot be read, or has another tokenizer than the corpus.
    """
    rop = learns_order(config, corpus)
    model: TextModel
    tokenizer, new = corpus.tokenizer, []
    if config.model.folder is None:
        check_own(tokenizer, corpus.path)
        model = TWilBERT(config.model.shape(vocab_size=tokenizer.get_vocab_size(), rop=rop))
    else:
        start, tokenizer = load_with_tokenizer(config.model.folder)
        if rop and not isinstance(start, TWilBERT):
            raise ConfigError(
                f"{config.model.folder} has no head for the order of replies, which TWilBERT alone has: "
                "learn masked tokens alone (--set objective.rop=false)"
            )
        _check_same_tokens(tokenizer, corpus, config.model.folder)
        new = [] if start.has_mlm else ["mlm"]
        if isinstance(start, TWilBERT):
            head = start.config.rop or (config.model.rop if rop else None)
            changes = {"mlm": True, "rop": head, "classifier": None, "task": None}
            model = with_heads(start, start.config.model_copy(update=changes))
            new += ["rop"] if head and not start.rop else []
        elif isinstance(start, HubModel) and new:
            model = draw_mlm(start)
        else:
            model = start
    if model.rop is not None and not rop:
        model.rop.requires_grad_(requires_grad=False)  # kept as it is
    limit = model.max_positions
    if corpus.max_length > limit:
        longer = "" if config.model.folder else ", or set model.encoder.max_positions"
        raise ConfigError(
            f"the corpus has rows of up to {corpus.max_length} tokens, and the encoder {limit} positions: "
            f"make the corpus with --max-length {limit}{longer}"
        )
    set_max_length(tokenizer, corpus.max_length)
    return model, tokenizer, tuple(new)


def learns_order(config: PretrainConfig, corpus: Corpus) -> bool:
    """Tell whether a run learns Reply Order Prediction: it may, and there are pairs."""
    return config.objective.rop and corpus.train.pairs is not None


def resolve(config: PretrainLoopConfig, steps: int, hidden_size: int) -> PretrainLoopConfig:
    """Give the loop's options with the learning rate and the warm-up's steps written out."""
    warmup = config.warmup_steps(steps)
    noam = config.schedule == "noam"
    lr = config.lr or (noam_peak(hidden_size, warmup) if noam else PEAK_LR)
    return config.model_copy(update={"lr": lr, "warmup": float(warmup)})


def _check_metric(name: str, measured: tuple[str, ...]) -> None:
    """Refuse a metric before the first step, not at the first evaluation hours later."""
    if measured and name not in measured:
        raise ConfigError(f"there is no metric '{name}' on dev: choose one of {', '.join(measured)}")


def _check_same_tokens(tokenizer: Tokenizer, corpus: Corpus, folder: Path) -> None:
    length = max_length(tokenizer)
    own, theirs = Tokenizer.from_str(tokenizer.to_str()), Tokenizer.from_str(corpus.tokenizer.to_str())
    for copy in (own, theirs):
        copy.no_truncation()
        copy.no_padding()
    if own.to_str() != theirs.to_str():
        raise ModelError(
            f"the corpus {corpus.path} was made with another tokenizer than that of {folder}: make it with "
            f"twil corpus … --tokenizer {folder} --max-length {length}"
        )
