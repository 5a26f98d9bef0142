"""From a transformers folder to a model of twil."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from twil.errors import ModelError, first_line
from twil.model.hub.description import HubDescription
from twil.model.hub.library import hushed
from twil.model.hub.model import HubHead, HubModel
from twil.model.hub.pieces import TOKENIZER, read_pieces
from twil.task import Task
from twil.text.tokenizer import load_tokenizer, max_length, set_max_length

_UNREAD = ("pooler.",)
"""May be missing: nothing reads it in a bare encoder, and a new classifier begins with one drawn anew."""


def read_hub(described: HubDescription) -> tuple[HubModel, Tokenizer]:
    """Read a model that the transformers library can load, and its tokenizer; no code of the folder is run.

    Returns:
        The model on the CPU, in evaluation mode, float32: a classifier or a masked language model where the
        folder holds one, else the bare encoder.

    Raises:
        ModelError: The folder cannot be read, or holds no encoder.
        MissingExtraError: transformers is not installed.
    """
    folder = described.folder
    tokenizer, longest = _read_tokenizer(described)
    config = _read_config(described)
    if described.is_classifier:
        network, missing = _load("AutoModelForSequenceClassification", folder, config)
        _check_whole(folder, missing)
        model = HubModel(network, "classifier", described.task, longest)
    else:
        model = _read_without_classifier(folder, config, longest, mlm=described.may_have_mlm)
    return model, _fit(tokenizer, model, folder)


def read_hub_pieces(described: HubDescription) -> Tokenizer:
    """Read the tokenizer of a folder alone, which cuts rows at what the model reads; raises as `read_hub`."""
    tokenizer, longest = _read_tokenizer(described)
    config = _read_config(described)
    with torch.device("meta"):  # its shape alone is wanted
        model = HubModel(_draw("AutoModel", described.folder, config), "none", longest=longest)
    return _fit(tokenizer, model, described.folder)


def make_hub_classifier(described: HubDescription, task: Task) -> tuple[HubModel, Tokenizer]:
    """Put a new classifier for a task on the encoder of a folder; raises as `read_hub`."""
    folder = described.folder
    tokenizer, longest = _read_tokenizer(described)
    config = ask(_read_config(described), task)
    drawn = _draw("AutoModelForSequenceClassification", folder, _with_one_layer(config))
    network, missing = _load("AutoModelForSequenceClassification", folder, config)
    prefix = f"{network.base_model_prefix}."
    _check_whole(folder, [name for name in missing if name.startswith(prefix)], unread=_UNREAD)
    fresh = {name: value for name, value in drawn.state_dict().items() if not name.startswith(prefix)}
    network.load_state_dict(fresh, strict=False)
    model = HubModel(network, "classifier", task, longest)
    return model, _fit(tokenizer, model, folder)


def ask(config: Any, task: Task) -> Any:
    """Write into a configuration of the library what a classifier is asked."""
    kinds = {"class": "single_label_classification", "multi-label": "multi_label_classification"}
    config.num_labels = task.outputs
    config.id2label = dict(enumerate(task.labels))
    config.label2id = {label: place for place, label in enumerate(task.labels)}
    config.problem_type = kinds.get(task.kind, "regression")
    return config


def _read_tokenizer(described: HubDescription) -> tuple[Tokenizer, int | None]:
    folder = described.folder
    return (load_tokenizer(folder / TOKENIZER), None) if described.own_pieces else read_pieces(folder)


def _fit(tokenizer: Tokenizer, model: HubModel, folder: Path) -> Tokenizer:
    """Let a tokenizer cut rows at what the model reads; refuse one whose pieces the model does not know."""
    pieces = tokenizer.get_vocab_size(with_added_tokens=True)
    if pieces > model.vocab_size:
        raise ModelError(
            f"{folder}: the tokenizer has {pieces:,} pieces and the model embeds {model.vocab_size:,}: they "
            "do not belong together"
        )
    if max_length(tokenizer) is None:
        set_max_length(tokenizer, model.max_positions)
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


def _read_without_classifier(folder: Path, config: Any, longest: int | None, *, mlm: bool) -> HubModel:
    head: HubHead = "none"
    if mlm:
        network, missing = _load("AutoModelForMaskedLM", folder, config)
        prefix = f"{network.base_model_prefix}."
        head = "none" if any(not name.startswith(prefix) for name in missing) else "mlm"
    if head == "none":  # ELECTRA's discriminator, for one, was pretrained without such a head
        network, missing = _load("AutoModel", folder, config)
    _check_whole(folder, missing, unread=_UNREAD)
    return HubModel(network, head, longest=longest)


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


def _load(kind: str, folder: Path, config: Any) -> tuple[Any, list[str]]:
    """Load a network in float32, and name the weights that the folder lacks."""
    with hushed() as library:
        try:
            network, told = getattr(library, kind).from_pretrained(
                folder,
                config=config,
                dtype="float32",
                ignore_mismatched_sizes=True,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # whatever the files of others lead to
            raise ModelError(f"the weights of {folder} cannot be loaded ({first_line(error)})") from error
    names = [*told["missing_keys"], *(entry[0] for entry in told["mismatched_keys"])]
    return network.eval(), sorted(names)


def _check_whole(folder: Path, missing: list[str], *, unread: tuple[str, ...] = ()) -> None:
    lacking = [name for name in missing if not any(part in name for part in unread)]
    if lacking:
        named = ", ".join(lacking[:3]) + (" and more" if len(lacking) > 3 else "")
        raise ModelError(
            f"the weights of {folder} lack {named}, or have them in other shapes: copy the folder again"
        )
