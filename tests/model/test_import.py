"""Importing original weights: what does not fit is named, and nothing leads out of the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_files import finetuned, read_layers, write_layers

from twil.cli import import_original as import_command
from twil.config.original.weights import read_original
from twil.core.errors import ConfigError, ModelError
from twil.model import folder as model_folders
from twil.model.original import import_original

h5py = pytest.importorskip("h5py")

CASE = Path(__file__).parents[1] / "data" / "original" / "base_like"
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
    with pytest.raises(ModelError, match="mlm is a link, and may lead to another file"):
        import_original(weights, CASE / "config.json", VOCAB)
    weights.write_bytes(original)
    (tmp_path / "raw").write_bytes(b"\0" * 8)
    with h5py.File(weights, "r+") as file:
        del file["rop/rop/bias:0"]
        file["rop/rop"].create_dataset("bias:0", (2,), "f4", external=[(str(tmp_path / "raw"), 0, 8)])
    with pytest.raises(ModelError, match="stored in another file"):
        import_original(weights, CASE / "config.json", VOCAB)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Give another file with the same weights, which nothing may lead to."""
    path = tmp_path / "outside.hdf5"
    path.write_bytes((CASE / "weights.hdf5").read_bytes())
    return path


def test_a_file_whose_weights_are_a_link_to_another_is_refused(tmp_path: Path, outside: Path) -> None:
    with h5py.File(tmp_path / "link.hdf5", "w") as file:
        file["model_weights"] = h5py.ExternalLink(str(outside), "/")
    with pytest.raises(ModelError, match="model_weights is a link"):
        import_original(tmp_path / "link.hdf5", CASE / "config.json", VOCAB)


@pytest.mark.parametrize("whole", [False, True], ids=["weights", "whole"])
@pytest.mark.parametrize("place", ["mlm", "mlm/mlm", "mlm/mlm/kernel:0"])
def test_a_soft_link_to_a_link_to_another_file_is_refused(
    place: str, whole: bool, tmp_path: Path, outside: Path
) -> None:
    weights = write_layers(tmp_path / "weights.hdf5", read_layers(CASE / "weights.hdf5"), whole=whole)
    with h5py.File(weights, "r+") as file:
        root = file["model_weights"] if whole else file
        del root[place]
        file["evil"] = h5py.ExternalLink(str(outside), f"/{place}")
        root[place] = h5py.SoftLink("/evil")
        assert root[place].file.filename == str(outside)
    with pytest.raises(ModelError, match="is a link, and may lead to another file"):
        import_original(weights, CASE / "config.json", VOCAB)


def test_the_weights_of_a_whole_model_may_not_be_a_soft_link(tmp_path: Path, outside: Path) -> None:
    with h5py.File(tmp_path / "link.hdf5", "w") as file:
        file["evil"] = h5py.ExternalLink(str(outside), "/")
        file["model_weights"] = h5py.SoftLink("/evil")
    with pytest.raises(ModelError, match="model_weights is a link"):
        import_original(tmp_path / "link.hdf5", CASE / "config.json", VOCAB)


def test_files_that_are_built_otherwise_are_one_clear_error(tmp_path: Path) -> None:
    def strange(change: Callable[[Any], object]) -> Path:
        path = write_layers(tmp_path / "strange.hdf5", read_layers(CASE / "weights.hdf5"))
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    def put_tensor_for_group(file: Any) -> None:
        del file["mlm/mlm"]
        file["mlm/mlm"] = np.zeros(3, np.float32)

    changes: list[Callable[[Any], object]] = [
        lambda file: file.attrs.__setitem__("layer_names", 5),
        lambda file: file.attrs.__setitem__("layer_names", [b"\xff\xfe"]),
        lambda file: file.attrs.__setitem__("layer_names", [b"absent"]),
        lambda file: file.attrs.__setitem__("layer_names", h5py.Empty("S4")),
        lambda file: file["mlm"].attrs.__setitem__("weight_names", [b"/"]),
        lambda file: file["mlm"].attrs.__setitem__("weight_names", [b"mlm"]),
        lambda file: file.__setitem__("model_weights", np.zeros(3, np.float32)),
        put_tensor_for_group,
    ]
    for change in changes:
        with pytest.raises(ModelError, match="strange"):
            import_original(strange(change), CASE / "config.json", VOCAB)


def test_a_fine_tuned_file_needs_the_configuration_with_its_labels(tmp_path: Path) -> None:
    layers = finetuned(read_layers(CASE / "weights.hdf5"), np.zeros((48, 3), "f4"), np.zeros(3, "f4"))
    weights = write_layers(tmp_path / "finetuned.h5", layers)
    with pytest.raises(ConfigError, match="sections task and finetuning"):
        import_original(weights, CASE / "config.json", VOCAB)


def test_an_imported_model_computes_the_same_once_it_is_saved_and_loaded(tmp_path: Path) -> None:
    imported = import_original(CASE / "weights.hdf5", CASE / "config.json", VOCAB)
    model_folders.save(tmp_path / "model", imported.model, imported.tokenizer, {})
    loaded = model_folders.load(tmp_path / "model")
    inputs = np.load(CASE / "inputs.npz")
    ids, segments = (
        torch.tensor(inputs[f"pair_{name}"], dtype=torch.long) for name in ("tokens", "segments")
    )
    with torch.no_grad():
        before, after = (
            model.eval().encode(ids, torch.ones_like(ids), segments) for model in (imported.model, loaded)
        )
    assert torch.equal(before, after)
    assert before.abs().max() > 0


def test_the_command_gives_the_same_weights_for_both_layouts(tmp_path: Path) -> None:
    whole = write_layers(tmp_path / "whole.hdf5", read_layers(CASE / "weights.hdf5"), whole=True)
    models = []
    for number, file in enumerate((CASE / "weights.hdf5", whole)):
        output = tmp_path / f"model{number}"
        import_command.command(file, config=CASE / "config.json", vocab=VOCAB, output=output, quiet=True)
        models.append(model_folders.load(output).state_dict())
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())


def test_the_notes_say_how_texts_are_read() -> None:
    imported = import_original(CASE / "weights.hdf5", CASE / "config.json", VOCAB)
    (note,) = [note for note in imported.notes if "[MASK]" in note]
    assert "&ntilde;" in note
    assert "\n" not in note
    for text in ("[MASK]", "&ntilde;"):  # and so it is
        assert len(imported.tokenizer.encode(text, add_special_tokens=False).ids) >= 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["representation"].update(max_len="x"), "'x'"),
        (lambda v: v["representation"].update(max_len=0), "max_len"),
        (lambda v: v["representation"].update(max_len=float("inf")), "infinity"),
        (lambda v: v["representation"].update(max_len=[64]), "list"),
        (lambda v: v["model"].update(attention_size=None, n_heads=0), "n_heads"),
        (lambda v: v["model"].update(n_heads="many"), "n_heads"),
        (lambda v: v["task"].update(categories={"N": "none", "P": 1}), "'none'"),
        (lambda v: v["task"].update(categories={"N": None, "P": 1}), "None"),
        (lambda v: v["task"].update(categories={"P": 0}), "at least two labels"),
        (lambda v: v["task"].update(categories=["P", "N"]), "list"),
        (lambda v: v["task"].update(categories={"a|b": 0, "c": 1}, multi_label=True), "multi-label"),
        (lambda v: v["finetuning"].update(collapse_mode="sum"), "pooling"),
    ],
)
def test_a_fault_of_the_configuration_is_one_error_that_names_the_file(
    change: Callable[[dict], None],  # type: ignore[type-arg]
    said: str,
    tmp_path: Path,
) -> None:
    def with_labels(value: dict) -> None:  # type: ignore[type-arg]
        value["task"] = {"categories": {"N": 0, "P": 1}, "multi_label": False}
        value["finetuning"] = {"collapse_mode": "cls"}
        change(value)

    path = with_config(tmp_path, with_labels)
    with pytest.raises(ConfigError) as error:
        read_original(path, vocab_size=1500)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_json_is_one_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for content in (b"{", b"\xff\xfe{", b"[" * 100_000, b"9" * 10_000):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"config\.json is no JSON"):
            read_original(path, vocab_size=1500)


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
