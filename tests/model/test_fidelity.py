"""The model computes what the original TWilBERT computed, from the original's own files.

`tests/data/original` holds weights, inputs and outputs that the original produced. Where the whole set
of reference data lies beside the checkout, it is compared too. The padded cases had no attention mask.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REFERENCE, has_reference
from keras_files import finetuned, read_layers, write_layers
from torch import Tensor

from twil.model.original import import_original, keras_order
from twil.model.twilbert import TWilBERT

HERE = Path(__file__).parents[1] / "data" / "original"
NAMES = ("base_like", "shared_factorized", "pkm", "mlm_only")
INPUTS = ("pair", "single", "padded_gen", "padded_single", "padded_pair")
CASES = [HERE / name for name in NAMES[:3]] + [REFERENCE / "fixtures" / name for name in NAMES]


@pytest.fixture(params=CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def case(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    if path.parent != HERE and not has_reference(REFERENCE):
        pytest.skip(f"there is no reference data of the original in {REFERENCE}")
    return path


def load(case: Path, weights: str = "weights.hdf5") -> TWilBERT:
    vocabulary = case.parent / ("vocab" if case.parent == HERE else "vocab_small")
    return import_original(case / weights, case / "config.json", vocabulary).model


def tensors(case: Path, name: str) -> tuple[Tensor, Tensor, Tensor]:
    inputs = np.load(case / "inputs.npz")
    ids = torch.tensor(inputs[f"{name}_tokens"], dtype=torch.long)
    return ids, torch.ones_like(ids), torch.tensor(inputs[f"{name}_segments"], dtype=torch.long)


@pytest.mark.parametrize("name", INPUTS)
def test_hidden_states_and_probabilities_are_those_of_the_original(case: Path, name: str) -> None:
    model, expected = load(case), np.load(case / "outputs.npz")
    with torch.no_grad():
        hidden = model.encode(*tensors(case, name))
        mlm = model.mlm_logits(hidden).softmax(-1).numpy()
    np.testing.assert_allclose(hidden, expected[f"{name}_hidden"], atol=2e-5, rtol=0)
    if model.rop is not None:
        rop = model.rop_logits(hidden).softmax(-1).detach()
        np.testing.assert_allclose(rop, expected[f"{name}_rop"], atol=1e-6, rtol=0)
    compared = 0
    for key, actual in {
        "mlm": mlm,
        "mlm_row0": mlm[0],
        "mlm_argmax": mlm.argmax(-1),
        "mlm_max": mlm.max(-1),
    }.items():
        if f"{name}_{key}" in expected:
            np.testing.assert_allclose(actual, expected[f"{name}_{key}"], atol=1e-6, rtol=0)
            compared += 1
    assert compared or name in ("pair", "single")


def pretraining_loss(model: TWilBERT, case: Path) -> Tensor:
    """Reply order plus the mean over masked tokens, as the original adds them up."""
    inputs = np.load(case / "inputs.npz")
    hidden = model.encode(*tensors(case, "padded_gen"))
    labels = torch.tensor(inputs["padded_gen_mlm_labels"][..., 0], dtype=torch.long)
    loss = torch.nn.functional.cross_entropy(model.mlm_logits(hidden[labels != 0]), labels[labels != 0])
    if model.rop is not None:
        order = torch.tensor(inputs["padded_gen_rop_labels"], dtype=torch.long)
        loss = loss + torch.nn.functional.cross_entropy(model.rop_logits(hidden), order)
    return loss


def test_losses_and_gradients_are_those_of_the_original(case: Path) -> None:
    model, reference = load(case), json.loads((case / "loss.json").read_text())
    loss = pretraining_loss(model, case)
    assert loss.item() == pytest.approx(reference["metrics"][0], rel=1e-6)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    stored = np.load(case / "grads_padded_gen.npz")
    compared = 0
    for index, (role, gradient) in enumerate(keras_order(gradients, model.config)):
        assert gradient.norm().item() == pytest.approx(
            reference["grad_l2_norm"][f"{index:03d}"], rel=1e-4, abs=1e-7
        ), role
        if f"{index:03d}" in stored:
            expected = torch.from_numpy(stored[f"{index:03d}"])[: len(gradient)]  # without the spare row
            scale = expected.abs().max().clamp(min=1e-6)
            assert ((gradient - expected).abs().max() / scale).item() <= 1e-4, role
            compared += 1
    assert compared == len(stored.files)
    assert compared >= 20


@pytest.mark.parametrize("pooling", ["cls", "avg", "max", "concat"])
def test_classifier_heads_give_the_probabilities_of_the_original(pooling: str) -> None:
    from twil.model.heads import pool

    expected = np.load(HERE / "base_like" / "finetune_heads.npz")
    model = load(HERE / "base_like")
    for name in ("pair", "padded_single"):
        ids, mask, segments = tensors(HERE / "base_like", name)
        with torch.no_grad():
            pooled = pool(model.encode(ids, mask, segments), mask, pooling).numpy()  # type: ignore[arg-type]
        logits = torch.tensor(pooled @ expected[f"{pooling}_kernel"] + expected[f"{pooling}_bias"])
        np.testing.assert_allclose(logits.softmax(-1), expected[f"{pooling}_{name}"], atol=1e-6, rtol=0)


def test_multi_label_head_gives_the_sigmoids_of_the_original() -> None:
    from twil.core.task import Task

    expected = np.load(HERE / "base_like" / "finetune_heads.npz")
    model = load(HERE / "base_like")
    with torch.no_grad():
        state = model.encode(*tensors(HERE / "base_like", "pair"))[:, 0].numpy()
    logits = state @ expected["ml_kernel"] + expected["ml_bias"]
    task = Task("multi-label", ("a", "b", "c", "d"))
    np.testing.assert_allclose(task.probabilities(logits), expected["ml_pair"], atol=1e-6, rtol=0)


def test_unsaved_query_norm_of_the_original_is_folded_into_the_queries(tmp_path: Path) -> None:
    case = HERE / "pkm"
    config = json.loads((case / "config.json").read_text())
    config["model"]["pkm_params"]["batch_norm"] = False
    (tmp_path / "config.json").write_text(json.dumps(config))
    imported = import_original(case / "weights.hdf5", tmp_path / "config.json", HERE / "vocab")
    expected = np.load(case / "outputs_batch_norm_false.npz")
    with torch.no_grad():
        hidden = imported.model.encode(*tensors(case, "pair"))
    np.testing.assert_allclose(hidden, expected["pair_hidden"], atol=2e-5, rtol=0)
    assert any("folded" in note for note in imported.notes)


def test_a_model_without_reply_order_is_the_same_model_without_that_head(tmp_path: Path) -> None:
    case = HERE / "base_like"
    config = json.loads((case / "config.json").read_text())
    config["model"]["rop"]["use_rop"] = False
    (tmp_path / "config.json").write_text(json.dumps(config))
    layers = read_layers(case / "weights.hdf5")
    del layers["rop"]
    weights = write_layers(tmp_path / "weights.hdf5", layers)
    imported = import_original(weights, tmp_path / "config.json", HERE / "vocab")
    assert (imported.model.rop, imported.tensors) == (None, 41)
    expected = np.load(case / "outputs.npz")
    with torch.no_grad():
        hidden = imported.model.encode(*tensors(case, "padded_single"))
        mlm = imported.model.mlm_logits(hidden).softmax(-1)
    np.testing.assert_allclose(hidden, expected["padded_single_hidden"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(mlm[0], expected["padded_single_mlm_row0"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES[:3])
def test_a_model_that_keras_saved_whole_is_read_as_well(name: str, tmp_path: Path) -> None:
    case = HERE / name
    layers = read_layers(case / "weights.hdf5")
    saved = write_layers(tmp_path / "model.hdf5", layers, whole=True)
    whole = import_original(saved, case / "config.json", HERE / "vocab").model.state_dict()
    weights = load(case).state_dict()
    assert whole.keys() == weights.keys()
    assert all(torch.equal(whole[key], weights[key]) for key in weights)


@pytest.mark.parametrize("layout", ["model_full.hdf5", "model_full_with_optimizer.hdf5"])
def test_both_layouts_of_keras_give_the_same_model(shared: Path, layout: str) -> None:
    case = shared / "fixtures" / "base_like"
    one, other = load(case).state_dict(), load(case, layout).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def finetuning_config(case: Path, folder: Path, pooling: str) -> Path:
    """Write the configuration of a fine-tuning with three labels."""
    config = json.loads((case / "config.json").read_text())
    config["task"] = {"categories": {"P": 2, "N": 0, "NEU": 1}, "multi_label": False}
    config["finetuning"] = {"collapse_mode": pooling}
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("whole", [False, True], ids=["weights", "whole"])
@pytest.mark.parametrize("pooling", ["cls", "avg", "max", "concat"])
def test_a_fine_tuned_file_gives_the_probabilities_of_the_original(
    pooling: str, whole: bool, tmp_path: Path
) -> None:
    case = HERE / "base_like"
    expected = np.load(case / "finetune_heads.npz")
    head = (expected[f"{pooling}_kernel"], expected[f"{pooling}_bias"])
    layers = finetuned(read_layers(case / "weights.hdf5"), *head)
    weights = write_layers(tmp_path / "weights.h5", layers, whole=whole)
    imported = import_original(weights, finetuning_config(case, tmp_path, pooling), HERE / "vocab")
    assert imported.tensors == 41
    assert imported.model.task.labels == ("N", "NEU", "P")
    for name in ("pair", "padded_single"):
        with torch.no_grad():
            probabilities = imported.model(*tensors(case, name)).softmax(-1)
        np.testing.assert_allclose(probabilities, expected[f"{pooling}_{name}"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("layout", ["finetuned_weights.h5", "finetuned_full.h5"])
def test_fine_tuned_file_becomes_a_classifier(shared: Path, tmp_path: Path, layout: str) -> None:
    case = shared / "fixtures" / "base_like"
    config = finetuning_config(case, tmp_path, "avg")
    imported = import_original(case / layout, config, case.parent / "vocab_small")
    assert imported.tensors == 41
    assert imported.model.task.labels == ("N", "NEU", "P")
    ids, mask, segments = tensors(case, "single")
    assert imported.model(ids, mask, segments).shape == (3, 3)


def test_another_folder_of_that_name_is_no_reference_data(tmp_path: Path) -> None:
    assert not has_reference(tmp_path / "shared")
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert not has_reference(tmp_path / "shared")
    (tmp_path / "shared" / "fixtures" / "base_like").mkdir(parents=True)
    assert has_reference(tmp_path / "shared")
