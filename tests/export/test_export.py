from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from bundles import TOKENS, make_tokenizer
from huggingface_hub import ModelCard
from onnx import numpy_helper
from torch import Tensor

from twil.bundle.bundle import CLASSIFIER_OUTPUTS, GRAPH, INPUTS, MANIFEST, TOKENIZER, Bundle, open_bundle
from twil.bundle.session import Session
from twil.config.model import ClassifierConfig, EncoderConfig, MemoryConfig, ModelConfig, RopConfig, preset
from twil.core.errors import ConfigError, ExportError, MissingExtraError, ModelError, TwilError
from twil.core.installation import install_command
from twil.core.storage import sha256
from twil.core.task import Task
from twil.data.batching import Batch, pad_batch
from twil.exporting import verify as verify_module
from twil.exporting.bundle import export_onnx
from twil.exporting.card import CARD
from twil.exporting.graph import heads as heads_module
from twil.exporting.graph import write as graph_module
from twil.exporting.graph.write import ClassifierGraph, EncoderGraph, dummy_shape, write_graph
from twil.exporting.probes import TEXTS
from twil.exporting.verify import check_structure, tied_rows, verify
from twil.model import folder as model_folders
from twil.model.twilbert import TWilBERT
from twil.text.tokenizer import load_tokenizer

POLARITY = Task("class", ("P", "NONE", "N"))
POSITIONS = 24
SHAPE = {
    "vocab_size": len(TOKENS),
    "hidden_size": 24,
    "n_layers": 3,
    "n_heads": 2,
    "head_size": 10,
    "max_positions": POSITIONS,
    "input_dropout": 0.3,
    "output_dropout": 0.3,
}
MEMORY = {"layers": (1,), "n_heads": 2, "n_keys": 16, "key_size": 12, "knn": 4}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "factorised and shared": {"embedding_size": 9, "share_layers": True},
    "memory": {"memory": MemoryConfig(**MEMORY)},
    "memory with normed queries and small values": {
        "memory": MemoryConfig(**MEMORY, query_norm=True, value_size=7)
    },
}


def make_model(
    task: Task | None = POLARITY, *, pooling: Any = "cls", seed: int = 0, **changes: Any
) -> TWilBERT:
    torch.manual_seed(seed)
    head = ClassifierConfig(pooling=pooling, dropout=0.5) if task else None
    config = ModelConfig(encoder=EncoderConfig(**SHAPE | changes), classifier=head, task=task)
    model = TWilBERT(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(4)  # so that outputs depend on the tokens by far more than the tolerance
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return model


def write_model(folder: Path, model: TWilBERT, *, max_length: int = POSITIONS) -> Path:
    model_folders.save(folder, model, make_tokenizer(max_length), {})
    return folder


def random_batch(rows: int, length: int, seed: int = 1) -> Batch:
    random = np.random.default_rng(seed)
    sizes = [length, *random.integers(1, length, rows - 1, endpoint=True).tolist()]
    ids = [random.integers(0, len(TOKENS), size).tolist() for size in sizes]
    return pad_batch(ids, [[index % 2 for index in range(size)] for size in sizes])


def in_torch(module: torch.nn.Module, batch: Batch) -> list[np.ndarray]:
    with torch.no_grad():
        outputs = module.eval()(*(torch.from_numpy(getattr(batch, name)) for name in INPUTS))
    return [output.numpy() for output in outputs]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a model and its bundle."""
    folder = tmp_path_factory.mktemp("exported")
    export_onnx(write_model(folder / "model", make_model()), folder / "bundle")
    return folder


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Bundle:
    """Give a bundle that may be damaged."""
    shutil.copytree(exported / "bundle", tmp_path / "copy")
    return open_bundle(tmp_path / "copy")


@pytest.mark.parametrize("pooling", ["cls", "concat"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_computes_the_same_at_every_shape(
    architecture: str, pooling: str, tmp_path: Path
) -> None:
    model = make_model(pooling=pooling, **ARCHITECTURES[architecture])
    report = export_onnx(write_model(tmp_path / "model", model), tmp_path / "bundle")
    assert max(report.manifest.parity["max_difference"].values()) < 1e-4
    session = Session(open_bundle(tmp_path / "bundle"), provider="cpu")
    for rows, length in ((1, 1), (1, POSITIONS), (3, 7), (32, 16), (5, 2)):
        batch = random_batch(rows, length)
        logits, _ = in_torch(ClassifierGraph(model), batch)
        assert logits.shape == (rows, 3)
        np.testing.assert_allclose(session.run(batch)["logits"], logits, atol=2e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_axes_are_named_and_operators_are_standard(architecture: str, tmp_path: Path) -> None:
    model = make_model(**ARCHITECTURES[architecture])
    path = tmp_path / GRAPH
    write_graph(ClassifierGraph(model), path, outputs=CLASSIFIER_OUTPUTS, max_length=POSITIONS)
    written = onnx.load(path)
    onnx.checker.check_model(written, full_check=True)
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*written.graph.input, *written.graph.output)
    }
    assert axes == {name: ["batch", "sequence"] for name in INPUTS} | {
        "logits": ["batch", 3],
        "probabilities": ["batch", 3],
    }
    assert {node.domain for node in written.graph.node} == {""}
    assert {node.op_type for node in written.graph.node}.isdisjoint({"Loop", "Scan", "If", "Dropout"})
    assert [(item.domain, item.version) for item in written.opset_import] == [("", 17)]


@pytest.mark.parametrize("opset", [17, 20])
def test_the_exporter_is_named_and_writes_the_opset_asked_for(
    opset: int, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    export = torch.onnx.export

    def record(*args: Any, **options: Any) -> Any:
        calls.append(options)
        return export(*args, **options)

    monkeypatch.setattr(torch.onnx, "export", record)
    report = export_onnx(exported / "model", tmp_path / "bundle", opset=opset)
    assert [type(options["dynamo"]) for options in calls] == [bool]
    assert report.manifest.opset == opset
    assert onnx.load(tmp_path / "bundle" / GRAPH).opset_import[0].version == opset


@pytest.mark.parametrize(
    "task",
    [
        POLARITY,
        Task("multi-label", ("odio", "agresión", "broma"), thresholds=(0.3, 0.4, 0.5)),
        Task("regression", ("humor",)),
        Task("class", ("AGAINST", "FAVOR"), pair=True),
    ],
    ids=lambda task: f"{task.kind}{' of pairs' if task.pair else ''}",
)
def test_probabilities_are_those_of_the_task(task: Task, tmp_path: Path) -> None:
    report = export_onnx(write_model(tmp_path / "model", make_model(task)), tmp_path / "bundle")
    outputs = Session(open_bundle(tmp_path / "bundle"), provider="cpu").run(random_batch(8, 12))
    np.testing.assert_allclose(outputs["probabilities"], task.probabilities(outputs["logits"]), atol=1e-6)
    assert report.manifest.parity["label_agreement"] == (None if task.kind == "regression" else 1.0)
    assert report.manifest.task == task


@pytest.mark.parametrize(("pooling", "size"), [(None, 24), ("max", 24), ("concat", 72)])
def test_bare_encoders_give_vectors(pooling: Any, size: int, tmp_path: Path) -> None:
    model = TWilBERT(ModelConfig(encoder=EncoderConfig(**SHAPE), mlm=True, rop=RopConfig()))
    report = export_onnx(write_model(tmp_path / "model", model), tmp_path / "bundle", pooling=pooling)
    manifest = report.manifest
    assert (manifest.kind, manifest.task, manifest.pooling) == ("encoder", None, pooling or "avg")
    batch = random_batch(3, 7)
    outputs = Session(open_bundle(tmp_path / "bundle"), provider="cpu").run(batch)
    assert outputs["token_vectors"].shape == (3, 7, 24)
    assert outputs["pooled"].shape == (3, size)
    vectors, pooled = in_torch(EncoderGraph(model, pooling or "avg"), batch)
    np.testing.assert_allclose(outputs["token_vectors"], vectors, atol=1e-5)
    np.testing.assert_allclose(outputs["pooled"], pooled, atol=1e-5)
    written = {node.name for node in onnx.load(tmp_path / "bundle" / GRAPH).graph.initializer}
    assert not any("mlm" in name or "rop" in name for name in written)


def test_the_manifest_reports_what_was_compared(exported: Path) -> None:
    manifest = open_bundle(exported / "bundle").manifest
    parity = manifest.parity
    shapes = {tuple(shape) for shape in parity["shapes"]}
    assert {(1, 1), (1, POSITIONS), (2, POSITIONS), (3, 7), (32, 16)} <= shapes
    assert len(TEXTS) in {rows for rows, _ in shapes}
    assert set(parity["max_difference"]) == {"logits", "probabilities"}
    assert parity["tolerance"] == 1e-4
    assert (parity["label_agreement"], parity["tied_rows"]) == (1.0, 0)
    assert {"twil", "torch", "onnx", "onnxruntime"} <= manifest.versions.keys()
    assert (manifest.pad_id, manifest.pooling, manifest.precision) == (0, "cls", "fp32")


@pytest.mark.parametrize(("tokenizer", "positions", "expected"), [(20, 24, 20), (24, 16, 16), (16, 16, 16)])
def test_rows_are_cut_at_what_tokenizer_and_encoder_take(
    tokenizer: int, positions: int, expected: int, tmp_path: Path
) -> None:
    source = write_model(tmp_path / "model", make_model(max_positions=positions), max_length=tokenizer)
    manifest = export_onnx(source, tmp_path / "bundle").manifest
    assert manifest.max_length == expected
    assert [1, expected] in manifest.parity["shapes"]
    ids = load_tokenizer(tmp_path / "bundle" / TOKENIZER).encode("a" * 100).ids
    assert len(ids) == expected
    same = sha256(tmp_path / "bundle" / TOKENIZER) == sha256(source / TOKENIZER)
    assert same == (tokenizer <= positions)


@pytest.mark.parametrize("preset_name", ["tiny", "small", "base", "large"])
def test_dummy_inputs_cannot_be_taken_for_a_size_of_the_model(preset_name: str) -> None:
    encoder = preset(preset_name, vocab_size=30002)
    with torch.device("meta"):
        model = TWilBERT(ModelConfig(encoder=encoder, classifier=ClassifierConfig(), task=POLARITY))
    batch, length = dummy_shape(model, encoder.max_positions)
    sizes = {size for tensor in model.state_dict().values() for size in tensor.shape}
    sizes |= {value for value in encoder.model_dump().values() if type(value) is int}
    assert batch >= 2
    assert 2 <= length <= encoder.max_positions
    assert batch != length
    assert not any(size % axis == 0 for size in sizes for axis in (batch, length))


def test_dummy_inputs_avoid_equal_sizes_where_dividing_none_is_impossible() -> None:
    # 2·3·5·7·11 tokens: every length up to 12 divides or shares a factor with a size.
    model = make_model(vocab_size=2310, hidden_size=8, n_layers=2, head_size=4, max_positions=12)
    batch, length = dummy_shape(model, 12)
    assert (batch, length) == (13, 9)  # 9 divides no size; 13 neither


class FixedBatch(ClassifierGraph):
    """A graph in which the traced batch is a constant."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, segment_ids: Tensor) -> Any:
        rows = int(input_ids.shape[0])
        logits, probabilities = super().forward(input_ids, attention_mask, segment_ids)
        return logits.reshape(rows, 3), probabilities


class FixedLength(ClassifierGraph):
    """A graph in which the traced length is a constant, and which runs at any length."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, segment_ids: Tensor) -> Any:
        length = int(input_ids.shape[1])
        logits, probabilities = super().forward(input_ids, attention_mask, segment_ids)
        return logits * length, probabilities


@pytest.mark.parametrize("fault", [FixedBatch, FixedLength])
def test_a_fixed_axis_fails_the_export_and_leaves_nothing(
    fault: type[ClassifierGraph], exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads_module, "ClassifierGraph", fault)
    with pytest.raises(ExportError, match="the exported graph is refused"):
        export_onnx(exported / "model", tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_old_bundle(
    bundle: Bundle, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads_module, "ClassifierGraph", FixedBatch)
    with pytest.raises(ExportError):
        export_onnx(exported / "model", bundle.folder, overwrite=True)
    assert open_bundle(bundle.folder) == bundle


def edit(bundle: Bundle, change: Callable[[Any], object]) -> Bundle:
    """Change a bundle's graph behind its manifest's back."""
    graph = onnx.load(bundle.graph)
    change(graph)
    onnx.save(graph, bundle.graph)
    return bundle


def nudge(index: int) -> Callable[[Any], object]:
    def change(graph: Any) -> None:
        weights = [tensor for tensor in graph.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
        tensor = weights[index]
        value = numpy_helper.to_array(tensor)
        noise = np.random.default_rng(0).normal(scale=1e-3, size=value.shape)
        tensor.CopyFrom(numpy_helper.from_array(value + noise.astype(np.float32), tensor.name))

    return change


def weight_count(bundle: Bundle) -> int:
    weights = onnx.load(bundle.graph).graph.initializer
    return sum(tensor.data_type == onnx.TensorProto.FLOAT for tensor in weights)


def test_a_graph_with_other_weights_is_refused(bundle: Bundle, exported: Path) -> None:
    module = ClassifierGraph(model_folders.load(exported / "model"))
    verify(bundle, module)
    written = bundle.graph.read_bytes()
    for index in (0, weight_count(bundle) // 2, -1):
        edit(bundle, nudge(index))
        with pytest.raises(ExportError, match="differ from the model's by"):
            verify(bundle, module)
        bundle.graph.write_bytes(written)


def test_probabilities_are_held_to_the_task_and_not_to_torch(bundle: Bundle, exported: Path) -> None:
    module = ClassifierGraph(model_folders.load(exported / "model"))

    def sharpen(graph: Any) -> None:
        graph.graph.node.extend(
            [onnx.helper.make_node("Mul", ["probabilities_", "probabilities_"], ["probabilities"])]
        )
        softmax = next(node for node in graph.graph.node if node.output[0] == "probabilities")
        softmax.output[0] = "probabilities_"

    with pytest.raises(ExportError, match="probabilities differ"):
        verify(edit(bundle, sharpen), module)


def rename_axis(graph: Any) -> None:
    graph.graph.input[1].type.tensor_type.shape.dim[1].dim_param = "length"


def fix_axis(graph: Any) -> None:
    graph.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3


def add_dropout(graph: Any) -> None:
    graph.graph.node.extend([onnx.helper.make_node("Dropout", ["logits"], ["dropped"])])


def add_custom_operator(graph: Any) -> None:
    graph.graph.node.extend([onnx.helper.make_node("Gelu", ["logits"], ["curved"], domain="com.microsoft")])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rename_axis, "inputs"),
        (fix_axis, "outputs"),
        (add_dropout, "Dropout"),
        (add_custom_operator, "com.microsoft.Gelu"),
    ],
)
def test_a_graph_that_not_every_runtime_takes_is_refused(
    change: Callable[[Any], object], said: str, bundle: Bundle
) -> None:
    check_structure(bundle)
    with pytest.raises(ExportError, match=said):
        check_structure(edit(bundle, change))


def test_a_graph_that_changes_from_run_to_run_is_refused(
    bundle: Bundle, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def drift(session: Session, batch: Batch) -> dict[str, np.ndarray]:
        nonlocal calls
        calls += 1
        return {name: value * np.float32(1 + calls * 2**-22) for name, value in run(session, batch).items()}

    run = Session.run
    monkeypatch.setattr(Session, "run", drift)
    with pytest.raises(ExportError, match="change from run to run"):
        verify(bundle, ClassifierGraph(model_folders.load(exported / "model")))


def test_nothing_of_training_mode_is_in_the_graph(bundle: Bundle) -> None:
    model = make_model(memory=MemoryConfig(**MEMORY, query_norm=True, input_dropout=0.4)).train()
    module = ClassifierGraph(model)
    write_graph(module, bundle.graph, outputs=CLASSIFIER_OUTPUTS, max_length=POSITIONS)
    batch = random_batch(6, 11)
    session = Session(bundle, provider="cpu")
    first, second = session.run(batch)["logits"], session.run(batch)["logits"]
    assert first.tobytes() == second.tobytes()
    np.testing.assert_allclose(first, in_torch(module, batch)[0], atol=2e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_classifier_that_pools_the_first_token_computes_no_other_in_its_last_layer(
    architecture: str, tmp_path: Path
) -> None:
    shapes = []
    for pooling in ("cls", "avg"):
        model = make_model(pooling=pooling, **ARCHITECTURES[architecture])
        path = tmp_path / f"{pooling}.onnx"
        write_graph(ClassifierGraph(model), path, outputs=CLASSIFIER_OUTPUTS, max_length=POSITIONS)
        shapes.append(last_norm(path, random_batch(3, 7)).shape)
    assert shapes == [(3, 1, 24), (3, 7, 24)]


def last_norm(path: Path, batch: Batch) -> np.ndarray:
    """Run a graph and look at what its last layer norm gives."""
    graph = onnx.load(path)
    name = [node for node in graph.graph.node if node.op_type == "LayerNormalization"][-1].output[0]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], {key: getattr(batch, key) for key in INPUTS})[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_graph_means_the_same_with_and_without_the_runtimes_fusions(
    architecture: str, tmp_path: Path
) -> None:
    model = make_model(**ARCHITECTURES[architecture])
    graph = tmp_path / GRAPH
    write_graph(ClassifierGraph(model), graph, outputs=CLASSIFIER_OUTPUTS, max_length=POSITIONS)
    batch = random_batch(7, 10)
    found = []
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        found.append(session.run(["logits"], {name: getattr(batch, name) for name in INPUTS})[0])
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_a_model_that_gives_no_finite_numbers_is_named(tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model.encoder.blocks[1].attention_norm.weight[:] = 3e38
    with pytest.raises(ExportError, match="the model itself gives logits that are not finite"):
        export_onnx(write_model(tmp_path / "model", model), tmp_path / "bundle")


def test_large_logits_may_differ_by_their_rounding_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    with torch.no_grad():
        assert model.classifier is not None
        model.classifier.output.weight.mul_(5_000)
    folder = write_model(tmp_path / "model", model)
    export_onnx(folder, tmp_path / "bundle")
    expected = in_torch(ClassifierGraph(model), random_batch(8, 10))[0]
    assert np.abs(expected).max() > 1_000
    monkeypatch.setattr(Session, "run", spoil(lambda batch: np.full(len(batch.input_ids), 0.1)))
    with pytest.raises(ExportError, match=r"logits differ from the model's by 0\.1\S* on"):
        export_onnx(folder, tmp_path / "spoiled")


def with_twin_keys(model: TWilBERT) -> TWilBERT:
    """Make every sub-key one of a pair, so that slots tie."""
    with torch.no_grad():
        for block in model.encoder.blocks:
            if block.memory is not None:
                block.memory.keys[:, :, 1::2] = block.memory.keys[:, :, ::2]
    return model


def test_slots_that_do_not_tie_are_not_called_so() -> None:
    model = make_model(memory=MemoryConfig(**MEMORY))
    assert not tied_rows(ClassifierGraph(model.eval()), random_batch(8, 10)).any()


def test_a_memory_whose_slots_tie_everywhere_cannot_be_checked(tmp_path: Path) -> None:
    # Every best slot has three twins, and five are read: the last one is never certain.
    model = with_twin_keys(make_model(memory=MemoryConfig(**MEMORY | {"knn": 5})))
    assert tied_rows(ClassifierGraph(model.eval()), random_batch(8, 10)).all()
    with pytest.raises(ExportError, match=r"of 8 draws none agrees .* a memory's slots have equal scores"):
        export_onnx(write_model(tmp_path / "model", model), tmp_path / "bundle")


@pytest.fixture
def with_memory(tmp_path: Path) -> tuple[Bundle, ClassifierGraph]:
    """Give a bundle and its module, of a model with a memory."""
    model = make_model(memory=MemoryConfig(**MEMORY))
    export_onnx(write_model(tmp_path / "model", model), tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle"), ClassifierGraph(model.eval())


def spoil(rows: Callable[[Batch], Any]) -> Callable[[Session, Batch], Any]:
    """Make a session that is wrong on some rows of a batch."""
    run = Session.run

    def spoiled(session: Session, batch: Batch) -> Any:
        outputs = run(session, batch)
        outputs["logits"] = outputs["logits"] + np.asarray(rows(batch), np.float32)[:, None]
        return outputs

    return spoiled


def ends_even(batch: Batch) -> Any:
    """Tell which rows end with a token of an even id, as all texts do."""
    last = batch.attention_mask.sum(axis=1) - 1
    return np.take_along_axis(batch.input_ids, last[:, None], axis=1)[:, 0] % 2 == 0


def test_rows_that_differ_at_a_tie_are_drawn_again_until_they_agree(
    with_memory: tuple[Bundle, ClassifierGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "run", spoil(ends_even))
    with pytest.raises(ExportError, match="differ from the model's by 1 on"):
        verify(*with_memory)
    monkeypatch.setattr(verify_module, "TIE", 1.0)  # every row ties
    monkeypatch.setattr(verify_module, "DRAWS", 30)
    parity = verify(*with_memory)
    assert parity.tied_rows > parity.rows / 4
    assert parity.max_difference["logits"] < verify_module.TOLERANCE
    assert verify(*with_memory) == parity


@pytest.mark.parametrize(
    "wrong",
    [
        lambda batch: np.full(len(batch.input_ids), batch.input_ids.shape[1] == POSITIONS),
        lambda batch: batch.attention_mask.sum(axis=1) == 1,
        lambda batch: np.arange(len(batch.input_ids)) == 31,
    ],
    ids=["longest rows", "rows of one token", "one row of many"],
)
def test_ties_do_not_excuse_a_graph_that_is_wrong_somewhere(
    wrong: Callable[[Batch], Any],
    with_memory: tuple[Bundle, ClassifierGraph],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verify_module, "TIE", 1.0)  # every row ties
    monkeypatch.setattr(Session, "run", spoil(wrong))
    with pytest.raises(ExportError, match="none agrees with the model"):
        verify(*with_memory)


def test_rows_that_are_drawn_again_keep_their_pads_and_their_neighbours() -> None:
    batch = random_batch(6, 9)
    rows = np.array([True, False, True, False, False, True])
    drawn = verify_module._redraw(np.random.default_rng(3), batch, rows, len(TOKENS))
    pads = batch.attention_mask == 0
    assert np.array_equal(drawn.input_ids[~rows], batch.input_ids[~rows])
    assert np.array_equal(drawn.input_ids[pads], batch.input_ids[pads])
    assert (drawn.input_ids != batch.input_ids).any(axis=1).tolist() == rows.tolist()
    assert drawn.input_ids.dtype == np.int64


def test_no_text_of_the_check_names_an_account_that_could_be() -> None:
    handles = re.findall(r"(?<!\w)@(\w+)", " ".join(TEXTS))
    assert handles
    assert all(len(handle) > 15 for handle in handles)  # the network allows 15


def test_a_bundle_works_where_it_was_moved(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported / "model", tmp_path / "model")
    export_onnx(tmp_path / "model", tmp_path / "bundle")
    shutil.rmtree(tmp_path / "model")
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "bundle").rename(tmp_path / "elsewhere" / "other name")
    assert {file.name for file in moved.iterdir()} == {GRAPH, TOKENIZER, MANIFEST, CARD}
    batch = random_batch(2, 5)
    before = Session(open_bundle(exported / "bundle"), provider="cpu").run(batch)
    after = Session(open_bundle(moved), provider="cpu").run(batch)
    assert before["logits"].tobytes() == after["logits"].tobytes()


def test_weights_too_large_for_one_file_lie_beside_the_graph(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_module, "SINGLE_FILE_LIMIT", 10_000)
    report = export_onnx(exported / "model", tmp_path / "bundle")
    names = {file.name for file in (tmp_path / "bundle").iterdir()}
    assert names == {GRAPH, graph_module.WEIGHTS, TOKENIZER, MANIFEST, CARD}
    assert set(report.manifest.files) == names - {MANIFEST, CARD}
    moved = (tmp_path / "bundle").rename(tmp_path / "moved")
    batch = random_batch(2, 5)
    before = Session(open_bundle(exported / "bundle"), provider="cpu").run(batch)
    after = Session(open_bundle(moved), provider="cpu").run(batch)
    assert before["logits"].tobytes() == after["logits"].tobytes()
    with (moved / graph_module.WEIGHTS).open("r+b") as file:
        file.write(b"\x01")
    with pytest.raises(ModelError, match=r"model\.onnx\.data"):
        open_bundle(moved)


def test_the_same_model_gives_the_same_graph_and_no_paths(exported: Path, tmp_path: Path) -> None:
    export_onnx(exported / "model", tmp_path / "again")
    written = (tmp_path / "again" / GRAPH).read_bytes()
    assert written == (exported / "bundle" / GRAPH).read_bytes()
    for place in (str(Path(__file__).resolve().parents[2]), str(tmp_path), str(exported), "site-packages"):
        assert place.encode() not in written
    graph = onnx.load_from_string(written)
    assert not any(node.doc_string or node.metadata_props for node in graph.graph.node)


def test_the_graph_itself_names_its_labels(exported: Path) -> None:
    graph = onnx.load(exported / "bundle" / GRAPH)
    metadata = {item.key: item.value for item in graph.metadata_props}
    assert Task.from_dict(json.loads(metadata["twil.core.task"])) == POLARITY
    assert metadata["twil.core.version"] == open_bundle(exported / "bundle").manifest.versions["twil"]


def test_export_says_nothing_by_itself(exported: Path, tmp_path: Path) -> None:
    code = "import sys; from twil.exporting.bundle import export_onnx; export_onnx(sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-c", code, str(exported / "model"), str(tmp_path / "bundle")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")


def test_the_report_says_what_was_written(exported: Path, tmp_path: Path) -> None:
    report = export_onnx(exported / "model", tmp_path / "bundle")
    assert report.size == sum(file.stat().st_size for file in (tmp_path / "bundle").iterdir())
    said = report.describe()
    assert str(tmp_path / "bundle") in said
    assert "class of P, NONE, N" in said
    assert f"{report.manifest.parity['rows']} rows" in said
    tied = replace(report.manifest, parity=report.manifest.parity | {"tied_rows": 2})
    assert "2 more tied" in replace(report, manifest=tied).describe()


def test_the_card_says_what_is_recorded_and_may_be_changed(tmp_path: Path) -> None:
    model, folder = make_model(Task("class", ("a|b", "NONE", "N"))), tmp_path / "model"
    report = {
        "rows": 5,
        "metrics": {"accuracy": 0.8, "macro_f1": 0.75},
        "labels": {"a|b": {"precision": 1.0, "recall": 0.5, "f1": 0.6667, "support": 2}},
    }
    run = {
        "command": "finetune",
        "config": {"train": {"epochs": 3, "steps": None, "lr": 5e-4}},
        "data": {"train": {"file": "/home/x/train.tsv", "rows": 1200, "sha256": "abc"}},
        "steps": 1500,
        "results": {"dev": report},
    }
    model_folders.save(folder, model, make_tokenizer(POSITIONS), run)
    export_onnx(folder, tmp_path / "bundle")
    path = tmp_path / "bundle" / "MODEL_CARD.md"
    card = path.read_text(encoding="utf-8")
    header, text = card.removeprefix("---\n").split("\n---\n\n")
    assert text.startswith(
        "# bundle\n\nA classifier that gives one label each of `a|b`, `NONE`, `N` to texts."
    )
    told = ModelCard(card).data
    assert (told.pipeline_tag, told.library_name, told.tags) == (
        "text-classification",
        "twil",
        ["twil", "social-media", "onnx"],
    )
    assert [(result.metric_name, result.metric_value) for result in told.eval_results] == [
        ("accuracy", 0.8),
        ("macro_f1", 0.75),
    ]
    assert "license" not in header
    for line in (
        "| layers | 3 |",
        "| train | train.tsv | 1,200 | abc |",
        "| lr | 0.0005 |",
        "On dev (5 rows): accuracy 0.8000, macro_f1 0.7500.",
        "| a&#124;b | 1.0000 | 0.5000 | 0.6667 | 2 |",
        "| precision | fp32 |",
    ):
        assert line in card
    assert "/home/x" not in card
    assert "None" not in card
    path.write_text(card + "\nNo la uses para decidir sobre personas.\n", encoding="utf-8")
    assert open_bundle(tmp_path / "bundle").manifest.task == model.task
    export_onnx(folder, tmp_path / "bundle", overwrite=True)


def test_a_model_without_a_record_has_a_card_all_the_same(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported / "model", tmp_path / "model")
    (tmp_path / "model" / "run.json").unlink()
    export_onnx(tmp_path / "model", tmp_path / "bundle")
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "## Model" in card
    assert "## Training" not in card
    (tmp_path / "model" / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"run\.json cannot be read"):
        export_onnx(tmp_path / "model", tmp_path / "other")
    for record in (
        {"config": {}},
        {"command": "x", "config": {}, "data": {"train": 3}},
        {"results": {"dev": {"labels": 3}}},
    ):
        (tmp_path / "model" / "run.json").write_text(json.dumps(record), encoding="utf-8")
        with pytest.raises(ModelError, match=r"run\.json is not what twil wrote"):
            export_onnx(tmp_path / "model", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_target_that_is_there_is_kept(exported: Path, bundle: Bundle) -> None:
    with pytest.raises(TwilError, match="is there already"):
        export_onnx(exported / "model", bundle.folder)
    before = bundle.graph.stat().st_ino
    export_onnx(exported / "model", bundle.folder, overwrite=True)
    assert bundle.graph.stat().st_ino != before


def test_a_bundle_never_replaces_its_model(exported: Path, tmp_path: Path) -> None:
    source = shutil.copytree(exported / "model", tmp_path / "models" / "model")
    for target in (source, source.parent, source / ".." / "model"):
        with pytest.raises(TwilError, match="holds what twil did not write"):
            export_onnx(source, target, overwrite=True)
    assert model_folders.load(source)


def test_wrong_settings_are_refused_before_anything_is_written(exported: Path, tmp_path: Path) -> None:
    faults: list[tuple[Path, dict[str, Any], type[TwilError], str]] = [
        (tmp_path / "nowhere", {}, ModelError, "there is no model folder"),
        (exported, {}, ModelError, "is no model folder"),
        (exported / "model", {"pooling": "avg"}, ConfigError, "trained with cls pooling"),
        (exported / "model", {"pooling": "mean"}, ConfigError, "cls, avg, max, concat"),
        (exported / "model", {"opset": 11}, ConfigError, "17 to 20"),
    ]
    for source, options, error, said in faults:
        with pytest.raises(error, match=said):
            export_onnx(source, tmp_path / "bundle", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("module", "extra"), [("onnx", "train"), ("onnxruntime", "cpu")])
def test_a_missing_extra_is_answered_with_its_command(
    module: str, extra: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{re.escape(install_command(extra))}"):
        export_onnx(exported / "model", tmp_path / "bundle")
