"""A classifier to be trained: on the encoder of a model folder or of the original, or on one drawn anew."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

from tokenizers import Tokenizer

from twil.config.model import ClassifierConfig, EncoderConfig, ModelConfig
from twil.config.training import StartConfig
from twil.core.errors import ConfigError, ModelWarning
from twil.core.task import Task
from twil.model.folder import Description, describe, load_described
from twil.model.hub.description import HubDescription
from twil.model.original import import_original
from twil.model.text_model import TextModel
from twil.model.twilbert import TWilBERT, keeps_classifier, with_heads
from twil.text.tokenizer import check_own, load_tokenizer, max_length, set_max_length


@dataclass(frozen=True)
class MadeClassifier:
    """A classifier that a run starts from.

    Attributes:
        model: With its task: that of the data, with the labels in the order of a head that is kept.
        tokenizer: Its tokenizer, with the run's longest length.
        kept: Whether the head of a model folder is kept.
    """

    model: TextModel
    tokenizer: Tokenizer
    kept: bool


def make_classifier(start: StartConfig, task: Task) -> MadeClassifier:
    """Make the classifier that a run starts from.

    Args:
        start: Where from.
        task: What the data ask.

    Raises:
        ConfigError: There is no such encoder, it cannot have such a head, or rows may not be that long.
        ModelError: The folder, the original's weights or the tokenizer cannot be read.
        MissingExtraError: The transformers library is needed and not installed.
    """
    made = _make(start, task)
    limit = made.model.max_positions
    length = start.max_length or min(limit, max_length(made.tokenizer) or limit)
    if length > limit:
        raise ConfigError(f"rows of {length} tokens do not fit: the encoder has {limit} positions")
    set_max_length(made.tokenizer, length)
    return made


def _make(start: StartConfig, task: Task) -> MadeClassifier:
    if start.is_drawn:
        return _draw(start, task)
    if start.original is not None:
        imported = import_original(start.original.weights, start.original.config, start.original.vocab)
        return _put_head(start, imported.model, imported.tokenizer, task)
    assert start.folder is not None
    described = describe(start.folder, start.preparation)
    if start.keep_head:
        task = kept_task(described, start, task)
    made = (
        _take_from_library(start, described.hub, task)
        if described.hub is not None
        else _take_own(start, described, task)
    )
    own = described.task
    if own is not None and not made.kept:
        warnings.warn(
            f"the classifier of {start.folder} ({own.kind} of {', '.join(own.labels)}) is left out, and "
            "a new one is drawn (--keep-head trains a model's own further)",
            ModelWarning,
            stacklevel=2,
        )
    return made


def _take_own(start: StartConfig, described: Description, task: Task) -> MadeClassifier:
    model, tokenizer = load_described(described)
    assert isinstance(model, TWilBERT)
    if start.map_labels:
        model.set_task(model.task.renamed(start.map_labels))
    made = _put_head(start, model, tokenizer, task)
    if start.keep_head and not made.kept:
        raise _changed_head()
    return made


def _draw(start: StartConfig, task: Task) -> MadeClassifier:
    assert start.tokenizer is not None
    tokenizer = load_tokenizer(start.tokenizer)
    check_own(tokenizer, start.tokenizer)
    encoder = start.draw(vocab_size=tokenizer.get_vocab_size())
    shape = _shape(encoder, start, start.classifier.apply(None), task)
    return MadeClassifier(TWilBERT(shape), tokenizer, kept=False)


def _put_head(start: StartConfig, model: TWilBERT, tokenizer: Tokenizer, task: Task) -> MadeClassifier:
    shape = _shape(model.config.encoder, start, start.classifier.apply(model.config.classifier), task)
    return MadeClassifier(with_heads(model, shape), tokenizer, keeps_classifier(model.config, shape))


def _take_from_library(start: StartConfig, hub: HubDescription, task: Task) -> MadeClassifier:
    from twil.model.hub.reading import Dropouts, make_hub_classifier, read_hub

    dropouts = Dropouts(start.input_dropout, start.output_dropout)
    if not start.keep_head:
        model, tokenizer = make_hub_classifier(hub, task, start.classifier, dropouts)
        return MadeClassifier(model, tokenizer, kept=False)
    model, tokenizer = read_hub(hub, dropouts)
    chosen = start.classifier.model_dump(exclude_none=True)
    if model.classifier is None and chosen:
        raise ConfigError(
            f"keep_head: the classifier of {start.folder} is the library's, which is kept as it is: leave "
            f"{', '.join(chosen)} out"
        )
    if model.classifier is not None and not model.classifier.take(
        start.classifier.apply(model.classifier.config)
    ):
        raise _changed_head()
    model.set_task(task)
    return MadeClassifier(model, tokenizer, kept=True)


def _changed_head() -> ConfigError:
    return ConfigError("keep_head: another pooling or another head would be a new classifier: leave them out")


def kept_task(described: Description, start: StartConfig, task: Task) -> Task:
    """Give the data's task with its labels in the order of a folder's own classifier.

    Raises:
        ConfigError: The folder has no classifier, or one that is asked something else; both are told.
    """
    if described.task is None:
        raise ConfigError(f"keep_head: {start.folder} has no classifier to keep: leave it out")
    own = described.task.undecided.renamed(start.map_labels)
    if own.kind != task.kind:
        raise ConfigError(f"keep_head: {start.folder} is a {own.kind} model, and the data are of {task.kind}")
    if set(own.labels) != set(task.labels) and task.kind != "regression":
        cure = "leave keep_head out for a new classifier"
        if len(own.labels) == len(task.labels):
            places = zip(described.task.labels, own.labels, strict=True)
            stray = next(name for name, called in places if called not in task.labels)
            free = next(label for label in task.labels if label not in own.labels)
            cure = f"tie them to each other (--map-labels {stray}={free},…), or {cure}"
        raise ConfigError(
            f"keep_head: {start.folder} has the labels {', '.join(own.labels)}, and the data have "
            f"{', '.join(task.labels)}: {cure}"
        )
    return replace(task, labels=own.labels)


def _shape(
    encoder: EncoderConfig, start: StartConfig, classifier: ClassifierConfig, task: Task
) -> ModelConfig:
    dropouts = {"input_dropout": start.input_dropout, "output_dropout": start.output_dropout}
    chosen = {name: value for name, value in dropouts.items() if value is not None}
    return ModelConfig(encoder=encoder.model_copy(update=chosen), classifier=classifier, task=task)
