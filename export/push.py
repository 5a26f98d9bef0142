"""A model put on the Hugging Face hub, in one commit: its files, and its card as the page that people see."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twil.bundle.bundle import MANIFEST, Manifest, is_bundle, open_bundle
from twil.bundle.names import model_path
from twil.core.errors import ConfigError, ModelError, first_line
from twil.exporting.card import CARD, make_card
from twil.model.hub.download import BESIDE_WEIGHTS, is_hub_name

README = "README.md"
"""Where the hub looks for a card."""


@dataclass(frozen=True)
class Pushed:
    """What is on the hub now.

    Attributes:
        url: Of its page.
        files: How many were pushed, the card among them.
        size: Of them all, in bytes.
        licensed: Whether the card names a licence.
    """

    url: str
    files: int
    size: int
    licensed: bool


def push(
    model: str | Path,
    name: str,
    *,
    private: bool = False,
    license: str | None = None,  # noqa: A002 (the word of the hub)
    languages: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
) -> Pushed:
    """Put a bundle or a model folder on the hub, where ``HF_ENDPOINT`` says; the token is the hub library's.

    Of `run.json` paths of this machine become names of files; the log of the run stays here. A card is
    made for a model folder that has none.

    Args:
        model: Its folder.
        name: On the hub, ``OWNER/NAME``; it is made where it is not there.
        private: Show it to its owner alone, where it is made.
        license: For the card, as the others; what is left out stays as the card has it.
        languages: Codes of the languages of its texts.
        datasets: What it learned from, by names on the hub.

    Raises:
        ConfigError: The name is none.
        ModelError: There is no such model, or the hub does not take it; the message holds no token.
    """
    import huggingface_hub as hub  # it comes with the tokenizers library

    if not is_hub_name(name) or "/" not in name:
        raise ConfigError(f"'{name}' is no name on the hub: give OWNER/NAME")
    folder = model_path(model)
    files = _bundle_files(folder) if is_bundle(folder) else _folder_files(folder)
    card = hub.ModelCard(_card(folder, name.partition("/")[2]))
    told = {"license": license, "language": list(languages or ()), "datasets": list(datasets or ())}
    for key, value in told.items():
        if value:
            setattr(card.data, key, value)
    files[README] = str(card).encode()
    operations = [hub.CommitOperationAdd(place, content) for place, content in files.items()]
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="twil")
    try:
        url = api.create_repo(name, private=private, exist_ok=True)
        api.create_commit(name, operations, commit_message="Push with twil")
    except Exception as error:  # of the network, the hub, the disk
        raise _refusal(name, error) from None  # whose cause may hold the request, and so the token
    size = sum(len(each) if isinstance(each, bytes) else Path(each).stat().st_size for each in files.values())
    return Pushed(str(url), len(files), size, bool(card.data.get("license")))


def _bundle_files(folder: Path) -> dict[str, Any]:
    """List what is pushed of a bundle, by its names there: what its manifest signs, and that itself."""
    names = [*open_bundle(folder).manifest.files, MANIFEST]
    return {name: str(folder / name) for name in names}


def _folder_files(folder: Path) -> dict[str, Any]:
    """List what is pushed of a model folder: what it is opened from, and the record of its run."""
    from twil.model.folder import RUN, locate, read_run
    from twil.model.weights import weights_files

    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}: check the path")
    folder = locate(folder)
    beside = [path for pattern in BESIDE_WEIGHTS for path in sorted(folder.glob(pattern))]
    files: dict[str, Any] = {path.name: str(path) for path in [*beside, *weights_files(folder)]}
    if RUN in files:
        run = json.dumps(_without_paths(read_run(folder)), ensure_ascii=False, indent=2)
        files[RUN] = f"{run}\n".encode()
    return files


def _card(folder: Path, name: str) -> str:
    """Read the card of a model, or make one."""
    if (folder / CARD).is_file():
        return (folder / CARD).read_text(encoding="utf-8")
    if is_bundle(folder):
        return make_card(name, open_bundle(folder).manifest, {}, {})
    from twil.model.folder import describe, load_described, read_run
    from twil.text.preparation import find_preparation
    from twil.text.tokenizer import max_length

    described = describe(folder)
    model, tokenizer = load_described(described)
    found = find_preparation(tokenizer, source=str(folder))
    manifest = Manifest(
        kind="classifier" if described.task else "encoder",
        max_length=max_length(tokenizer) or 0,
        pad_id=0,
        precision="fp32",
        pooling=model.pooling or "",
        task=described.task,
        files={},
        preparation=found.record if found else {},
    )
    return make_card(name, manifest, model.facts, read_run(folder))


def _without_paths(value: Any) -> Any:
    """Give the names of files in place of their paths on this machine."""
    if isinstance(value, Mapping):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _refusal(name: str, error: Exception) -> ModelError:
    from huggingface_hub.errors import LocalTokenNotFoundError

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401 or isinstance(error, LocalTokenNotFoundError):
        return ModelError(f"{name} cannot be pushed, as the hub does not know you: log in (hf auth login)")
    if status == 403:
        return ModelError(
            f"{name} cannot be pushed, as your token may not write there: log in with one that may "
            "(hf auth login), or name another owner"
        )
    cure = "check the network" if status is None else "try again"
    return ModelError(f"{name} cannot be pushed ({first_line(error)}): {cure}")
