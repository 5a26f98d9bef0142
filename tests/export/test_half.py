"""Graphs in half precision: finite, close to fp32, and refused where they are neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from twil.bundle.bundle import GRAPH, Kind, open_bundle
from twil.cli.main import make_app
from twil.config.model import ClassifierConfig, ModelConfig, preset
from twil.core.errors import ConfigError, ExportError
from twil.core.task import Task
from twil.exporting import reduced
from twil.exporting.bundle import export_onnx
from twil.exporting.card import CARD
from twil.exporting.int8.options import Int8Options
from twil.inference.embedder import Embedder
from twil.inference.predictor import Predictor
from twil.model import folder as model_folders
from twil.model.twilbert import TWilBERT
from twil.text.tokenizer import load_tokenizer

TEXTS = ["me encanta este barrio 😍", "", "qué horror de lunes " * 60, "abren a las nueve"]


def save_model(folder: Path, tokenizer_file: Path, *, scale: float = 1.0) -> Path:
    torch.manual_seed(0)
    tokenizer = load_tokenizer(tokenizer_file)
    shape = preset("tiny", vocab_size=tokenizer.get_vocab_size(), initializer_range=0.1)
    task = Task("class", ("negative", "positive"))
    model = TWilBERT(ModelConfig(encoder=shape, mlm=True, classifier=ClassifierConfig(), task=task))
    with torch.no_grad():
        for block in model.encoder.blocks:
            block.feed_forward.up.weight.mul_(scale)
    model_folders.save(folder, model, tokenizer, {})
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: Path) -> Path:
    return save_model(tmp_path_factory.mktemp("half") / "model", tokenizer_file)


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("head", ["classifier", "encoder", "fill-mask"])
def test_half_precision_is_half_the_size_and_says_how_far_it_is_from_fp32(
    model_folder: Path, tmp_path: Path, head: Kind, optimize: bool
) -> None:
    fp32 = export_onnx(model_folder, tmp_path / "fp32", head=head, optimize=optimize)
    half = export_onnx(model_folder, tmp_path / "fp16", head=head, optimize=optimize, fp16=True)
    manifest = open_bundle(tmp_path / "fp16").manifest
    assert (manifest.precision, fp32.manifest.precision) == ("fp16", "fp32")
    assert manifest.fp16["difference"].keys() == manifest.outputs.keys()
    assert 0 < max(manifest.fp16["difference"].values()) < reduced.HALF
    assert manifest.parity["max_difference"] == fp32.manifest.parity["max_difference"]
    assert "fp16, for GPUs" in half.describe_fp16()
    graphs = [(tmp_path / name / GRAPH).stat().st_size for name in ("fp16", "fp32")]
    assert graphs[0] < 0.6 * graphs[1]
    assert "differs from fp32 by at most" in (tmp_path / "fp16" / CARD).read_text(encoding="utf-8")
    weights = onnx.load(tmp_path / "fp16" / GRAPH).graph.initializer
    assert not [
        tensor.name for tensor in weights if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims
    ]


def test_empty_and_full_length_texts_are_finite_in_half_precision(model_folder: Path, tmp_path: Path) -> None:
    export_onnx(model_folder, tmp_path / "labels", fp16=True)
    export_onnx(model_folder, tmp_path / "vectors", fp16=True, head="encoder")
    export_onnx(model_folder, tmp_path / "fp32")
    logits = Predictor(tmp_path / "labels", provider="cpu").predict_logits(TEXTS)
    assert logits.dtype == np.float32
    expected = Predictor(tmp_path / "fp32", provider="cpu").predict_logits(TEXTS)
    np.testing.assert_allclose(logits, expected, atol=0.02 * np.abs(expected).max())
    assert np.isfinite(Embedder(tmp_path / "vectors", provider="cpu")(TEXTS)).all()


def test_a_graph_too_far_from_fp32_is_refused_and_nothing_is_left(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduced, "HALF", 1e-9)
    with pytest.raises(ExportError, match=r"differ by .* in half precision"):
        export_onnx(model_folder, tmp_path / "bundle", fp16=True)
    assert list(tmp_path.iterdir()) == []


def test_numbers_too_large_for_half_precision_are_refused(tmp_path: Path, tokenizer_file: Path) -> None:
    folder = save_model(tmp_path / "model", tokenizer_file, scale=1e6)
    with pytest.raises(ExportError, match="half precision"):
        export_onnx(folder, tmp_path / "bundle", fp16=True)
    assert not (tmp_path / "bundle").exists()


def test_a_graph_is_in_one_precision(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one"):
        export_onnx(
            model_folder, tmp_path / "bundle", fp16=True, int8=Int8Options(Path("a.tsv"), Path("b.tsv"))
        )


def test_the_commands_say_what_half_precision_is_for(model_folder: Path, tmp_path: Path) -> None:
    arguments = ["export", str(model_folder), "--onnx", "--precision", "fp16", "-o", str(tmp_path / "bundle")]
    done = CliRunner().invoke(make_app(arguments), arguments)
    assert done.exit_code == 0, done.output
    assert "fp16, for GPUs: differs from fp32 by at most" in " ".join(done.stderr.split())
    (tmp_path / "in.tsv").write_text("ID\tTEXT\n1\thola\n", encoding="utf-8")
    predict = ["predict", str(tmp_path / "in.tsv"), "-m", str(tmp_path / "bundle"), "--provider", "cpu"]
    said = CliRunner().invoke(make_app(predict), [*predict, "-o", str(tmp_path / "out.tsv")])
    assert said.exit_code == 0, said.output
    assert "the bundle is in fp16" in " ".join(said.stderr.split())
