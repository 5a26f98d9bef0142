"""Importing original weights: what does not fit is named, and nothing leads out of the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from twil.config.original import read_original
from twil.errors import ConfigError, ModelError
from twil.model.original import import_original

h5py = pytest.importorskip("h5py")

CASE = Path(__file__).parent / "data" / "original" / "base_like"
VOCAB = CASE.parent / "vocab"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.hdf5"
    path.write_bytes((CASE / "weights.hdf5").read_bytes())
    return path


def with_config(tmp_path: Path, change: Callable[[dict], None]) -> Path:  # type: ignore[type-arg]
    value = json.loads((CASE / "config.json").read_text())
    change(value)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(value))
    return path


def test_missing_left_over_and_misshapen_tensors_are_named(tmp_path: Path, weights: Path) -> None:
    more = with_config(tmp_path, lambda v: v["model"].update(n_encoders=3))
    with pytest.raises(ModelError, match=r"rop/kernel:0 is \(48, 2\), and encoder.blocks.2.*another model"):
        import_original(weights, more, VOCAB)
    other = with_config(tmp_path, lambda v: v["model"].update(attention_size=8))
    with pytest.raises(
        ModelError, match=r"w:0 is \(48, 48\), and encoder.blocks.0.attention.output is \(24, 48\)"
    ):
        import_original(weights, other, VOCAB)
    with h5py.File(weights, "r+") as file:
        file.attrs["layer_names"] = [name for name in file.attrs["layer_names"] if name != b"mlm"]
    with pytest.raises(ModelError, match=r"ends after 41 of 43 tensors; missing: mlm\.weight, mlm\.bias"):
        import_original(weights, CASE / "config.json", VOCAB)


def test_left_over_tensors_are_named(tmp_path: Path, weights: Path) -> None:
    with h5py.File(weights, "r+") as file:
        file.create_group("extra").create_dataset("kernel", data=[1.0, 2.0])
        file["extra"].attrs["weight_names"] = [b"kernel"]
        file.attrs["layer_names"] = [*file.attrs["layer_names"], b"extra"]
    with pytest.raises(ModelError, match="has 44 tensors, the model 43; left over: kernel"):
        import_original(weights, CASE / "config.json", VOCAB)


def test_names_that_keras_cut_into_several_attributes_are_read(weights: Path) -> None:
    with h5py.File(weights, "r+") as file:
        names = list(file.attrs["layer_names"])
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:4], names[4:]
    assert import_original(weights, CASE / "config.json", VOCAB).tensors == 43


def test_a_file_that_is_cut_or_is_none_is_one_clear_error(tmp_path: Path, weights: Path) -> None:
    whole = weights.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1000):
        weights.write_bytes(whole[:size])
        with pytest.raises(ModelError, match="cannot be read as HDF5 weights"):
            import_original(weights, CASE / "config.json", VOCAB)
    with pytest.raises(ModelError, match="there is no file"):
        import_original(tmp_path / "none.hdf5", CASE / "config.json", VOCAB)
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["x"] = [1, 2]
    with pytest.raises(ModelError, match="no weights file of Keras"):
        import_original(tmp_path / "other.hdf5", CASE / "config.json", VOCAB)


def test_links_and_storage_outside_the_file_are_refused(tmp_path: Path, weights: Path) -> None:
    with h5py.File(tmp_path / "secret.hdf5", "w") as file:
        file["mlm/kernel:0"] = [[1.0]]
    original = weights.read_bytes()
    with h5py.File(weights, "r+") as file:
        del file["mlm"]
        file["mlm"] = h5py.ExternalLink(str(tmp_path / "secret.hdf5"), "/mlm")
    with pytest.raises(ModelError, match="mlm is a link to another file"):
        import_original(weights, CASE / "config.json", VOCAB)
    weights.write_bytes(original)
    (tmp_path / "raw").write_bytes(b"\0" * 8)
    with h5py.File(weights, "r+") as file:
        del file["rop/rop/bias:0"]
        file["rop/rop"].create_dataset("bias:0", (2,), "f4", external=[(str(tmp_path / "raw"), 0, 8)])
    with pytest.raises(ModelError, match="stored in another file"):
        import_original(weights, CASE / "config.json", VOCAB)


def test_a_fine_tuned_file_needs_the_configuration_with_its_labels(shared: Path) -> None:
    case = shared / "fixtures" / "base_like"
    with pytest.raises(ConfigError, match="sections task and finetuning"):
        import_original(case / "finetuned_weights.h5", case / "config.json", case.parent / "vocab_small")


def test_the_configuration_of_the_readme_is_understood(tmp_path: Path) -> None:
    """The original's own example of a large model, with the short form of its rop section."""
    value = {
        "representation": {"max_len": 64},
        "model": {
            "factorize_embeddings": True,
            "cross_sharing": True,
            "embedding_size": 128,
            "hidden_size": 768,
            "n_encoders": 12,
            "n_heads": 12,
            "attention_size": 64,
            "input_dropout": 0.0,
            "output_dropout": 0.15,
            "initializer_range": 0.02,
            "pkm": True,
            "pkm_params": {
                "factorize_embeddings": True,
                "k_dim": 512,
                "memory_size": 256,
                "n_heads": 4,
                "knn": 32,
                "in_layers": [10],
                "batch_norm": True,
            },
            "rop": {"n_hidden": 1, "hidden_size": 512},
        },
    }
    path = tmp_path / "config_xlarge.json"
    path.write_text(json.dumps(value))
    read = read_original(path, vocab_size=30_002)
    assert read.max_length == 131
    assert read.model.rop is not None
    assert read.model.encoder.memory is not None
    assert read.model.encoder.memory.layers == (10,)
    assert len(read.notes) == 2
    for broken, message in [
        ({}, "has no 'model'"),
        ([], "no configuration"),
        ({**value, "model": {}}, "has no"),
    ]:
        path.write_text(json.dumps(broken))
        with pytest.raises(ConfigError, match=message):
            read_original(path, vocab_size=10)
    with pytest.raises(ConfigError, match="there is no file"):
        read_original(tmp_path / "none.json", vocab_size=10)
