"""The models that come with twil: folders beside this file, each a bundle or a model folder, by its name."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
ENCODER = "twil-es"
"""The name of the encoder that is fine-tuned where no model is named."""
_ALWAYS = "tokenizer.json"  # in a bundle and in a model folder


def shipped_model(name: str) -> Path | None:
    """Return the folder of a model that comes with twil; None where none is called so."""
    folder = FOLDER / name
    return folder if folder.name == str(Path(name)) and (folder / _ALWAYS).is_file() else None


def shipped_names() -> list[str]:
    """List the names of all models that come with twil."""
    return sorted(folder.name for folder in FOLDER.iterdir() if (folder / _ALWAYS).is_file())


def name_folder(folder: Path) -> str:
    """Call the folder of a model as people do: by its name if it comes with twil, else by its path."""
    return folder.name if folder.parent == FOLDER else str(folder)
