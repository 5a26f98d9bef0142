"""Models of the Hugging Face hub, downloaded once into its cache."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from twil.errors import MissingExtraError, ModelError, first_line
from twil.model.hub.library import check_installed

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

_SMALL = ("*.json", "*.txt", "*.model")
_SAFE, _PICKLED = "model*.safetensors", "pytorch_model*.bin"
_ELSEWHERE = "*/*"  # other formats lie in folders of their own


def is_hub_name(name: str) -> bool:
    """Tell whether a text may name a model of the hub, such as ``distilbert-base-uncased``."""
    return _NAME.fullmatch(name) is not None and ".." not in name


@functools.cache
def download(name: str) -> Path:
    """Download a model of the hub, or find it in the cache, where ``HF_HUB_OFFLINE=1`` asks for that alone.

    Raises:
        ModelError: It cannot be had, or what reads it is not installed.
    """
    try:
        check_installed()
        import huggingface_hub as hub  # it comes with the tokenizers library
    except MissingExtraError as error:
        raise ModelError(f"there is no model folder {name}, and {error}") from error
    try:
        folder = _fetch(hub, name, *_SMALL, _SAFE)
        if not any(folder.glob(_SAFE)):
            folder = _fetch(hub, name, *_SMALL, _PICKLED)
    except Exception as error:  # of the network, the hub, the disk
        raise ModelError(
            f"there is no model folder {name}, and the hub's model of that name cannot be had "
            f"({first_line(error)}): check the name and the network, or copy its files into a folder"
        ) from error
    return folder


def _fetch(hub: Any, name: str, *patterns: str) -> Path:
    return Path(hub.snapshot_download(name, allow_patterns=list(patterns), ignore_patterns=[_ELSEWHERE]))
