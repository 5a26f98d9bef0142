"""int8 graphs: what is rounded, what is kept, and that a model whose labels change is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import typer
from numpy.typing import NDArray
from onnx import numpy_helper
from typer.testing import CliRunner

from twil.bundle.bundle import GRAPH, INPUTS, MANIFEST, Bundle, open_bundle
from twil.bundle.session import Session
from twil.cli.export import command
from twil.cli.main import guard
from twil.config.model import ClassifierConfig, MemoryConfig, ModelConfig, preset
from twil.core.errors import ConfigError, DataError, ExportError
from twil.core.task import Task
from twil.data.batching import pad_batch
from twil.data.labelled import COLUMNS, LabelledColumns, read_labelled
from twil.exporting.bundle import export_onnx
from twil.exporting.card import CARD
from twil.exporting.int8.accuracy import Accuracy, AnswerGuard
from twil.exporting.int8.calibrate import LARGEST, LEVELS, ReadRange, Seen, TokenRange, Way, observe
from twil.exporting.int8.guard import Closeness, Limits, VectorGuard
from twil.exporting.int8.options import Int8Options, choose_arithmetic
from twil.exporting.int8.rewrite import FloatGraph
from twil.exporting.int8.search import _Work
from twil.exporting.int8.smooth import smooth
from twil.exporting.int8.weights import RoundedWeights, round_weights
from twil.exporting.reduced import check_int8
from twil.inference.embedder import Embedder
from twil.inference.predictor import Predictor
from twil.model import folder as model_folders
from twil.model.twilbert import TWilBERT
from twil.text.tokenizer import load_tokenizer

RUNNER = CliRunner()
SPEEDUP = "twil.exporting.int8.search._Work.speedup"
APP = typer.Typer()
APP.command("export")(guard(command))
APP.callback()(lambda: None)
LABELS = Task("class", ("negative", "neutral", "positive"))
LOOSE = Limits(max_drop=100, min_agreement=0, max_change=1)
VERDICT = Accuracy(
    rows=200,
    metric="macro_f1",
    fp32_score=80.0,
    int8_score=80.0,
    least_drop=-0.5,
    answers=200,
    same=199,
    sure=190,
    sure_same=190,
    mean_change=0.005,
    largest_change=0.1,
)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "model"
    save_model(folder, tokenizer_file)
    return folder


def save_model(folder: Path, tokenizer_file: Path, **changes: Any) -> None:
    """Save a classifier whose answers are spread over its labels."""
    torch.manual_seed(3)
    tokenizer = load_tokenizer(tokenizer_file)
    shape = preset("tiny", vocab_size=tokenizer.get_vocab_size(), initializer_range=0.1, **changes)
    model = TWilBERT(ModelConfig(encoder=shape, classifier=ClassifierConfig(), task=LABELS))
    with torch.no_grad():
        assert model.classifier is not None
        model.classifier.output.weight.mul_(4)
    model_folders.save(folder, model, tokenizer, {})


@pytest.fixture
def options(examples: Path) -> Int8Options:
    return Int8Options(examples / "tweets_train.tsv", examples / "tweets_dev.tsv", limits=LOOSE)


@pytest.fixture(scope="module")
def float_graph(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("float") / "bundle"
    export_onnx(model_folder, target)
    return target / GRAPH


def batches(count: int = 3) -> list[Any]:
    random = np.random.default_rng(0)
    rows = [[random.integers(5, 400, size).tolist() for size in (9, 4)] for _ in range(count)]
    return [pad_batch(ids) for ids in rows]


def run(graph: Path, batch: Any) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {name: getattr(batch, name) for name in INPUTS})[0]


def test_a_bundle_in_int8_is_smaller_says_how_it_was_checked_and_predicts(
    model_folder: Path, tmp_path: Path, options: Int8Options
) -> None:
    fp32 = export_onnx(model_folder, tmp_path / "fp32")
    report = export_onnx(model_folder, tmp_path / "int8", optimize=True, int8=options)
    manifest = open_bundle(tmp_path / "int8").manifest
    assert (manifest.precision, manifest.optimized) == ("int8", True)
    assert manifest.int8["rows"] == 99
    assert manifest.int8["same"] > 0.9 * manifest.int8["answers"] == 0.9 * 99
    assert manifest.int8["calibration"]["file"] == "tweets_train.tsv"
    assert manifest.int8["left_in_fp32"] == []
    assert manifest.operators["MatMulIntegerToFloat"] == manifest.int8["products"] == 9
    assert report.unfused == ()
    assert "of the answers to" in report.describe_int8()
    assert max(manifest.parity["max_difference"].values()) < 1e-4  # of the float graph
    assert (tmp_path / "int8" / GRAPH).stat().st_size < 0.7 * (tmp_path / "fp32" / GRAPH).stat().st_size
    assert fp32.manifest.int8 == {}
    one, other = (Predictor(tmp_path / name) for name in ("fp32", "int8"))
    texts = ["me encanta este barrio", "qué servicio tan horrible", "abren a las nueve"]
    np.testing.assert_allclose(other.predict_logits(texts), one.predict_logits(texts), atol=0.5)


def test_what_int8_says_of_a_row_depends_on_no_other(
    model_folder: Path, tmp_path: Path, options: Int8Options
) -> None:
    export_onnx(model_folder, tmp_path / "int8", int8=options)
    predictor = Predictor(tmp_path / "int8")
    texts = ["hola", "x" * 40, "vaya día llevo de calor 😡😡 https://t.co/abc", "GRACIAS!!!"]
    together = predictor.predict_logits(texts)
    alone = np.concatenate([predictor.predict_logits([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_graph_that_lets_rows_touch_is_refused(
    model_folder: Path, tmp_path: Path, options: Int8Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_onnx(model_folder, tmp_path / "int8", int8=options)
    run_session = Session.run

    def leaky(self: Session, batch: Any) -> dict[str, Any]:
        outputs = run_session(self, batch)
        return {name: value + 0.1 * len(value) for name, value in outputs.items()}

    monkeypatch.setattr(Session, "run", leaky)
    with pytest.raises(ExportError, match=r"changes by .* with the rows beside it"):
        check_int8(open_bundle(tmp_path / "int8"), vocab_size=300)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"share_layers": True, "embedding_size": 24},
        {"memory": MemoryConfig(layers=(0,), n_keys=16, knn=4)},
    ],
)
def test_every_architecture_has_its_fused_operators(
    changes: dict[str, Any], tmp_path: Path, tokenizer_file: Path, options: Int8Options
) -> None:
    save_model(tmp_path / "model", tokenizer_file, **changes)
    for name, int8 in (("fp32", None), ("int8", options)):
        report = export_onnx(tmp_path / "model", tmp_path / name, optimize=True, int8=int8)
        assert report.unfused == ()
        assert report.manifest.operators["MultiHeadAttention"] == 2
        assert report.manifest.operators["FastGelu"] == (1 if "memory" in changes else 2) + (
            "embedding_size" in changes
        )
        assert "SkipLayerNormalization" not in report.manifest.operators  # slower than its parts


def test_a_fusion_that_did_not_happen_is_said(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twil.exporting.bundle.count_operators", lambda graph: {"MultiHeadAttention": 1})
    report = export_onnx(model_folder, tmp_path / "bundle", optimize=True)
    assert report.unfused[0].startswith(
        "ONNX Runtime made 1 MultiHeadAttention of the graph, and 2 were meant"
    )


def test_a_range_keeps_zero_and_rounds_to_its_steps() -> None:
    values = np.linspace(-1, 3, 1001, dtype=np.float32)
    found = ReadRange(-1.0, 3.0)
    assert found.rounded(np.zeros(1, np.float32))[0] == 0
    assert (
        np.abs(found.rounded(values) - values).max() <= found.scale / 2 + found.scale
    )  # zero moves the ends
    assert len(np.unique(found.rounded(values))) <= LEVELS + 1
    assert ReadRange(0.0, 0.0).rounded(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


def test_ranges_leave_pads_out_and_rare_extremes(float_graph: Path) -> None:
    tensors = list(dict.fromkeys(FloatGraph(float_graph).products.values()))
    some = batches()
    seen = observe(float_graph, tensors, some)
    noisy = [
        replace(batch, input_ids=np.where(batch.attention_mask == 0, 7, batch.input_ids)) for batch in some
    ]
    again = observe(float_graph, tensors, noisy)
    assert {name: found.range for name, found in again.items()} == {
        name: found.range for name, found in seen.items()
    }
    assert all(found.range.low <= 0 <= found.range.high and found.range.scale > 0 for found in seen.values())


def calibrated(graph: FloatGraph, file: Path) -> tuple[dict[str, Seen], dict[str, RoundedWeights]]:
    seen = observe(file, list(dict.fromkeys(graph.products.values())), batches())
    return seen, graph.round_weights(seen)


def test_weights_are_rounded_in_steps_of_their_column(float_graph: Path, tmp_path: Path) -> None:
    graph = FloatGraph(float_graph)
    inputs = graph.products
    graph.write_int8(tmp_path / GRAPH, *calibrated(graph, float_graph), dict.fromkeys(inputs, "static"))
    before = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(float_graph).graph.initializer
    }
    after = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / GRAPH).graph.initializer
    }
    rounded = [name.removesuffix(".int8") for name in after if name.endswith(".int8")]
    assert len(rounded) == len(inputs) == 9
    for name in rounded:
        assert name not in after  # the float weights are gone
        steps = after[f"{name}.scale"]
        assert steps.shape == before[name].shape[1:]
        numbers = after[f"{name}.int8"].astype(np.float32)
        np.testing.assert_allclose(steps, np.abs(before[name]).max(axis=0) / LARGEST, rtol=1e-6)
        assert np.abs(numbers).max() <= LARGEST
        assert (np.abs(numbers * steps - before[name]) <= 4 * steps).all()


def test_products_lose_less_by_weights_that_are_rounded_on_their_inputs() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(500, 40)) @ random.normal(size=(40, 150)) + random.normal(size=(500, 150)) / 9
    rows, weights = rows.astype(np.float32), random.normal(size=(150, 30)).astype(np.float32)
    numbers, steps = round_weights(weights, rows.T @ rows)
    assert np.abs(numbers).max() <= LARGEST
    nearest = np.round(weights / steps) * steps
    lost, before = (np.square(rows @ (left - weights)).sum() for left in (numbers * steps, nearest))
    assert lost < 0.5 * before
    unseen = round_weights(weights, np.zeros((150, 150), np.float32))
    np.testing.assert_array_equal(unseen.numbers * unseen.steps, nearest)


def held(rows: NDArray[np.float32]) -> Seen:
    low, high = np.minimum(rows.min(axis=0), 0), np.maximum(rows.max(axis=0), 0)
    return Seen(low, high, rows, rows.T @ rows, np.ones(rows.shape[1], np.float32))


def test_what_few_channels_hold_is_moved_into_the_weights() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 64)).astype(np.float32)
    weights = random.normal(size=(64, 32)).astype(np.float32)
    assert smooth(held(rows), [weights]).divisors.tolist() == [1] * 64  # it is not worth its cost
    rows[:, 5] *= 80
    found = smooth(held(rows), [weights])
    assert found.is_divided
    assert found.divisors.argmax() == 5
    np.testing.assert_allclose(found.rows * found.divisors, rows, rtol=1e-5)
    np.testing.assert_allclose(found.gram, found.rows.T @ found.rows, rtol=1e-3, atol=1e-2)
    lost = [
        np.square((seen.token_range.rounded(seen.rows) * seen.divisors - rows) @ weights).sum()
        for seen in (found, held(rows))
    ]
    assert lost[0] < 0.5 * lost[1]


def test_only_the_products_that_are_chosen_are_rounded(float_graph: Path, tmp_path: Path) -> None:
    graph = FloatGraph(float_graph)
    inputs = graph.products
    found = calibrated(graph, float_graph)
    expected, errors = run(float_graph, batches()[0]), []
    for chosen in ([], list(inputs)[:1], list(inputs)):
        graph.write_int8(tmp_path / GRAPH, *found, dict.fromkeys(chosen, "static"))
        nodes = [node.op_type for node in onnx.load(tmp_path / GRAPH).graph.node]
        assert nodes.count("QuantizeLinear") == len({inputs[name] for name in chosen})
        errors.append(float(np.abs(run(tmp_path / GRAPH, batches()[0]) - expected).max()))
    assert errors[0] == 0 < errors[1]
    assert errors[2] < 0.5


def test_rows_of_a_table_are_within_half_a_step_of_their_largest(
    float_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FloatGraph(float_graph).tables == []  # the tiny model has none that is large
    monkeypatch.setattr("twil.exporting.int8.rewrite.TABLE_ROWS", 300)
    graph = FloatGraph(float_graph)
    (lookup,) = graph.tables
    graph.write_int8(tmp_path / GRAPH, {}, {}, {lookup: "static"})
    before = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(float_graph).graph.initializer
    }
    after = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / GRAPH).graph.initializer
    }
    (name,) = before.keys() - after.keys()
    assert name.endswith("token.weight")
    steps = after[f"{name}.step"]
    assert steps.shape == (len(before[name]), 1)
    left = after[f"{name}.int8"].astype(np.float32) * steps
    assert (np.abs(left - before[name]) <= steps / 2 + 1e-7).all()
    difference = np.abs(run(tmp_path / GRAPH, batches()[0]) - run(float_graph, batches()[0])).max()
    assert 0 < difference < 0.2


def test_a_table_in_int8_is_told_apart_from_products(
    model_folder: Path, tmp_path: Path, options: Int8Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twil.exporting.int8.rewrite.TABLE_ROWS", 300)
    report = export_onnx(model_folder, tmp_path / "bundle", int8=options)
    assert (report.manifest.int8["tables"], report.manifest.int8["tables_left_in_fp32"]) == (1, [])
    assert report.manifest.int8["products"] == 9
    assert report.unfused == ()
    assert "| tables in int8 | 1 of 1 |" in (tmp_path / "bundle" / CARD).read_text(encoding="utf-8")
    fp32 = export_onnx(model_folder, tmp_path / "fp32")
    assert report.size < 0.5 * fp32.size


def test_products_are_left_in_fp32_where_labels_need_it(
    model_folder: Path, tmp_path: Path, options: Int8Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def holds(self: Accuracy, limits: Limits) -> bool:
        return len(attempts) == 4  # with fixed ranges, by token, without one and without two

    def judged(self: Any, expected: Any, found: Any) -> Accuracy:
        attempts.append(1)
        return VERDICT

    monkeypatch.setattr(Accuracy, "holds", holds)
    monkeypatch.setattr("twil.exporting.int8.accuracy.AnswerGuard.judge", judged)
    report = export_onnx(model_folder, tmp_path / "bundle", int8=options)
    left = report.manifest.int8["left_in_fp32"]
    assert len(left) == 2
    assert report.manifest.operators["MatMulIntegerToFloat"] == 9 - 2
    names = products_in_float(tmp_path / "bundle")
    assert set(left) <= names


def products_in_float(bundle: Path) -> set[str]:
    model = onnx.load(bundle / GRAPH)
    constants = {tensor.name for tensor in model.graph.initializer}
    return {node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in constants}


def test_a_model_that_does_not_keep_its_labels_is_refused_and_nothing_is_left(
    model_folder: Path, tmp_path: Path, options: Int8Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Accuracy, "holds", lambda self, limits: False)
    with pytest.raises(ExportError, match=r"does not keep its answers .* not even with 4 of 9 products"):
        export_onnx(model_folder, tmp_path / "bundle", int8=replace(options, limits=Limits()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({}, True),
        ({"int8_score": 78.9, "least_drop": 0.2}, False),  # more than chance takes
        ({"int8_score": 78.9, "least_drop": -0.2}, True),
        ({"int8_score": 79.5, "least_drop": 0.2}, True),
        ({"int8_score": 82.0, "least_drop": -4.0}, True),
        ({"same": 150}, True),  # unsure answers may change
        ({"sure_same": 188}, True),  # two of 190 are as many as of 99.5% might be
        ({"sure_same": 185}, False),
        ({"rows": 20_000, "sure": 19_000, "sure_same": 18_900}, True),
        ({"rows": 20_000, "sure": 19_000, "sure_same": 18_860}, False),
        ({"sure": 0, "sure_same": 0}, True),
        ({"mean_change": 0.011}, False),
        ({"largest_change": 0.9}, True),
    ],
)
def test_limits_are_on_points_sure_answers_and_probabilities_beyond_chance(
    changed: dict[str, Any], kept: bool
) -> None:
    assert replace(VERDICT, **changed).holds(Limits()) is kept


@pytest.mark.parametrize(
    ("task", "before", "after", "sure", "same", "sure_same"),
    [
        (
            Task("class", ("a", "b")),
            [[0.9, 0.1], [0.52, 0.48], [0.3, 0.7]],
            [[0.8, 0.2], [0.49, 0.51], [0.6, 0.4]],
            2,
            1,
            1,
        ),
        (Task("class", ("a", "b"), thresholds=(0.8,)), [[0.4, 0.6], [0.25, 0.75]], [[0.1, 0.9]] * 2, 1, 0, 0),
        (Task("multi-label", ("a", "b")), [[0.9, 0.45], [0.1, 0.5]], [[0.9, 0.55], [0.7, 0.6]], 2, 2, 1),
    ],
)
def test_an_answer_is_sure_by_its_distance_from_another_one(
    task: Task, before: Any, after: Any, sure: int, same: int, sure_same: int, tmp_path: Path
) -> None:
    labels = "a" if task.kind == "class" else "a|b"
    (tmp_path / "rows.tsv").write_text(
        "TEXT\tCLASS\n" + "".join(f"{n}\t{labels}\n" for n in range(len(before)))
    )
    guard = AnswerGuard(read_labelled(tmp_path / "rows.tsv", COLUMNS, task.kind), task, Limits())
    of_class = task.kind == "class"

    def logits(probabilities: Any) -> np.ndarray:
        given = np.array(probabilities, dtype=np.float32)
        return np.log(given) if of_class else np.log(given / (1 - given))

    verdict = guard.judge(logits(before), logits(after))
    assert (verdict.sure, verdict.same, verdict.sure_same) == (sure, same, sure_same)
    changes = np.abs(np.array(before) - np.array(after))
    assert verdict.mean_change == pytest.approx(changes.mean(), abs=1e-6)
    assert verdict.largest_change == pytest.approx(changes.max(), abs=1e-6)
    assert verdict.agreement.low < verdict.agreement.value < verdict.agreement.high or same == 0


def test_products_find_ranges_by_token_where_fixed_ones_are_too_coarse(
    model_folder: Path, tmp_path: Path, options: Int8Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    said: list[str] = []
    attempt = _Work._attempt

    def watched(self: Any, target: Path, ways: Any) -> Any:
        tried.append(list(ways.values()).count("token"))
        return attempt(self, target, ways)

    monkeypatch.setattr(_Work, "_attempt", watched)

    def judged(self: Any, expected: Any, found: Any) -> Accuracy:
        return replace(VERDICT, mean_change=0.005 if tried[-1] >= 6 else 0.02)

    monkeypatch.setattr(AnswerGuard, "judge", judged)
    strict = replace(options, limits=Limits())
    report = export_onnx(model_folder, tmp_path / "bundle", int8=strict, say=said.append)
    assert tried == [0, 9, 4, 6, 5]
    told = report.manifest.int8
    assert (len(told["by_token"]), told["left_in_fp32"]) == (6, [])
    assert report.manifest.operators["MatMulIntegerToFloat"] == 9
    assert report.unfused == ()
    assert "int8 in 9 of 9 products, in 6 by token: macro-F1" in report.describe_int8()
    assert "trying int8 with 6 of 9 products by token" in said
    assert "| of them with ranges of each token | 6 |" in (tmp_path / "bundle" / CARD).read_text()


@pytest.mark.parametrize("opset", [17, 20])
def test_ranges_by_token_round_less_and_let_no_rows_touch(
    model_folder: Path, tmp_path: Path, opset: int
) -> None:
    model, tokenizer = model_folders.load_with_tokenizer(model_folder)
    with torch.no_grad():  # one number is much larger than the others, as in pretrained encoders
        for norm in (module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)):
            norm.weight[3] *= 40
    model_folders.save(tmp_path / "model", model, tokenizer, {})
    export_onnx(tmp_path / "model", tmp_path / "fp32", opset=opset)
    graph = FloatGraph(tmp_path / "fp32" / GRAPH)
    batch, found = batches()[0], calibrated(graph, tmp_path / "fp32" / GRAPH)
    expected = run(tmp_path / "fp32" / GRAPH, batch)
    errors = {}
    for way in get_args(Way):
        graph.write_int8(tmp_path / GRAPH, *found, dict.fromkeys(graph.products, way))
        errors[way] = np.abs(run(tmp_path / GRAPH, batch) - expected).mean()
        rows = zip(batch.input_ids, batch.attention_mask, strict=True)
        alone = [pad_batch([ids[mask != 0].tolist()]) for ids, mask in rows]
        together = run(tmp_path / GRAPH, batch)
        for row, one in enumerate(alone):
            np.testing.assert_allclose(run(tmp_path / GRAPH, one)[0], together[row], atol=1e-4)
    assert errors["token"] < errors["static"]


def test_a_token_in_steps_of_its_own_loses_nothing_to_larger_ones() -> None:
    rows = np.array([[0.01, -0.02, 0.004], [30, -7, 2], [0, 0, 0]], dtype=np.float32)
    left = TokenRange(128).rounded(rows)
    assert (np.abs(left - rows) <= np.abs(rows).max(axis=1, keepdims=True) / 254 + 1e-9).all()
    assert not ReadRange(-7.0, 30.0).rounded(rows[0]).any()


def test_tokens_that_are_never_far_below_zero_have_most_numbers_above_it(
    float_graph: Path,
) -> None:
    graph = FloatGraph(float_graph)
    seen, _ = calibrated(graph, float_graph)
    chosen = {name: found.token_range.zero_point for name, found in seen.items()}
    behind_gelu = {name for name, found in seen.items() if -0.18 < found.rows.min() < 0}
    assert behind_gelu
    assert all(chosen[name] < 128 for name in behind_gelu)
    assert any(zero == 128 for zero in chosen.values())
    for name in behind_gelu:
        rows, errors = seen[name].rows, []
        for zero in (chosen[name], 128):
            left = TokenRange(zero).rounded(rows)
            errors.append(float(np.square(left - rows).mean()))
        assert errors[0] < errors[1]


@pytest.fixture(scope="module")
def encoder_bundle(model_folder: Path, tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    options = Int8Options(
        examples / "to_predict.tsv", examples / "tweets_dev.tsv", limits=Limits(min_cosine=0.5)
    )
    target = tmp_path_factory.mktemp("encoder") / "bundle"
    export_onnx(model_folder, target, head="encoder", int8=options)
    return target


def test_an_encoder_in_int8_says_how_near_its_vectors_are(
    model_folder: Path, encoder_bundle: Path, tmp_path: Path
) -> None:
    bundle = open_bundle(encoder_bundle)
    report = bundle.manifest.int8
    assert (bundle.manifest.kind, bundle.manifest.precision) == ("encoder", "int8")
    assert report["rows"] == 99
    assert 0.5 < report["min_cosine"] < report["mean_cosine"] < 1
    assert report["speedup"] > 0
    assert report["evaluation"]["file"] == "tweets_dev.tsv"
    card = (encoder_bundle / CARD).read_text(encoding="utf-8")
    assert f"at least {report['min_cosine']:.4f} on 99 texts" in card
    assert "macro-F1" not in card
    export_onnx(model_folder, tmp_path / "fp32", head="encoder")
    texts = ["me encanta este barrio", "qué servicio tan horrible", "abren a las nueve", ""]
    one, other = (Embedder(folder, normalize=True)(texts) for folder in (tmp_path / "fp32", encoder_bundle))
    assert (one * other).sum(axis=1).min() > 0.9
    np.testing.assert_allclose(
        other, np.stack([Embedder(encoder_bundle, normalize=True)(text) for text in texts]), atol=1e-5
    )


def test_an_encoder_that_does_not_keep_its_vectors_is_refused_and_nothing_is_left(
    model_folder: Path, tmp_path: Path, options: Int8Options
) -> None:
    strict = replace(options, limits=Limits(min_cosine=1))
    said = (
        r"does not keep its vectors \(cosine .* at least 1 with fp32 \(--min-cosine\)\), not even with 4 of 8"
    )
    with pytest.raises(ExportError, match=said):
        export_onnx(model_folder, tmp_path / "bundle", head="encoder", int8=strict)
    assert list(tmp_path.iterdir()) == []


def test_vectors_are_compared_by_their_angles() -> None:
    guard = VectorGuard(["a", "b", "c"], Limits(min_cosine=0.6))
    expected = np.array([[1, 0], [0, 2], [3, 4]], dtype=np.float32)
    found = np.array([[5, 0], [0, 1], [5, 0]], dtype=np.float32)
    verdict = guard.judge(expected, found)
    assert verdict == Closeness(3, pytest.approx((1 + 1 + 0.6) / 3), pytest.approx(0.6))
    assert replace(verdict, min_cosine=0.6).holds(guard.limits)
    assert not replace(verdict, min_cosine=0.59).holds(guard.limits)
    assert guard.judge(0 * expected, found).min_cosine == 0  # no angle


def test_speed_is_measured_once_and_only_of_what_is_written(
    model_folder: Path, tmp_path: Path, options: Int8Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[Path] = []
    monkeypatch.setattr(
        "twil.exporting.int8.search._Work.speedup", lambda self, graph: timed.append(graph) or 2.0
    )
    monkeypatch.setattr(Accuracy, "holds", lambda self, limits: False)
    with pytest.raises(ExportError):
        export_onnx(model_folder, tmp_path / "bundle", int8=options)
    assert timed == []
    monkeypatch.undo()
    monkeypatch.setattr(
        "twil.exporting.int8.search._Work.speedup", lambda self, graph: timed.append(graph) or 2.0
    )
    assert export_onnx(model_folder, tmp_path / "bundle", int8=options).manifest.int8["speedup"] == 2
    assert len(timed) == 1


def test_bad_options_and_files_are_refused_before_any_work(
    model_folder: Path, tmp_path: Path, options: Int8Options
) -> None:
    with pytest.raises(DataError, match="no such file"):
        export_onnx(model_folder, tmp_path / "b", int8=replace(options, calibration=tmp_path / "none.tsv"))
    wrong = tmp_path / "wrong.tsv"
    wrong.write_text("ID\tTEXT\tCLASS\n1\thola a todos\tfeliz\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"wrong\.tsv, line 2: the label 'feliz'"):
        export_onnx(model_folder, tmp_path / "b", int8=replace(options, evaluation=wrong))
    wrong.write_text("ID\tTEXT\tCLASS\n1\t \tneutral\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no texts: name another \(--calibration\)"):
        export_onnx(model_folder, tmp_path / "b", int8=replace(options, calibration=wrong))
    vectors = replace(options, evaluation=wrong, limits=Limits())
    with pytest.raises(DataError, match=r"no texts: name another \(--eval\)"):
        export_onnx(model_folder, tmp_path / "b", head="encoder", int8=vectors)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"precision": "int4"}, "there is no precision 'int4': choose one of fp32, fp16, int8"),
        ({"calibration": None}, "--calibration"),
        ({"evaluation": None}, "--eval"),
        ({"precision": "fp32"}, "are for int8: add --precision int8"),
        (
            {"precision": "fp32", "calibration": None, "evaluation": None, "max_drop": 1.0},
            "--min-cosine are for int8: add --precision int8",
        ),
        *(
            (
                {"precision": precision, "calibration": None, "evaluation": None, "columns": columns},
                "--text, --text-pair and --label are columns of the files of int8: add --precision int8",
            )
            for precision in ("fp32", "fp16")
            for columns in (
                LabelledColumns("TWEET"),
                LabelledColumns(text_pair="REPLY"),
                LabelledColumns(label="MOOD"),
            )
        ),
        ({"max_drop": -1.0}, "--max-drop"),
        ({"max_drop": float("nan")}, "--max-drop"),
        ({"min_agreement": 101.0}, "--min-agreement"),
        ({"max_change": -0.1}, "--max-change"),
        ({"min_cosine": 1.1}, "--min-cosine"),
        ({"min_cosine": float("nan")}, "--min-cosine"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given: dict[str, Any], said: str) -> None:
    whole: dict[str, Any] = {
        "precision": "int8",
        "calibration": Path("a"),
        "evaluation": Path("b"),
        "columns": COLUMNS,
    }
    assert choose_arithmetic(**whole) == (False, Int8Options(Path("a"), Path("b")))
    limits = {name: value for name, value in given.items() if name in asdict(Limits())}
    others = {name: value for name, value in given.items() if name not in limits}
    with pytest.raises(ConfigError, match=said):
        choose_arithmetic(**whole | others, limits=Limits(**limits))


@pytest.mark.parametrize(
    ("head", "columns", "limits", "said"),
    [
        ("encoder", {}, {"max_drop": 3}, "^--max-drop would have no effect: only with a classifier$"),
        ("encoder", {"text_pair": "REPLY"}, {"min_agreement": 90}, "^--min-agreement, --text-pair would"),
        ("encoder", {}, {"max_change": 0.1}, "^--max-change would have no effect: only with a classifier$"),
        ("encoder", {"label": "MOOD"}, {}, "^--label would have no effect: only with a classifier$"),
        ("classifier", {}, {"min_cosine": 0.9}, "^--min-cosine would have no effect: only with --head enc"),
    ],
)
def test_options_of_another_head_are_refused(
    model_folder: Path, tmp_path: Path, options: Int8Options, head: Any, columns: Any, limits: Any, said: str
) -> None:
    idle = replace(options, columns=LabelledColumns(**columns), limits=Limits(**limits))
    with pytest.raises(ConfigError, match=said):
        export_onnx(model_folder, tmp_path / "bundle", head=head, int8=idle)
    assert list(tmp_path.iterdir()) == []


def test_labels_are_not_called_otherwise_where_there_are_none(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--map-labels would have no effect: only with a classifier"):
        export_onnx(model_folder, tmp_path / "bundle", head="encoder", map_labels={"neutral": "NEU"})
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_became_of_the_labels(
    model_folder: Path, tmp_path: Path, examples: Path
) -> None:
    arguments = ["export", str(model_folder), "--onnx", "-o", str(tmp_path / "bundle"), "--optimize"]
    files = ["--calibration", str(examples / "tweets_train.tsv"), "--eval", str(examples / "tweets_dev.tsv")]
    limits = ["--max-drop", "100", "--min-agreement", "0", "--max-change", "1"]
    done = RUNNER.invoke(APP, [*arguments, "--precision", "int8", *files, *limits])
    assert done.exit_code == 0, done.output
    assert "int8 in 9 of 9 products: macro-F1" in " ".join(done.stderr.split())
    assert json.loads((tmp_path / "bundle" / MANIFEST).read_text())["precision"] == "int8"
    refused = RUNNER.invoke(APP, [*arguments, "--force", "--precision", "int8"])
    assert refused.exit_code == 1
    assert "int8 needs texts" in refused.stderr


def test_an_optimised_graph_passes_only_where_the_manifest_says_so(
    model_folder: Path, tmp_path: Path
) -> None:
    export_onnx(model_folder, tmp_path / "bundle", optimize=True)
    bundle = open_bundle(tmp_path / "bundle")
    plain = Bundle(bundle.folder, replace(bundle.manifest, optimized=False))
    with pytest.raises(ExportError, match=r"com\.microsoft\.FastGelu, com\.microsoft\.MultiHeadAttention"):
        check_int8(plain, vocab_size=300)
