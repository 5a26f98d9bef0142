"""A classifier to be trained: on the encoder of a model folder or of the original, or on one drawn anew."""

from __future__ import annotations

from tokenizers import Tokenizer

from twil.config.model import ClassifierConfig, EncoderConfig, ModelConfig
from twil.config.training import StartConfig
from twil.errors import ConfigError
from twil.model.folder import load_with_tokenizer
from twil.model.original import import_original
from twil.model.twilbert import TWilBERT, keeps_classifier, with_heads
from twil.task import Task
from twil.text.tokenizer import load_tokenizer, max_length, set_max_length


def make_classifier(start: StartConfig, task: Task) -> tuple[TWilBERT, Tokenizer, bool]:
    """Make the classifier that a run starts from, and its tokenizer with the run's longest length.

    Returns:
        Both, and whether the head of a model folder is kept.

    Raises:
        ConfigError: There is no such encoder, or rows may not be that long.
        ModelError: The folder, the original's weights or the tokenizer cannot be read.
    """
    kept = False
    if not start.is_drawn:
        model, tokenizer = _load(start)
        shape = _shape(model.config.encoder, start, start.classifier.apply(model.config.classifier), task)
        classifier = with_heads(model, shape)
        kept = keeps_classifier(model.config, shape)
    else:
        assert start.tokenizer is not None
        tokenizer = load_tokenizer(start.tokenizer)
        encoder = start.draw(vocab_size=tokenizer.get_vocab_size())
        classifier = TWilBERT(_shape(encoder, start, start.classifier.apply(None), task))
    limit = classifier.config.encoder.max_positions
    length = start.max_length or min(limit, max_length(tokenizer) or limit)
    if length > limit:
        raise ConfigError(f"rows of {length} pieces do not fit: the encoder has {limit} positions")
    set_max_length(tokenizer, length)
    return classifier, tokenizer, kept


def _load(start: StartConfig) -> tuple[TWilBERT, Tokenizer]:
    if start.original is not None:
        imported = import_original(start.original.weights, start.original.config, start.original.vocab)
        return imported.model, imported.tokenizer
    assert start.folder is not None
    return load_with_tokenizer(start.folder)


def _shape(
    encoder: EncoderConfig, start: StartConfig, classifier: ClassifierConfig, task: Task
) -> ModelConfig:
    dropouts = {"input_dropout": start.input_dropout, "output_dropout": start.output_dropout}
    chosen = {name: value for name, value in dropouts.items() if value is not None}
    return ModelConfig(encoder=encoder.model_copy(update=chosen), classifier=classifier, task=task)
