"""Models of the transformers library as bundles: the same answers, without the library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import EXAMPLES
from hub_models import (
    FAMILIES,
    HIDDEN,
    LAYERS,
    POSITIONS,
    library,
    make_hub_folder,
    make_kin_folder,
    texts,
    their_logits,
)
from tuning import twil_command

from twil.core.errors import ConfigError, ExportError
from twil.evaluation.pretrained.probing import fill_masks, open_probe
from twil.exporting.bundle import WHOLE_LAYER, export_onnx
from twil.exporting.graph.first_alone import first_alone
from twil.exporting.graph.hub_fusion import fuse_hub
from twil.exporting.int8.guard import Limits
from twil.exporting.int8.options import Int8Options
from twil.inference.embedder import Embedder
from twil.inference.fill_mask import MaskFiller
from twil.inference.predictor import Predictor
from twil.model.folder import load_with_tokenizer

pytest.importorskip("transformers", reason="the extra 'hub' is not installed")

LABELS = {0: "negative", 1: "neutral", 2: "positive"}
ROWS = [*texts()[:24], "", "palabra " * 200]
TRAIN, DEV = EXAMPLES / "tweets_train.tsv", EXAMPLES / "tweets_dev.tsv"
LIKE = 1e-4
ANY = Limits(max_drop=100, min_agreement=0, max_change=1)  # random weights have no labels to keep


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Name one family after the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def classifier(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny classifier, and beside it its plain bundle and one with fused attention."""
    folder = tmp_path_factory.mktemp(family)
    make_hub_folder(folder / "model", family, "classifier", id2label=LABELS)
    export_onnx(folder / "model", folder / "plain")
    report = export_onnx(folder / "model", folder / "fused", optimize=True)
    assert report.unfused == ()
    return folder / "model"


class TestClassifiers:
    @pytest.mark.parametrize("bundle", ["plain", "fused"])
    def test_logits_are_those_of_the_library(self, bundle: str, classifier: Path) -> None:
        with Predictor(classifier.with_name(bundle)) as predictor:
            assert np.abs(predictor.predict_logits(ROWS) - their_logits(classifier, ROWS)).max() < LIKE

    def test_attention_is_one_operator_a_layer(self, classifier: Path) -> None:
        manifests = {
            name: json.loads((classifier.with_name(name) / "bundle.json").read_text())
            for name in ("plain", "fused")
        }
        assert "MultiHeadAttention" not in manifests["plain"]["operators"]
        assert manifests["fused"]["operators"]["MultiHeadAttention"] == LAYERS
        assert manifests["fused"]["task"]["labels"] == list(LABELS.values())

    def test_the_last_layer_is_computed_for_the_first_token_alone(self, classifier: Path) -> None:
        model, _ = load_with_tokenizer(classifier)
        fused = fuse_hub(model)
        trimmed = first_alone(fused)
        assert trimmed is not None
        ids = torch.arange(12).view(2, 6)
        visible = torch.tensor([[1] * 6, [1] * 3 + [0] * 3])
        with torch.inference_mode():
            assert trimmed.encode(ids, visible).shape == (2, 1, HIDDEN)
            assert fused.encode(ids, visible).shape == (2, 6, HIDDEN)
            assert torch.allclose(trimmed(ids, visible), model(ids, visible), atol=1e-5)

    def test_half_precision_and_int8_are_held_to_the_model(
        self, family: str, classifier: Path, tmp_path: Path
    ) -> None:
        export_onnx(classifier, tmp_path / "half", fp16=True)
        options = Int8Options(calibration=TRAIN, evaluation=DEV, limits=ANY)
        report = export_onnx(classifier, tmp_path / "int8", optimize=True, int8=options)
        assert report.unfused == ()
        told = report.manifest.int8
        factorised = 1 if family == "electra" else 0
        assert told["products"] == 6 * LAYERS + factorised  # the head reads one vector a row
        with Predictor(tmp_path / "int8") as predictor:
            assert len(predictor(ROWS)) == len(ROWS)

    def test_it_is_compared_with_its_bundle(self, classifier: Path) -> None:
        bundle = classifier.with_name("fused")
        done = twil_command("compare", DEV, classifier, bundle, "--resamples", 200, "--json", "-q")
        assert done.exit_code == 0, done.stderr
        one, other = json.loads(done.stdout)["models"]
        assert one["metrics"] == other["metrics"]
        assert one["architecture"] == other["architecture"]

    def test_its_bundle_is_timed(self, classifier: Path, tmp_path: Path) -> None:
        shape = ("--batch", 2, "--length", 8, "--rounds", 2, "--runs", 1, "--warmup", 1, "--threads", 1)
        file = tmp_path / "speed.json"
        done = twil_command("benchmark", classifier.with_name("fused"), *shape, "--json", file)
        assert done.exit_code == 0, done.stderr
        (found,) = json.loads(file.read_text())["configurations"]
        assert found["max_length"] == POSITIONS

    def test_the_bundle_needs_neither_torch_nor_the_library(self, classifier: Path, tmp_path: Path) -> None:
        target = tmp_path / "out.tsv"
        model = str(classifier.with_name("fused"))
        arguments = ["twil", "predict", str(DEV), "--model", model, "-o", str(target), "-q"]
        program = (
            "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; "
            f"sys.argv = {arguments!r}; from twil.cli.main import main; main()"
        )
        subprocess.run([sys.executable, "-c", program], check=True)
        assert len(target.read_text().splitlines()) == len(DEV.read_text().splitlines())


@pytest.fixture(scope="module")
def pretrained(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny masked language model."""
    return make_hub_folder(tmp_path_factory.mktemp(family) / "pretrained", family)


def test_vectors_are_those_of_the_encoder(pretrained: Path, tmp_path: Path) -> None:
    export_onnx(pretrained, tmp_path / "bundle", head="encoder", optimize=True)
    model, tokenizer = load_with_tokenizer(pretrained)
    with Embedder(tmp_path / "bundle") as embedder, torch.inference_mode():
        for text, vector in zip(ROWS[:5], embedder(ROWS[:5]), strict=True):
            hidden = model.encode(torch.tensor([tokenizer.encode(text).ids]))[0]  # (T, D)
            assert vector.shape == (HIDDEN,)
            assert np.abs(vector - hidden.mean(0).numpy()).max() < LIKE


def test_masks_are_filled_as_by_the_model(pretrained: Path, tmp_path: Path) -> None:
    export_onnx(pretrained, tmp_path / "bundle", head="fill-mask", optimize=True)
    asked = ["qué [MASK] hace hoy", "[MASK] y [MASK]"]
    expected = fill_masks(open_probe(pretrained, mlm=True), asked, top_k=3)
    with MaskFiller(tmp_path / "bundle") as filler:
        found = filler.fill(asked, top_k=3)
    for ours, theirs in zip(found, expected, strict=True):
        assert [[fill.token for fill in mask] for mask in ours.masks] == [
            [fill.token for fill in mask] for mask in theirs.masks
        ]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny classifier with labels of its own."""
    names = {0: "LABEL_0", 1: "LABEL_1"}
    return make_hub_folder(
        tmp_path_factory.mktemp("judge") / "judge", "roberta", "classifier", id2label=names
    )


class TestOneFamily:
    def test_pairs_are_answered_as_by_the_library(self, judge: Path, tmp_path: Path) -> None:
        from twil.core.task import Task
        from twil.model.folder import save

        model, tokenizer = load_with_tokenizer(judge)
        model.set_task(Task("class", ("no", "sí"), pair=True))
        save(tmp_path / "pairs", model, tokenizer, {})
        export_onnx(tmp_path / "pairs", tmp_path / "bundle", optimize=True)
        rows = list(zip(texts()[:9], texts()[9:18], strict=True))
        with Predictor(tmp_path / "bundle") as predictor:
            assert np.abs(predictor.predict_logits(rows) - their_logits(judge, rows)).max() < LIKE

    def test_labels_may_be_called_otherwise(self, judge: Path, tmp_path: Path) -> None:
        names = "LABEL_0=negative,LABEL_1=positive"
        done = twil_command("export", judge, "--onnx", "--map-labels", names, "-o", tmp_path / "bundle")
        assert done.exit_code == 0, done.stderr
        with Predictor(tmp_path / "bundle") as predictor:
            assert predictor.task.labels == ("negative", "positive")
        card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
        assert "RobertaForSequenceClassification" in card
        assert "`negative`" in card
        wrong = twil_command("export", judge, "--onnx", "--map-labels", "X=Y", "-o", tmp_path / "other")
        assert (wrong.exit_code, wrong.stderr.count("\n")) == (1, 1)
        assert not (tmp_path / "other").exists()

    def test_folder_and_bundle_with_other_names_of_labels_are_compared(
        self, judge: Path, tmp_path: Path
    ) -> None:
        export_onnx(judge, tmp_path / "bundle", map_labels={"LABEL_0": "negative", "LABEL_1": "positive"})
        file = tmp_path / "rows.tsv"
        lines = [f"{text}\t{('negative', 'positive')[row % 2]}" for row, text in enumerate(texts()[:16])]
        file.write_text("\n".join(["TEXT\tCLASS", *lines, ""]), encoding="utf-8")
        names = "LABEL_0=negative,LABEL_1=positive"
        done = twil_command(
            "compare",
            file,
            judge,
            tmp_path / "bundle",
            "--map-labels",
            names,
            "--resamples",
            200,
            "--json",
            "-q",
        )
        assert done.exit_code == 0, done.stderr
        one, other = json.loads(done.stdout)["models"]
        assert one["metrics"] == other["metrics"]
        assert one["architecture"] == other["architecture"]

    def test_a_family_without_a_choice_of_attention_is_one_line(
        self, judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(library().RobertaForSequenceClassification, "_supports_attention_backend", False)
        with pytest.raises(ConfigError, match="leave --optimize out"):
            export_onnx(judge, tmp_path / "bundle", optimize=True)
        assert not (tmp_path / "bundle").exists()

    def test_a_last_layer_whose_tokens_are_all_read_is_computed_whole(
        self, judge: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read_mean(self: Any, features: torch.Tensor, **_: Any) -> torch.Tensor:
            read: torch.Tensor = self.out_proj(features.mean(dim=1))
            return read

        head = library().models.roberta.modeling_roberta.RobertaClassificationHead
        monkeypatch.setattr(head, "forward", read_mean)
        model, _ = load_with_tokenizer(judge)
        assert first_alone(fuse_hub(model)) is None

    def test_a_last_layer_that_cannot_be_cut_is_computed_whole_and_that_is_said(
        self, judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("twil.exporting.graph.first_alone._KEYS_AND_VALUES", frozenset())
        assert export_onnx(judge, tmp_path / "bundle", optimize=True).unfused == (WHOLE_LAYER,)

    def test_a_fused_graph_is_held_to_the_model_as_it_was_read(
        self, judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def all_visible(*, attention_mask: torch.Tensor, **_: Any) -> torch.Tensor:
            return torch.ones_like(attention_mask)

        monkeypatch.setattr("twil.exporting.graph.hub_fusion._visible", all_visible)
        with pytest.raises(ExportError, match="logits differ from the model's"):
            export_onnx(judge, tmp_path / "bundle", optimize=True)
        assert not (tmp_path / "bundle").exists()

    @pytest.mark.parametrize(
        ("activation", "operator"),
        [("gelu", "BiasGelu"), ("gelu_new", "FastGelu"), ("gelu_pytorch_tanh", "FastGelu")],
    )
    def test_every_gelu_is_one_operator_a_layer(self, activation: str, operator: str, tmp_path: Path) -> None:
        model = make_hub_folder(
            tmp_path / "model", "bert", "classifier", id2label=LABELS, hidden_act=activation
        )
        report = export_onnx(model, tmp_path / "bundle", optimize=True)
        assert report.unfused == ()
        assert report.manifest.operators[operator] == LAYERS
        assert "Tanh" not in report.manifest.operators

    def test_large_tables_are_in_int8(
        self, judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("twil.exporting.int8.rewrite.TABLE_ROWS", 300)
        options = Int8Options(calibration=TRAIN, evaluation=DEV, limits=Limits(min_cosine=0.5))
        report = export_onnx(judge, tmp_path / "bundle", head="encoder", int8=options)
        assert (report.manifest.int8["tables"], report.manifest.int8["tables_left_in_fp32"]) == (1, [])

    def test_a_classifier_s_pooling_is_its_own(self, judge: Path, tmp_path: Path) -> None:
        report = export_onnx(judge, tmp_path / "bundle")
        assert report.manifest.pooling == ""
        assert "pooling" not in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
        with pytest.raises(ConfigError, match="whose pooling is its own affair"):
            export_onnx(judge, tmp_path / "other", pooling="max")

    def test_a_folder_and_its_bundle_are_timed_in_turn(self, judge: Path, tmp_path: Path) -> None:
        export_onnx(judge, tmp_path / "bundle")
        shapes = ["--batch", 2, "--length", 8, "--rounds", 2, "--runs", 1, "--warmup", 1, "--threads", 1]
        file = tmp_path / "speed.json"
        done = twil_command("benchmark", tmp_path / "bundle", "--model", judge, *shapes, "--json", file)
        assert done.exit_code == 0, done.stderr
        bundle, folder = json.loads(file.read_text())["configurations"]
        assert (bundle["engine"], folder["engine"]) == ("onnxruntime", "torch")
        assert bundle["max_length"] == folder["max_length"] == POSITIONS

    def test_a_graph_that_takes_texts_is_refused_with_the_reason(self, judge: Path, tmp_path: Path) -> None:
        done = twil_command("export", judge, "--onnx", "--text-in", "-o", tmp_path / "bundle")
        assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
        assert "the tokens of twil vocab" in done.stderr
        assert not (tmp_path / "bundle").exists()


class TestOtherFamilies:
    @pytest.mark.parametrize(
        ("kind", "shape", "reason"),
        [
            ("modernbert", {"local_attention": 16, "global_attn_every_n_layers": 2}, "some tokens of a row"),
            ("eurobert", {"num_key_value_heads": 2}, "share their keys"),
            ("esm", {"position_embedding_type": "rotary", "mask_token_id": 4}, "in a way of its own"),
        ],
    )
    def test_attention_of_another_kind_is_exported_as_it_is(
        self, kind: str, shape: dict[str, Any], reason: str, tmp_path: Path
    ) -> None:
        folder = make_kin_folder(tmp_path / "model", kind, **shape)
        with pytest.raises(ConfigError, match=f"^this model .*{reason}.*leave --optimize out$"):
            export_onnx(folder, tmp_path / "bundle", optimize=True)
        assert not (tmp_path / "bundle").exists()
        export_onnx(folder, tmp_path / "bundle")
        with Predictor(tmp_path / "bundle") as predictor:
            assert np.abs(predictor.predict_logits(ROWS) - their_logits(folder, ROWS)).max() < LIKE

    @pytest.mark.parametrize("kind", ["convbert", "nystromformer"])
    def test_a_model_that_reads_pads_is_refused(self, kind: str, tmp_path: Path) -> None:
        folder = make_kin_folder(tmp_path / "model", kind)
        done = twil_command("export", folder, "--onnx", "-o", tmp_path / "bundle")
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "reads the pads behind a row" in done.stderr
        assert not (tmp_path / "bundle").exists()

    def test_a_family_that_torch_cannot_export_is_one_line(self, tmp_path: Path) -> None:
        folder = make_kin_folder(tmp_path / "model", "xmod")  # which wants to be told a language
        done = twil_command("export", folder, "--onnx", "-o", tmp_path / "bundle")
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "cannot export this model (Input language unknown" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
