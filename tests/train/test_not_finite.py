"""Numbers that are not finite are no answer: no label, no vector, no score and no model is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import POLARITY, TOKENS, write_bundle
from conftest import write_rows
from corpora import make_corpus, tiny_run
from onnx import numpy_helper
from tuning import tiny_config

from twil.config.training import FinetuneConfig, finetune_config
from twil.core.errors import ModelError
from twil.core.task import Task
from twil.inference.embed_file import embed_events
from twil.inference.embedder import Embedder
from twil.inference.predict_file import predict_events
from twil.inference.predictor import Predictor
from twil.train.finetune import finetune_events
from twil.train.pretraining import pretrain_events

MULTI = Task("multi-label", ("ira", "miedo"))
NUMBER = Task("regression", ("grado",))
TEXTS = ["hola", "adiós", "¡qué niña!", "todo bien"]


def damage(value: float, letter: str = "ñ") -> Any:
    """Make what puts a number that is not finite into the vector of one letter of a graph."""

    def change(graph: onnx.ModelProto) -> None:
        tokens = next(entry for entry in graph.graph.initializer if entry.name == "tokens")
        vectors = numpy_helper.to_array(tokens).copy()
        vectors[TOKENS.index(f"##{letter}"), 2] = value
        tokens.CopyFrom(numpy_helper.from_array(vectors, "tokens"))

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", [POLARITY, MULTI, NUMBER], ids=lambda task: task.kind)
class TestLabels:
    def test_a_text_without_any_is_named(self, task: Task, value: float, tmp_path: Path) -> None:
        predictor = Predictor(write_bundle(tmp_path / "bundle", task, change=damage(value)))
        assert len(predictor(["hola", "todo bien"])) == 2
        with pytest.raises(
            ModelError, match=r"bundle gives numbers that are not finite .* for the text '.*ñ"
        ):
            predictor(TEXTS)
        with pytest.raises(ModelError, match="not finite"):
            predictor.predict_logits(TEXTS)
        with pytest.raises(ModelError, match="not finite"):
            predictor({"TEXT": np.array(TEXTS)})

    def test_a_file_of_them_is_no_output(self, task: Task, value: float, tmp_path: Path) -> None:
        bundle = write_bundle(tmp_path / "bundle", task, change=damage(value))
        rows = write_rows(tmp_path / "rows.tsv", [(text, "P") for text in TEXTS])
        with pytest.raises(ModelError, match="not finite"):
            list(predict_events(rows, bundle, tmp_path / "out.tsv"))
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bundle", "rows.tsv"]


class TestVectors:
    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        return write_bundle(tmp_path / "bundle", None, change=damage(np.nan))

    @pytest.mark.parametrize("normalize", [False, True])
    def test_a_text_without_one_is_named(self, normalize: bool, bundle: Path) -> None:
        embedder = Embedder(bundle, normalize=normalize)
        assert embedder(["hola"]).shape == (1, embedder.width)
        with pytest.raises(ModelError, match=r"not finite .* for the text '.*ñ"):
            embedder(TEXTS)
        with pytest.raises(ModelError, match="not finite"):
            embedder.tokens(TEXTS)

    def test_a_file_of_them_is_no_output(self, bundle: Path, tmp_path: Path) -> None:
        rows = write_rows(tmp_path / "rows.tsv", [(text, "P") for text in TEXTS])
        with pytest.raises(ModelError, match="not finite"):
            list(embed_events(rows, bundle, tmp_path / "out.npy"))
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bundle", "rows.tsv"]


@pytest.fixture
def diverging(tmp_path: Path, tokenizer_file: Path, request: pytest.FixtureRequest) -> FinetuneConfig:
    """Give a run of one step, which leaves no weight of use, for a kind of task, with dev or without."""
    kind, dev = request.param
    labels = {"class": ("P", "N"), "multi-label": ("ira|miedo", "ira"), "regression": ("0.5", "-1.5")}[kind]
    rows = [("qué día tan genial", labels[0]), ("odio esperar el bus", labels[1])] * 2
    options = tiny_config(tmp_path, tokenizer_file).model_dump(exclude_none=True, exclude_defaults=True)
    options["data"] = {"train": write_rows(tmp_path / "rows.tsv", rows), "task": kind}
    if dev:
        options["data"]["dev"] = options["data"]["train"]
    options["train"] |= {"epochs": 1, "lr": 1e30, "batch_tokens": 4096}
    return finetune_config(None, options, [])


class TestTraining:
    @pytest.mark.parametrize(
        "diverging",
        [(kind, dev) for kind in ("class", "multi-label", "regression") for dev in (False, True)],
        indirect=True,
        ids=str,
    )
    def test_a_run_whose_last_step_diverges_writes_no_model(
        self, diverging: FinetuneConfig, tmp_path: Path
    ) -> None:
        with pytest.raises(ModelError, match=r"logits that are not finite for \d of \d rows.*learning rate"):
            list(finetune_events(diverging, tmp_path / "model", device="cpu"))
        assert not (tmp_path / "model").exists()

    def test_a_pretraining_whose_last_step_diverges_writes_no_model(
        self, examples: Path, tokenizer_file: Path, tmp_path: Path
    ) -> None:
        corpus = make_corpus(examples, tokenizer_file, tmp_path / "corpus", dev=0.0)
        config = tiny_run(corpus, steps=1, lr=1e30, warmup=0, schedule="constant")
        with pytest.raises(ModelError, match=r"losses that are not finite.*lower learning rate"):
            list(pretrain_events(config, tmp_path / "model"))
        assert not (tmp_path / "model").exists()
