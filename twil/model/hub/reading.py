"""From a transformers folder to a model of twil."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from twil.config.model import ClassifierConfig, Pooling
from twil.config.training import ClassifierChoice
from twil.core.errors import ConfigError, ModelError, ModelWarning, first_line
from twil.core.task import Task
from twil.model.heads import LIBRARY, ClassifierHead
from twil.model.hub.description import HubDescription
from twil.model.hub.library import hushed
from twil.model.hub.model import HubHead, HubModel
from twil.model.hub.sentence import MODULES
from twil.model.hub.tokens import TOKENIZER, read_tokens
from twil.model.weights import check_finite, folder_tensors, unread
from twil.text.preparation import NONE, find_preparation, put_preparation, usual_preparation
from twil.text.special import find_special
from twil.text.tokenizer import load_tokenizer, max_length, set_max_length

_POOLER = "pooler."
"""May be missing: nothing reads it in a bare encoder, and a new classifier does without it."""
_FEW = 0.9
"""Of the tokens that a model embeds: with fewer in its tokenizer, that may be cut short."""
_DROPOUTS = ("hidden_dropout_prob", "dropout")
"""What the library's families call the dropout behind the embeddings and within layers."""
HEAD = "twil_classifier."
"""Begins the names of the weights of a classifier of twil's beside those of the library's encoder."""
USUAL_POOLING: Pooling = "avg"
"""How a classifier of twil's makes one vector of a row where neither the user nor the folder says so."""
_WRAPPER = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")
"""What torch's DataParallel and torch.compile add to the names of the weights of a model that they wrap."""


def read_hub(described: HubDescription, dropouts: Dropouts | None = None) -> tuple[HubModel, Tokenizer]:
    """Read a model that the transformers library can load, and its tokenizer; no code of the folder is run.

    Args:
        described: The folder.
        dropouts: Those of the encoder in training; the folder's own when left out.

    Returns:
        The model on the CPU, in evaluation mode, float32: a classifier or a masked language model where the
        folder holds one, else the bare encoder.

    Raises:
        ConfigError: The encoder has no such dropout.
        ModelError: The folder cannot be read, or holds no encoder.
        MissingExtraError: transformers is not installed.
    """
    folder, dropouts = described.folder, dropouts or Dropouts()
    config = dropouts.into(_read_config(described))  # first: the library reads it with the tokenizer, too
    tokenizer, longest = _read_tokenizer(described)
    make = partial(HubModel, longest=longest, input_dropout=dropouts.input_of(described))
    if described.own_classifier is not None:
        assert described.task is not None
        loaded = _load("AutoModel", folder, config)
        _check_whole(folder, loaded.missing, may_lack=_POOLER)
        _name_left(folder, [name for name in loaded.left if not name.startswith(HEAD)])
        head = _make_head(described.own_classifier, loaded.network, described.task, tokenizer)
        _load_head(head, folder)
        model = make(_without_pooler(loaded.network), "none", described.task, classifier=head)
    elif described.is_classifier:
        if described.assumption:
            _warn(described.assumption)
        loaded = _load("AutoModelForSequenceClassification", folder, config)
        _check_whole(folder, loaded.missing)
        _name_left(folder, loaded.left)
        model = make(loaded.network, "classifier", described.task)
    else:
        model = _read_without_classifier(described, config, make)
    return model.eval(), _fit(tokenizer, model, folder, longest)


def read_hub_tokens(described: HubDescription) -> Tokenizer:
    """Read the tokenizer of a folder alone, which cuts rows at what the model reads; raises as `read_hub`."""
    config = _read_config(described)  # first: the library reads it with the tokenizer, too
    tokenizer, longest = _read_tokenizer(described)
    with torch.device("meta"):  # its shape alone is wanted
        model = HubModel(_draw("AutoModel", described.folder, config), "none", longest=longest)
    return _fit(tokenizer, model, described.folder, longest)


def make_hub_classifier(
    described: HubDescription,
    task: Task,
    choice: ClassifierChoice | None = None,
    dropouts: Dropouts | None = None,
) -> tuple[HubModel, Tokenizer]:
    """Put a new classifier for a task on the encoder of a folder; raises as `read_hub`.

    It is twil's where something of it is chosen, where sentence-transformers says how the folder's tokens are
    pooled, and where the library's would read a pooler that the folder lacks; else, and where it is chosen
    (`LIBRARY`), it is the library's own.

    Args:
        described: The folder.
        task: What the classifier is asked.
        choice: What is chosen of it.
        dropouts: Those of the encoder in training; the folder's own when left out.
    """
    folder, dropouts = described.folder, dropouts or Dropouts()
    chosen = (choice or ClassifierChoice()).model_dump(exclude_none=True)
    _name_head(described)
    config = dropouts.into(ask(_read_config(described), task))
    tokenizer, longest = _read_tokenizer(described)
    make = partial(HubModel, longest=longest, input_dropout=dropouts.input_of(described))
    network = None
    if chosen.get("head") == LIBRARY or not (chosen or described.sentence):
        network = _draw_library_classifier(described, config, chosen)
    if network is not None:
        model = make(network, "classifier", task)
    else:
        loaded = _load("AutoModel", folder, config)
        _check_whole(folder, loaded.missing, may_lack=_POOLER)
        usual = {} if "pooling" in chosen else {"pooling": _usual_pooling(described, lacks=not chosen)}
        head = _make_head(ClassifierConfig(**usual | chosen), loaded.network, task, tokenizer)
        model = make(_without_pooler(loaded.network), "none", task, classifier=head)
    return model, _fit(tokenizer, model, folder, longest)


def _draw_library_classifier(described: HubDescription, config: Any, chosen: Mapping[str, Any]) -> Any:
    """Put the library's new classifier on an encoder.

    Returns:
        None where it would read a pooler that the folder lacks, and is not chosen.
    """
    folder = described.folder
    if idle := [name for name in chosen if name != "head"]:
        raise ConfigError(
            f"model.classifier: {', '.join(idle)} would have no effect: the library's classifier pools and "
            "drops in its own way"
        )
    drawn = _draw("AutoModelForSequenceClassification", folder, _with_one_layer(config))
    network, missing, _ = _load("AutoModelForSequenceClassification", folder, config)
    prefix = f"{network.base_model_prefix}."
    lacking = [name for name in missing if name.startswith(prefix)]
    _check_whole(folder, lacking, may_lack=_POOLER)
    if lacking and not chosen:
        return None
    if lacking:
        _warn(f"{folder} has no pooler, which the library's classifier reads: it begins with one drawn anew")
    fresh = {name: value for name, value in drawn.state_dict().items() if not name.startswith(prefix)}
    network.load_state_dict(fresh, strict=False)
    return network


def _usual_pooling(described: HubDescription, *, lacks: bool) -> Pooling:
    """Give the pooling of a new classifier where none is chosen, and say where it comes from.

    Args:
        described: The folder.
        lacks: Whether it is for want of a pooler that the classifier is not the library's.
    """
    sentence = described.sentence
    told = sentence and sentence.pooling
    if sentence is None:
        why = f"{described.folder} has no pooler: " if lacks else ""
        _warn(f"{why}a new classifier pools its tokens ({USUAL_POOLING})")
    elif told is None:
        _warn(f"{sentence.root / MODULES} pools as no classifier does: a new one pools with {USUAL_POOLING}")
    else:
        _warn(f"a new classifier pools as {sentence.root / MODULES} says ({told}), and has no other module")
    return told or USUAL_POOLING


def _make_head(config: ClassifierConfig, network: Any, task: Task, tokenizer: Tokenizer) -> ClassifierHead:
    """Make twil's classifier for an encoder of the library, with random weights."""
    special = find_special(tokenizer, source="the tokenizer")
    return ClassifierHead(config, network.config.hidden_size, task.outputs, (special.cls, special.sep))


def _load_head(head: ClassifierHead, folder: Path) -> None:
    weights = {
        name.removeprefix(HEAD): tensor for name, tensor in folder_tensors(folder) if name.startswith(HEAD)
    }
    try:
        head.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"the weights of {folder} lack its classifier, or have it in other shapes: copy the folder again"
        ) from error
    check_finite(head, folder)


def _without_pooler(network: Any) -> Any:
    """Take the pooler off, which nothing reads: it would neither learn nor be worth keeping."""
    if getattr(network, "pooler", None) is not None:
        network.pooler = None
    return network


@dataclass(frozen=True)
class Dropouts:
    """Dropouts of an encoder in training; None leaves it as it is.

    Attributes:
        input: The share of channels of the embeddings that is dropped in each row.
        output: The share of numbers that is dropped behind the embeddings and within each layer.
    """

    input: float | None = None
    output: float | None = None

    def input_of(self, described: HubDescription) -> float:
        """Give the dropout of the embeddings."""
        return described.input_dropout if self.input is None else self.input

    def into(self, config: Any) -> Any:
        """Write the other one into a configuration of the library.

        Raises:
            ConfigError: Its encoder has no such dropout.
        """
        if self.output is not None:
            name = next((name for name in _DROPOUTS if hasattr(config, name)), None)
            if name is None:
                raise ConfigError(
                    f"model.output_dropout: an encoder of type '{config.model_type}' has none: leave it out"
                )
            setattr(config, name, self.output)
        return config


def ask(config: Any, task: Task) -> Any:
    """Write into a configuration of the library what a classifier is asked."""
    kinds = {"class": "single_label_classification", "multi-label": "multi_label_classification"}
    config.num_labels = task.outputs
    config.id2label = dict(enumerate(task.labels))
    config.label2id = {label: place for place, label in enumerate(task.labels)}
    config.problem_type = kinds.get(task.kind, "regression")
    return config


def _read_tokenizer(described: HubDescription) -> tuple[Tokenizer, int | None]:
    tokenizer, longest = _read_tokens(described)
    _settle_preparation(described, tokenizer)
    return tokenizer, longest


def _settle_preparation(described: HubDescription, tokenizer: Tokenizer) -> None:
    """Let texts be prepared as the user chose, else as is usual for a model of that name, unless they are.

    Raises:
        ConfigError: The folder records another preparation than was chosen.
    """
    folder, chosen = described.folder, described.preparation
    recorded = find_preparation(tokenizer, source=str(folder))
    if recorded is not None:
        if chosen not in (None, recorded.name):
            raise ConfigError(
                f"{folder} was trained on texts prepared by {recorded}, not {chosen}: leave preparation out"
            )
    elif chosen is not None:
        put_preparation(tokenizer, chosen)
    elif not described.own:  # what twil wrote was trained on texts as they are
        _put_usual(described, tokenizer)


def _put_usual(described: HubDescription, tokenizer: Tokenizer) -> None:
    told = f"{described.folder} is made from {described.made_from} (its _name_or_path), which"
    for name, subject in ((described.name, described.name), (described.made_from, told)):
        if usual := usual_preparation(name):
            put_preparation(tokenizer, usual.name)
            _warn(
                f"{subject} was trained on texts prepared by {usual.name}, and so they are here (preparation "
                f"{NONE}, of finetune and export, leaves them as they are)"
            )
            return


def _read_tokens(described: HubDescription) -> tuple[Tokenizer, int | None]:
    folder = described.folder
    if described.own_tokens:
        return load_tokenizer(folder / TOKENIZER), None
    sentence = described.sentence
    if sentence is not None and sentence.unfollowed:
        _warn(
            f"{sentence.encoder}: {', '.join(sentence.unfollowed)} of sentence-transformers is not followed"
        )
    if sentence is not None and sentence.prompt:
        _warn(f"every text begins with '{sentence.prompt}', the default prompt of {sentence.root}")
    return read_tokens(folder, sentence)


def _fit(tokenizer: Tokenizer, model: HubModel, folder: Path, longest: int | None) -> Tokenizer:
    """Let a tokenizer cut rows at what the model reads; refuse one whose tokens the model does not know."""
    tokens = tokenizer.get_vocab_size(with_added_tokens=True)
    if tokens > model.vocab_size:
        raise ModelError(
            f"{folder}: the tokenizer has {tokens:,} tokens and the model embeds {model.vocab_size:,}: they "
            "do not belong together"
        )
    if tokens < _FEW * model.vocab_size:
        _warn(f"the tokenizer of {folder} has {tokens:,} tokens, and the model embeds {model.vocab_size:,}")
    cut = min(bound for bound in (max_length(tokenizer), longest, model.max_positions) if bound)
    if cut != max_length(tokenizer):
        try:
            set_max_length(tokenizer, cut)
        except ConfigError as error:
            raise ModelError(f"{folder} asks for rows that are too short: {error}") from error
    return tokenizer


def _read_config(described: HubDescription) -> Any:
    with hushed() as library:
        known = library.models.auto.configuration_auto.CONFIG_MAPPING
        kind = described.config["model_type"]
        if kind not in known:
            code = (
                "its code lies in the folder, and twil runs no code of a model folder"
                if "auto_map" in described.config
                else f"transformers {library.__version__} does not know that type"
            )
            raise ModelError(
                f"{described.path} describes a model of type '{kind}' ({code}): give another model"
            )
        if "auto_map" in described.config:
            _warn(f"{described.path} names code of its own, which is not run: it is read as a plain {kind}")
        try:
            config = library.AutoConfig.from_pretrained(
                described.folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # whatever the files of others lead to
            raise ModelError(f"{described.path} cannot be read ({first_line(error)})") from error
        if type(config) not in library.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING:
            raise ModelError(
                f"{described.path} describes a model of type '{kind}', which was not trained to fill masks: "
                "give an encoder that was, such as BERT, RoBERTa or DistilBERT"
            )
    return config


def _read_without_classifier(
    described: HubDescription, config: Any, make: Callable[..., HubModel]
) -> HubModel:
    folder = described.folder
    head: HubHead = "none"
    _name_head(described)
    if described.may_have_mlm:
        loaded = _load("AutoModelForMaskedLM", folder, config)
        prefix = f"{loaded.network.base_model_prefix}."
        head = "none" if any(not name.startswith(prefix) for name in loaded.missing) else "mlm"
    if head == "none":  # ELECTRA's discriminator, for one, was pretrained without such a head
        loaded = _load("AutoModel", folder, config)
    _check_whole(folder, loaded.missing, may_lack=_POOLER)
    if not (described.other_head or described.may_have_mlm):
        _name_left(folder, loaded.left)
    return make(loaded.network, head, sentence=described.sentence)


def _with_one_layer(config: Any) -> Any:
    """Give the configuration of a model that has the same classifier, which alone is wanted of it."""
    low = copy.deepcopy(config)
    for name, value in vars(config).items():  # Longformer's windows, for one, are told layer by layer
        if isinstance(value, list) and len(value) == config.num_hidden_layers:
            setattr(low, name, value[:1])
    low.num_hidden_layers = 1
    return low


def _draw(kind: str, folder: Path, config: Any) -> Any:
    """Make a network with random weights."""
    with hushed() as library:
        try:
            return getattr(library, kind).from_config(config)
        except Exception as error:  # whatever the files of others lead to
            raise ModelError(
                f"{folder} describes a model that cannot be made ({first_line(error)})"
            ) from error


class _Loaded(NamedTuple):
    network: Any
    missing: list[str]  # names of the weights that the folder lacks
    left: list[str]  # names of those that nothing reads


def _load(kind: str, folder: Path, config: Any) -> _Loaded:
    """Load a network in float32, in evaluation mode."""
    with hushed() as library:
        maker = getattr(library, kind)
    network, told = _from_pretrained(maker, folder, config)
    wrapped = [name for name in told["unexpected_keys"] if _WRAPPER.search(name)]
    if wrapped:
        _warn(
            f"the weights of {folder} are those of a model that torch had wrapped ({min(wrapped)}): they are "
            "read under the names without that"
        )
        weights: dict[str, Tensor] = {}
        for name, tensor in folder_tensors(folder):
            if (plain := _WRAPPER.sub("", name)) in weights:
                raise ModelError(
                    f"the weights of {folder} hold {plain} twice, once wrapped: remove one of them"
                )
            weights[plain] = tensor
        network, told = _from_pretrained(type(network), folder, config, weights)
    missing = [*told["missing_keys"], *(entry[0] for entry in told["mismatched_keys"])]
    check_finite(network, folder)
    return _Loaded(network.eval(), sorted(missing), sorted(told["unexpected_keys"]))


def _from_pretrained(
    maker: Any, folder: Path, config: Any, weights: Mapping[str, Tensor] | None = None
) -> tuple[Any, dict[str, Any]]:
    """Make a network of the weights of a folder, or of those given, and tell how they fit."""
    with hushed():
        try:
            found: tuple[Any, dict[str, Any]] = maker.from_pretrained(
                folder if weights is None else None,
                config=config,
                state_dict=weights,
                dtype="float32",
                ignore_mismatched_sizes=True,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # whatever the files of others lead to
            raise ModelError(
                f"the weights of {folder} cannot be loaded ({unread(error)}): copy the folder again, or give "
                "another model"
            ) from error
    return found


def _check_whole(folder: Path, missing: list[str], *, may_lack: str | None = None) -> None:
    lacking = [name for name in missing if may_lack is None or may_lack not in name]
    if lacking:
        named = ", ".join(lacking[:3]) + (" and more" if len(lacking) > 3 else "")
        raise ModelError(
            f"the weights of {folder} lack {named}, or have them in other shapes: copy the folder again"
        )


def _name_head(described: HubDescription) -> None:
    if described.other_head:
        _warn(f"{described.folder} is a {described.architecture}, of which twil reads the encoder alone")


def _name_left(folder: Path, left: list[str]) -> None:
    """Name weights that nothing reads, but for what a bare encoder does without."""
    named = [name for name in left if _POOLER not in name]
    if named:
        more = " and more" if len(named) > 3 else ""
        _warn(
            f"the weights of {folder} hold {', '.join(named[:3])}{more}, which its config.json has no use for"
        )


def _warn(said: str) -> None:
    warnings.warn(said, ModelWarning, stacklevel=2)
