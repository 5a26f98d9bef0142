"""From a model of the transformers library to a folder that twil and the library both open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from twil.model.hub.description import OWN
from twil.model.hub.library import hushed
from twil.model.hub.model import HubModel
from twil.model.hub.reading import HEAD, ask
from twil.model.hub.tokens import SETTINGS, write_settings
from twil.text.tokenizer import max_length

WEIGHTS = "model.safetensors"
_ONE_FILE = "10TB"  # the library parts larger weights into several files


def write_hub(folder: Path, model: HubModel, tokenizer: Tokenizer, header: Mapping[str, Any]) -> None:
    """Write `config.json`, `model.safetensors` and `tokenizer_config.json` beside the tokenizer.

    Args:
        folder: Where `tokenizer.json` lies already.
        model: Shape, weights and task.
        tokenizer: The tokenizer of its tokens.
        header: What twil asks for when it reads the folder.
    """
    task, config = model.own_task, model.network.config
    if task is not None:
        ask(config, task)
    own = {**header, "task": task and task.as_dict(), "input_dropout": model.input_dropout.p}
    if model.classifier is not None:
        own["classifier"] = model.classifier.config.model_dump()
    setattr(config, OWN, own)
    with hushed():
        model.network.save_pretrained(folder, max_shard_size=_ONE_FILE)
    if model.classifier is not None:
        path = folder / WEIGHTS
        head = {
            f"{HEAD}{name}": value.detach().cpu() for name, value in model.classifier.state_dict().items()
        }
        save_file(load_file(path) | head, path, metadata={"format": "pt"})
    longest = max_length(tokenizer) or model.max_positions
    write_settings(folder / SETTINGS, tokenizer, longest=longest, segments=model.takes_segments)
