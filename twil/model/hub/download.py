"""Models of the Hugging Face hub, downloaded once into its cache."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from twil.core.errors import MissingExtraError, ModelError, first_line
from twil.model.hub.library import check_installed
from twil.model.hub.sentence import module_folders

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model", "*.codes")
"""Names of the files of a model folder that are read besides the weights."""
_SAFE, _PICKLED = "model*.safetensors", "pytorch_model*.bin"
_ELSEWHERE = "*/*"  # other formats lie in folders of their own
_PATIENCE = 10.0  # seconds; the library itself would wait for a silent network as long as the system does


def is_hub_name(name: str) -> bool:
    """Tell whether a text may name a model of the hub, such as ``distilbert-base-uncased``."""
    return _NAME.fullmatch(name) is not None and ".." not in name


@functools.cache
def download(name: str) -> Path:
    """Download a model of the hub, or find it in the cache, where ``HF_HUB_OFFLINE=1`` asks for that alone.

    Returns:
        Its folder in the cache, which is called as its revision.

    Raises:
        ModelError: It cannot be had, what reads it is not installed, or its modules cannot be read.
    """
    try:
        check_installed()
        import huggingface_hub as hub  # it comes with the tokenizers library
    except MissingExtraError as error:
        raise _absent(name, str(error)) from error
    silence = _ask(hub, name)
    try:
        folder = _fetch(hub, name, _SAFE, cached=silence is not None)
        if not any(folder.glob(_SAFE)):
            folder = _fetch(hub, name, _PICKLED, cached=silence is not None)
    except ModelError:  # of what was fetched
        raise
    except hub.errors.RepositoryNotFoundError as error:  # what guards a model may guard its files alone
        raise _refusal(hub, name, error) from error
    except Exception as error:  # of the network, the hub, the disk
        why = first_line(silence or error)
        raise _absent(
            name,
            f"the hub's model of that name cannot be had ({why}): check the name and the network, or copy "
            "its files into a folder",
        ) from error
    return folder


def _ask(hub: Any, name: str) -> Exception | None:
    """Ask the hub for a model, and give the error where it does not answer.

    Raises:
        ModelError: It answers that there is none, or that it is not for everyone.
    """
    try:
        hub.HfApi().model_info(name, timeout=_PATIENCE)
    except hub.errors.RepositoryNotFoundError as error:
        raise _refusal(hub, name, error) from error
    except Exception as error:  # it is offline by wish or by accident, and the cache may have the model
        return error
    return None


def _fetch(hub: Any, name: str, weights: str, *, cached: bool) -> Path:
    fetch = functools.partial(hub.snapshot_download, name, local_files_only=cached)
    folder = Path(fetch(allow_patterns=[*BESIDE_WEIGHTS, weights], ignore_patterns=[_ELSEWHERE]))
    modules = module_folders(folder)
    if modules:  # of sentence-transformers, each in a folder of its own
        kinds = (*BESIDE_WEIGHTS, _SAFE, _PICKLED)  # small ones, of which one may lack what others have
        fetch(allow_patterns=[f"{module}/{kind}" for module in modules for kind in kinds])
    return folder


def _refusal(hub: Any, name: str, error: Exception) -> ModelError:
    if isinstance(error, hub.errors.GatedRepoError):
        return _absent(
            name,
            "the hub gives the model of that name only to those who have accepted its terms: do so on its "
            "page, and log in (hf auth login)",
        )
    return _absent(
        name,
        "the hub has no model of that name, or a private one: check the name, or log in (hf auth login)",
    )


def _absent(name: str, why: str) -> ModelError:
    return ModelError(f"there is no model folder {name}, and {why}")
