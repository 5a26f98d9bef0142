"""Model folders: what is written is what is read, and nothing broken is taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import twil
from twil.config.model import ClassifierConfig, MemoryConfig, ModelConfig, RopConfig, preset
from twil.core.errors import ConfigError, ModelError, TwilError
from twil.core.task import Task
from twil.model.folder import load_with_tokenizer, save
from twil.model.twilbert import TWilBERT


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    encoder = preset(
        "tiny",
        vocab_size=tokenizer.get_vocab_size(),
        memory={"layers": (1,), "n_heads": 2, "n_keys": 4, "key_size": 8, "knn": 2, "query_norm": True},
    )
    config = ModelConfig(
        encoder=encoder,
        mlm=True,
        rop=RopConfig(n_hidden=1, hidden_size=8),
        classifier=ClassifierConfig(pooling="avg"),
        task=Task("class", ("ñandú", "0", "b|c")),
    )
    torch.manual_seed(0)
    save(tmp_path / "model", TWilBERT(config), tokenizer, {"command": "test"})
    return tmp_path / "model"


def test_a_model_comes_back_as_it_was_wherever_the_folder_lies(folder: Path, tokenizer: Tokenizer) -> None:
    model = twil.load(folder)
    moved = folder.with_name("moved")
    shutil.move(folder, moved)
    again, its_tokenizer = load_with_tokenizer(moved)
    assert isinstance(again.config.encoder.memory, MemoryConfig)
    assert again.config == model.config
    assert again.task.labels == ("ñandú", "0", "b|c")
    assert not again.training
    ids = torch.tensor([tokenizer.encode("¡qué día!").ids])
    assert torch.equal(model(ids), again(ids))
    assert its_tokenizer.encode("¡qué día!").ids == tokenizer.encode("¡qué día!").ids
    assert json.loads((moved / "run.json").read_text())["versions"]["twil"] == twil.__version__


def change_config(folder: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    value = json.loads((folder / "config.json").read_text())
    change(value)
    (folder / "config.json").write_text(json.dumps(value))


def drop_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["rop.output.bias"]
    weights["extra"] = torch.zeros(1)
    save_file(weights, folder / "model.safetensors")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "cut weights": (lambda f: truncate(f / "model.safetensors"), "model.safetensors cannot be read"),
    "cut config": (lambda f: truncate(f / "config.json"), "config.json cannot be read"),
    "another model": (
        lambda f: change_config(f, lambda v: v.update(model_type="bert")),
        "lack embeddings",
    ),
    "a newer format": (lambda f: change_config(f, lambda v: v.update(format=99)), "update twil"),
    "another shape": (
        lambda f: change_config(f, lambda v: v["model"]["encoder"].update(n_heads=3)),
        r"query_key_value.weight is \(384, 128\), expected \(576, 128\)",
    ),
    "other tensors": (drop_tensor, "extra is left over; rop.output.bias is missing"),
    "another tokenizer": (
        lambda f: (f / "tokenizer.json").write_text((f / "tokenizer.json").read_text() + "\n"),
        "is not the tokenizer of this model",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BREAKS.values(), ids=BREAKS)
def test_a_broken_folder_is_refused_with_what_is_wrong(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises((ModelError, ConfigError), match=message):
        twil.load(folder)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model folder"):
        twil.load(tmp_path / "none")
    with pytest.raises(ModelError, match="is no model folder"):
        twil.load(tmp_path)
    with pytest.raises(ModelError, match="is a file, and a model is a folder: look at the order"):
        twil.load(__file__)


def test_a_taken_name_is_refused_and_a_misfit_tokenizer_too(folder: Path, tokenizer: Tokenizer) -> None:
    model = twil.load(folder)
    with pytest.raises(TwilError, match="there already"):
        save(folder, model, tokenizer, {})
    small = TWilBERT(ModelConfig(encoder=preset("tiny", vocab_size=100)))
    with pytest.raises(ModelError, match="the tokenizer has 600 tokens and the model 100"):
        save(folder.with_name("other"), small, tokenizer, {})
    assert not folder.with_name("other").exists()
