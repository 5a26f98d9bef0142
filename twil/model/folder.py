"""The model folder: `config.json`, `model.safetensors`, `tokenizer.json`, `run.json`, perhaps `log.jsonl`.

It is a plain folder that can be copied anywhere. `config.json` holds the SHA-256 of the tokenizer that
the weights were trained with, and a folder whose tokenizer is another is refused.

A folder of the transformers library is a model folder too, and so is the name of a model on the hub.
"""

from __future__ import annotations

import difflib
import hashlib
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy
import safetensors
import tokenizers
import torch
from tokenizers import Tokenizer

from twil.bundle.bundle import is_bundle
from twil.config.loop import LOG
from twil.config.model import ModelConfig
from twil.core.errors import ConfigError, ModelError
from twil.core.storage import LFS_POINTER, atomic_folder, is_lfs_pointer, read_json, sha256, write_json
from twil.core.task import Task
from twil.core.version import __version__
from twil.model.hub.description import CONFIG, HubDescription
from twil.model.hub.download import BESIDE_WEIGHTS, download, is_hub_name
from twil.model.hub.model import HubModel
from twil.model.hub.sentence import encoder_folder, read_modules
from twil.model.hub.tokens import SETTINGS, TOKENIZER
from twil.model.text_model import TextModel
from twil.model.twilbert import MODEL_TYPE, TWilBERT
from twil.model.twilbert_folder import FORMAT, read_shape, read_weights, write_weights
from twil.model.weights import check_finite, weights_files
from twil.shipped import shipped_model, shipped_names
from twil.text.preparation import NONE, check_name, find_preparation
from twil.text.tokenizer import check_own, load_tokenizer, save_tokenizer, tokens_hash

WEIGHTS, RUN = "model.safetensors", "run.json"
FILES = (CONFIG, WEIGHTS, TOKENIZER, SETTINGS, RUN, LOG)
_ADAPTER = "adapter_config.json"
_FOREIGN = {
    "tf_model*.h5": "TensorFlow",
    "*.ckpt*": "TensorFlow",
    "flax_model*": "Flax",
    "*.gguf": "llama.cpp",
    "*.onnx": "ONNX",
    "*.ot": "Rust",
    "openvino_model*": "OpenVINO",
}
"""Names of files in which other programs keep weights."""
_TOKENIZER_HASH, _TOKENS_HASH = "tokenizer_sha256", "tokens_sha256"


def save(
    path: str | Path,
    model: TextModel,
    tokenizer: Tokenizer,
    run: Mapping[str, Any],
    *,
    overwrite: bool = False,
    log: Path | None = None,
) -> None:
    """Write a model folder, whole or not at all.

    Args:
        path: The folder.
        model: Shape and weights.
        tokenizer: The tokenizer of its tokens.
        run: How the model came to be, in JSON's types; the versions in use are added.
        overwrite: Replace a folder that is there.
        log: The log of its training, to be kept beside it.

    Raises:
        TwilError: `path` is taken.
        ModelError: The tokenizer has more tokens than the model, or the weights are not finite.
    """
    check_finite(model, path)
    tokens = tokenizer.get_vocab_size(with_added_tokens=True)
    if tokens > model.vocab_size:
        raise ModelError(
            f"the tokenizer has {tokens} tokens and the model {model.vocab_size}: they do not belong together"
        )
    with atomic_folder(path, overwrite=overwrite, own=FILES) as folder:
        save_tokenizer(tokenizer, folder / TOKENIZER)
        header = {"format": FORMAT, _TOKENIZER_HASH: sha256(folder / TOKENIZER)}
        prepared = find_preparation(tokenizer, source="the tokenizer")
        preparation = prepared and prepared.record
        if isinstance(model, TWilBERT):
            shape = {"model_type": MODEL_TYPE, "model": model.config.as_dict()}
            write_json(folder / CONFIG, header | shape)
            write_weights(folder / WEIGHTS, model)
        elif isinstance(model, HubModel):
            from twil.model.hub.writing import write_hub

            told = {_TOKENS_HASH: tokens_hash(tokenizer), "preparation": preparation}
            write_hub(folder, model, tokenizer, header | told)
        write_json(folder / RUN, {**run, "preparation": preparation, "versions": versions()})
        if log is not None:
            shutil.copyfile(log, folder / LOG)


def copy(source: Path, path: str | Path, run: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Copy a model folder, whole or not at all, with more to tell of how the model came to be.

    Args:
        source: The folder.
        path: The copy.
        run: What is to stand in its `run.json`.
        overwrite: Replace a folder that is there.

    Raises:
        TwilError: `path` is taken.
    """
    with atomic_folder(path, overwrite=overwrite, own=FILES) as folder:
        for name in FILES:
            if name != RUN and (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        write_json(folder / RUN, run)


def load(path: str | Path) -> TextModel:
    """Load a model.

    Args:
        path: A model folder, a folder of the transformers library, or the name of a model on the hub.

    Returns:
        The model on the CPU, in evaluation mode, float32.

    Raises:
        ModelError: It is no model folder, or its parts do not belong together.
        MissingExtraError: It is a model of the transformers library, which is not installed.
    """
    return load_with_tokenizer(path)[0]


def load_with_tokenizer(path: str | Path) -> tuple[TextModel, Tokenizer]:
    """Load a model and its tokenizer, which cuts rows at what the model reads; raises as `load` does."""
    return load_described(describe(path))


def load_described(described: Description) -> tuple[TextModel, Tokenizer]:
    """Load the model that a description is of, and its tokenizer; raises as `load` does."""
    if described.twilbert is not None:
        tokenizer = load_tokenizer(described.folder / TOKENIZER)
        check_own(tokenizer, described.folder / TOKENIZER)
        return read_weights(described.twilbert, described.folder / WEIGHTS), tokenizer
    from twil.model.hub.reading import read_hub

    assert described.hub is not None
    return read_hub(described.hub)


def load_tokens(path: str | Path) -> Tokenizer:
    """Load the tokenizer of a model alone; raises as `load` does."""
    described = describe(path)
    if described.written_here:
        return load_tokenizer(described.folder / TOKENIZER)
    from twil.model.hub.reading import read_hub_tokens

    assert described.hub is not None
    return read_hub_tokens(described.hub)


@dataclass(frozen=True)
class Description:
    """What a model folder says of its model, read without its weights.

    Attributes:
        folder: Where it lies.
        task: What its classifier is asked; None without one.
        shape: All that is told of the model, in JSON's types.
        twilbert: The shape of a TWilBERT model; None of any other.
        hub: What a folder of the transformers library says; None of a TWilBERT model's.
    """

    folder: Path
    task: Task | None
    shape: dict[str, Any]
    twilbert: ModelConfig | None = None
    hub: HubDescription | None = None

    @property
    def written_here(self) -> bool:
        """Whether `tokenizer.json` is as twil wrote it, and what it reads with."""
        return self.hub is None or (self.hub.own_tokens and self.hub.preparation is None)


def describe(path: str | Path, preparation: str | None = None) -> Description:
    """Read what a model folder says of its model, and check that its tokenizer is that of its weights.

    Args:
        path: A model folder, or the name of a model on the hub.
        preparation: How texts are prepared for it, where its folder does not record that; when left out as is
            usual for what the folder or the name tells of it.

    Raises:
        ModelError: It is no model folder, or its parts do not belong together.
        ConfigError: Its configuration does not describe a model, or there is no such preparation of texts.
    """
    if preparation is not None:
        check_name(preparation)
    folder = locate(path)
    if is_bundle(folder):
        raise ModelError(f"{path} is a bundle: give the model folder that it was exported from")
    _check_plain(folder)
    if not (folder / CONFIG).is_file():
        raise _incomplete(path, CONFIG)
    value = read_json(folder / CONFIG)
    if value.get("model_type") == MODEL_TYPE:
        for name in (WEIGHTS, TOKENIZER):
            if not (folder / name).is_file():
                raise _incomplete(path, name)
        shape = read_shape(folder / CONFIG, value)
        if not _is_own_tokenizer(folder, value):
            raise _other_tokenizer(folder)
        if preparation not in (None, NONE):
            raise ConfigError(
                f"{path} is a model of twil's own, whose {TOKENIZER} prepares texts: leave preparation out"
            )
        return Description(folder, shape.task, shape.as_dict(), twilbert=shape)
    hub = HubDescription.parse(folder / CONFIG, value, read_modules(_locate_root(path)))
    name = "" if _locate_root(path) == Path(path) else Path(path).as_posix()
    hub = replace(hub, name=name, preparation=preparation)
    if hub.own:
        hub = replace(hub, own_tokens=_has_own_tokens(folder, hub.own))
    if not weights_files(folder):
        raise _foreign(path, folder) or _incomplete(path, WEIGHTS)
    return Description(folder, hub.task, hub.config, hub=hub)


def locate(path: str | Path) -> Path:
    """Find a model folder: where the path says, else with twil, else on the hub, downloaded once.

    Of a sentence-transformers folder it is that of the encoder, which may have one of its own.

    Raises:
        ModelError: There is none.
    """
    root = _locate_root(path)
    return root if (root / CONFIG).is_file() else encoder_folder(root)


def _locate_root(path: str | Path) -> Path:
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ModelError(f"{path} is a file, and a model is a folder: look at the order of the arguments")
    if (shipped := shipped_model(str(path))) is not None:
        return shipped
    # A name within a folder of this machine is a slip, and no name on the hub.
    local = len(folder.parts) > 1 and Path(folder.parts[0]).is_dir()
    if local or folder.exists() or not is_hub_name(folder.as_posix()):
        raise ModelError(f"there is no model folder {path}{_nearest(folder)}")
    try:
        return download(folder.as_posix())
    except ModelError as error:
        raise ModelError(f"{error}{_nearest(folder)}") from error


def hub_origin(path: str | Path | None) -> dict[str, str] | None:
    """Name the model of the hub that a path stands for, and its revision; None of another, or of no path.

    Raises:
        ModelError: There is no such model.
    """
    if path is None or Path(path).is_dir() or shipped_model(str(path)):
        return None
    return {"name": Path(path).as_posix(), "revision": _locate_root(path).name}


def weights_hash(path: str | Path) -> str:
    """Give the SHA-256 of a model's weights; of several files that of their hashes.

    Raises:
        ModelError: There is no such model folder.
    """
    hashes = [sha256(file) for file in weights_files(locate(path))]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def read_run(folder: Path) -> dict[str, Any]:
    """Read what a model folder records of its making; empty where it records nothing.

    Raises:
        ModelError: The record is damaged.
    """
    path = folder / RUN
    if not path.is_file():
        return {}
    try:
        return read_json(path)
    except ModelError as error:
        raise ModelError(f"{error}, or remove it") from error


def versions() -> dict[str, str]:
    """Name the versions that made a model."""
    return {
        "twil": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "tokenizers": tokenizers.__version__,
        "safetensors": safetensors.__version__,
        "numpy": numpy.__version__,
    }


def _nearest(folder: Path) -> str:
    """Point to the folder beside `folder`, or to the model of twil's, that is called almost like it."""
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    names = [entry.name for entry in beside if entry.is_dir()]
    names += shipped_names() if len(folder.parts) == 1 else []
    close = difflib.get_close_matches(folder.name, names, n=1)
    return f" (did you mean {folder.with_name(close[0])}?)" if close else ""


def _check_plain(folder: Path) -> None:
    """Refuse a folder whose files are not the model's own, whatever else lies there.

    Raises:
        ModelError: One that is read stands for a file that was not fetched, or the folder holds an adapter.
    """
    for file in chain(weights_files(folder), *(sorted(folder.glob(form)) for form in BESIDE_WEIGHTS)):
        if is_lfs_pointer(file):
            raise ModelError(f"{file} {LFS_POINTER}")
    adapter = folder / _ADAPTER
    if adapter.is_file():
        base = read_json(adapter).get("base_model_name_or_path", "its base model")
        raise ModelError(
            f"{folder} holds a PEFT adapter of {base}, which is no model of its own: merge the two with peft "
            "(merge_and_unload, then save_pretrained) and give the folder with the merged model alone"
        )


def _foreign(path: str | Path, folder: Path) -> ModelError | None:
    """Say of which other program the weights of a folder are, if they are of one that is known."""
    found = [(file, of) for form, of in _FOREIGN.items() for file in sorted(folder.glob(form))]
    if not found:
        return None
    file, of = found[0]
    return ModelError(
        f"{path} has the weights of {of} alone ({file.name}), which twil does not read: save the model with "
        f"PyTorch (save_pretrained writes {WEIGHTS}), or give a folder that has {WEIGHTS}"
    )


def _incomplete(path: str | Path, missing: str) -> ModelError:
    return ModelError(
        f"{path} is no model folder (it has no {missing}): make one with twil pretrain, twil import or "
        "twil finetune, or give a folder of the transformers library"
    )


def _is_own_tokenizer(folder: Path, header: Mapping[str, Any]) -> bool:
    path = folder / TOKENIZER
    return path.is_file() and sha256(path) == header.get(_TOKENIZER_HASH)


def _other_tokenizer(folder: Path) -> ModelError:
    return ModelError(f"{folder / TOKENIZER} is not the tokenizer of this model: copy the folder again")


def _has_own_tokens(folder: Path, header: Mapping[str, Any]) -> bool:
    """Tell whether a tokenizer is the file that twil wrote, and not what the library made of it since.

    Raises:
        ModelError: It cuts texts into other tokens.
    """
    if _is_own_tokenizer(folder, header):
        return True
    path = folder / TOKENIZER
    if not path.is_file() or tokens_hash(load_tokenizer(path)) != header.get(_TOKENS_HASH):
        raise _other_tokenizer(folder)
    return False
