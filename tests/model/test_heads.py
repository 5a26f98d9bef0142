"""What of a model is exported: every kind of head, with and without fused operators and memories."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from bundles import TOKENS, make_tokenizer, write_bundle
from torch import Tensor
from typer.testing import CliRunner

from twil.bundle.bundle import GRAPH, INPUTS, TASK_KEY, open_bundle
from twil.bundle.session import Session
from twil.cli.main import make_app
from twil.config.model import ClassifierConfig, EncoderConfig, MemoryConfig, ModelConfig, RopConfig
from twil.core.errors import ConfigError, ModelError, TwilError
from twil.core.task import Task
from twil.data.batching import Batch, pad_batch
from twil.exporting.bundle import export_onnx
from twil.exporting.int8.options import Int8Options
from twil.inference.predictor import Predictor
from twil.model import folder as model_folders
from twil.model.heads import pool
from twil.model.twilbert import TWilBERT

TASKS = {
    "class": Task("class", ("P", "NONE", "N")),
    "multi-label": Task("multi-label", ("odio", "broma"), thresholds=(0.3, 0.3)),
    "regression": Task("regression", ("humor",)),
    "class of pairs": Task("class", ("AGAINST", "FAVOR"), pair=True),
}
SHAPE = {"vocab_size": len(TOKENS), "hidden_size": 16, "n_layers": 2, "n_heads": 2, "head_size": 6}
MEMORY = MemoryConfig(layers=(1,), n_heads=2, n_keys=8, key_size=8, knn=3)
DENSE, MEMORISING = (
    EncoderConfig(**SHAPE, max_positions=14),
    EncoderConfig(**SHAPE, max_positions=14, memory=MEMORY),
)


def make_model(task: Task | None = None, encoder: EncoderConfig = DENSE, **heads: Any) -> TWilBERT:
    torch.manual_seed(0)
    classifier = ClassifierConfig(pooling="max") if task else None
    model = TWilBERT(ModelConfig(encoder=encoder, classifier=classifier, task=task, **heads))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(4)  # so that outputs depend on the tokens by far more than the tolerance
    return model.eval()


def write_model(folder: Path, model: TWilBERT) -> Path:
    model_folders.save(folder, model, make_tokenizer(14), {})
    return folder


def make_batch() -> Batch:
    random = np.random.default_rng(5)
    rows = [random.integers(0, len(TOKENS), size).tolist() for size in (9, 4, 1)]
    return pad_batch(rows, [[0] * (len(row) // 2) + [1] * (len(row) - len(row) // 2) for row in rows])


def by_hand(model: TWilBERT, head: str, batch: Batch) -> dict[str, Tensor]:
    ids, mask, segments = (torch.from_numpy(getattr(batch, name)) for name in INPUTS)
    with torch.inference_mode():
        hidden = model.encode(ids, mask, segments)
        if head == "encoder":
            return {"token_vectors": hidden, "pooled": pool(hidden, mask, "max")}
        return {"logits": model.mlm_logits(hidden) if head == "fill-mask" else model(ids, mask, segments)}


@pytest.mark.parametrize("encoder", [DENSE, MEMORISING], ids=["dense", "memory"])
@pytest.mark.parametrize("optimize", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize(
    "what", [*TASKS, "encoder", "encoder of a classifier", "fill-mask", "tied fill-mask"]
)
def test_every_head_computes_what_the_model_does(
    what: str, optimize: bool, encoder: EncoderConfig, tmp_path: Path
) -> None:
    if what in TASKS:
        head, model = "classifier", make_model(TASKS[what], encoder, mlm=True)
    elif "fill-mask" in what:
        heads = {"mlm": True, "rop": RopConfig(), "tie_word_embeddings": "tied" in what}
        head, model = "fill-mask", make_model(TASKS["class"], encoder, **heads)
    else:
        head, model = "encoder", make_model(TASKS["class"] if "classifier" in what else None, encoder)
    report = export_onnx(
        write_model(tmp_path / "model", model),
        tmp_path / "bundle",
        head=None if what in (*TASKS, "encoder") else head,  # type: ignore[arg-type]
        pooling="max" if what == "encoder" else None,
        optimize=optimize,
    )
    bundle = open_bundle(tmp_path / "bundle")
    assert (bundle.manifest.kind, bundle.manifest.task) == (head, TASKS.get(what))
    assert bundle.manifest.pooling == ("" if head == "fill-mask" else "max")
    assert report.unfused == ()
    assert bundle.manifest.operators.get("MultiHeadAttention", 0) == (2 if optimize else 0)
    batch = make_batch()
    found = Session(bundle, provider="cpu").run(batch)
    for name, value in by_hand(model, head, batch).items():
        assert found[name].shape == tuple(value.shape)
        np.testing.assert_allclose(found[name], value.numpy(), atol=1e-4)


def test_nothing_of_another_head_is_in_the_graph_or_on_the_card(tmp_path: Path) -> None:
    model = make_model(TASKS["class"], mlm=True, rop=RopConfig())
    source = write_model(tmp_path / "model", model)
    for head, unwanted, said in (
        ("encoder", ("mlm", "rop", "classifier"), "An encoder that turns texts into vectors."),
        ("fill-mask", ("rop", "classifier"), "A masked language model"),
        ("classifier", ("mlm", "rop"), "A classifier that gives one label"),
    ):
        export_onnx(source, tmp_path / head, head=head)  # type: ignore[arg-type]
        graph = onnx.load(tmp_path / head / GRAPH)
        names = {tensor.name for tensor in graph.graph.initializer}
        assert not any(part in name for name in names for part in unwanted)
        assert (TASK_KEY in {item.key for item in graph.metadata_props}) == (head == "classifier")
        card = (tmp_path / head / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert said in card
        assert ("| pooling | max |" in card) == (head != "fill-mask")


def test_a_tied_head_holds_the_embeddings_once(tmp_path: Path) -> None:
    model = make_model(mlm=True, tie_word_embeddings=True)
    export_onnx(write_model(tmp_path / "model", model), tmp_path / "bundle", head="fill-mask")
    shapes = [sorted(tensor.dims) for tensor in onnx.load(tmp_path / "bundle" / GRAPH).graph.initializer]
    assert shapes.count([16, len(TOKENS)]) == 1


def test_a_head_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    bare = write_model(tmp_path / "bare", make_model())
    labels = write_model(tmp_path / "labels", make_model(TASKS["class"], mlm=True))
    int8 = Int8Options(tmp_path / "a.tsv", tmp_path / "b.tsv")
    faults: list[tuple[Path, dict[str, Any], type[TwilError], str]] = [
        (bare, {"head": "classifier"}, ModelError, "no classifier to export: make one with twil finetune"),
        (bare, {"head": "fill-mask"}, ModelError, "no masked-language head, so it fills no masks"),
        (bare, {"head": "rop"}, ConfigError, "choose one of classifier, encoder, fill-mask"),
        (labels, {"head": "fill-mask", "pooling": "avg"}, ConfigError, "leave the pooling out"),
        (labels, {"head": "classifier", "pooling": "avg"}, ConfigError, "with --head encoder"),
        (labels, {"head": "fill-mask", "int8": int8}, ConfigError, "what is exported gives neither"),
    ]
    for source, options, error, said in faults:
        with pytest.raises(error, match=said):
            export_onnx(source, tmp_path / "bundle", **options)
    assert not (tmp_path / "bundle").exists()


def test_a_classifiers_vectors_may_be_pooled_otherwise(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model", make_model(TASKS["class"]))
    report = export_onnx(source, tmp_path / "bundle", head="encoder", pooling="concat")
    assert "(encoder, concat pooling; " in report.describe()
    assert Session(open_bundle(tmp_path / "bundle")).run(make_batch())["pooled"].shape == (3, 48)


def test_the_command_exports_a_head_and_says_which(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model", make_model(mlm=True))
    arguments = ["export", str(source), "--onnx", "-o", str(tmp_path / "bundle"), "--head"]
    done = CliRunner().invoke(make_app([]), [*arguments, "fill-mask"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "bundle (fill-mask; rows of up to 14 tokens; " in done.stderr
    refused = CliRunner().invoke(make_app([]), [*arguments, "classifier", "--force"])
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith("twil: error: this model has no classifier to export")
    assert open_bundle(tmp_path / "bundle").manifest.kind == "fill-mask"


def test_a_bundle_that_fills_masks_predicts_no_labels_and_the_other_way_round(tmp_path: Path) -> None:
    export_onnx(write_model(tmp_path / "model", make_model(mlm=True)), tmp_path / "masks", head="fill-mask")
    with pytest.raises(ModelError, match=r"fills masks, and only classifiers predict: .* twil fill-mask"):
        Predictor(tmp_path / "masks")
    labels = write_bundle(tmp_path / "labels")
    done = CliRunner().invoke(make_app([]), ["fill-mask", str(labels), "hola [MASK]"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "is a bundle of kind classifier, which fills no masks" in done.stderr
    assert done.stderr.count("\n") == 1


def test_masks_are_filled_without_torch(tmp_path: Path) -> None:
    export_onnx(write_model(tmp_path / "model", make_model(mlm=True)), tmp_path / "masks", head="fill-mask")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['twil', 'fill-mask', {str(tmp_path / 'masks')!r}, 'a [MASK] b', '--json', '-q']\n"
        "from twil.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"token"' in done.stdout
