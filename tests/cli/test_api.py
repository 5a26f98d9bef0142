"""The functions of `import twil` run to their ends and return what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from corpora import make_corpus
from tuning import write_sets

import twil
from twil.evaluation.compare import Answering
from twil.train.finetune import FinetuneStarted

SHAPE = {"hidden_size": 16, "n_layers": 1, "n_heads": 1, "head_size": 16, "max_positions": 40}


@pytest.fixture
def settings(tokenizer_file: Path) -> dict[str, Any]:
    """Give those of a run of a moment: sections, whole names and short ones."""
    shape = {"encoder": SHAPE, "tokenizer": tokenizer_file}
    return {"model": shape, "train.batch_tokens": 64, "lr": 1e-2, "epochs": 2}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWIL_CACHE", str(tmp_path / "cache"))


def test_a_script_from_rows_in_memory_to_predictions(tmp_path: Path, settings: dict[str, Any]) -> None:
    sets = {name: pd.read_csv(file, sep="\t") for name, file in write_sets(tmp_path).items()}
    result = twil.finetune(sets["train"], sets["dev"], test=sets["test"], settings=settings, progress=False)
    assert result.folder == Path("model")
    assert result.test is not None
    assert result.scores["macro_f1"] == result.test.metrics["macro_f1"]
    run = json.loads(Path("model/run.json").read_text(encoding="utf-8"))
    assert (run["config"]["train"]["epochs"], run["data"]["train"]["file"]) == (2, "the train rows")
    report = result.export("bundle", progress=False)
    texts = sets["test"]["TEXT"].tolist()
    with twil.Predictor(report.folder) as predictor, result.predictor() as of_folder:
        found = predictor.predict(texts)
        assert [each.label for each in found] == [each.label for each in of_folder(texts)]
        assert predictor.labels == result.task.labels
        assert str(predictor).startswith(f"Predictor(bundle: class of {', '.join(predictor.labels)}; fp32 on")
    assert json.loads(json.dumps(found[0].to_dict()))["label"] == found[0].label
    assert found[0]._repr_html_().startswith(f"<b>{found[0].label}</b>")
    sets["test"].to_csv("test.tsv", sep="\t", index=False)
    summary = twil.predict("test.tsv", "out.tsv", model="bundle", progress=False)
    assert summary.rows == len(texts)
    assert pd.read_csv("out.tsv", sep="\t")["label"].tolist() == [each.label for each in found]
    evaluated = twil.evaluate("model", (texts, sets["test"]["CLASS"]))
    assert evaluated.report.metrics == result.test.metrics
    compared = twil.compare(
        sets["test"], {"a": "model", "b": "bundle"}, resamples=100, device="cpu", progress=False
    )
    assert sorted(entry.name for entry in compared.entries) == ["a", "b"]


def test_a_function_is_given_each_event(tmp_path: Path, settings: dict[str, Any]) -> None:
    sets, seen = write_sets(tmp_path), []
    result = twil.finetune(
        sets["train"], sets["dev"], output="m", runs=2, settings=settings, progress=seen.append
    )
    assert result.runs is not None
    assert len(result.runs.runs) == 2
    assert sum(isinstance(event, FinetuneStarted) for event in seen) == 2
    seen.clear()
    twil.compare(sets["dev"], ["m"], resamples=100, device="cpu", progress=seen.append)
    assert isinstance(seen[0], Answering)


def test_progress_is_what_the_command_shows(
    tmp_path: Path, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sets = write_sets(tmp_path)
    twil.finetune(sets["train"], 0.25, settings=settings)
    out, err = capsys.readouterr()
    assert not out
    assert "training labels" in err
    with pytest.raises(twil.TwilError, match="model"):  # which is there
        twil.finetune(sets["train"], settings=settings, progress=False)
    twil.finetune(sets["train"], settings=settings, progress=False, overwrite=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: twil.finetune(["a text"], progress=False), "was given for the train rows"),
        (
            lambda: twil.finetune("absent.tsv", settings={"lrr": 1}),
            "there is no setting 'lrr': did you mean train\\.lr\\?$",
        ),
        (lambda: twil.predict(pd.DataFrame({"TEXT": ["x"]}), "out.tsv"), "call twil.Predictor"),
        (lambda: twil.export("absent", "bundle", precision="int4"), "there is no precision 'int4'"),
        (lambda: twil.export("absent", "bundle", precision="int8"), "--calibration"),
        (lambda: twil.evaluate("absent", "rows.tsv"), "absent"),
    ],
)
def test_what_does_not_fit_is_one_error(call: Any, message: str) -> None:
    with pytest.raises(twil.TwilError, match=message):
        call()


def test_models_are_listed() -> None:
    listed = twil.models()
    assert {"sentiment", "twil-es"} <= {model.name for model in listed.shipped}
    assert listed.cached == []
    assert listed.hub


def test_every_name_is_there_and_nothing_heavy_before_it_is_asked_for() -> None:
    program = (
        "import sys, twil; found = {'numpy', 'torch', 'pydantic', 'rich'} & sys.modules.keys(); "
        "assert not found, found; names = dir(twil); [getattr(twil, name) for name in names]; print(*names)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert {"finetune", "Predictor", "register_loss"} <= set(done.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'finetuned'"):
        twil.finetuned  # noqa: B018


def test_pretraining_and_distillation(
    tmp_path: Path, examples: Path, tokenizer_file: Path, settings: dict[str, Any]
) -> None:
    corpus = make_corpus(examples, tokenizer_file, tmp_path / "corpus", dev=0.05)
    config = {
        "data": {"corpus": corpus, "dev_rows": 8},
        "model": {"encoder": SHAPE | {"max_positions": 128}},
        "train": {"steps": 2, "batch_rows": 4},
    }
    pretrained = twil.pretrain(config, "encoder", settings={"lr": 1e-3}, progress=False)
    assert pretrained.scores.keys() >= {"loss", "perplexity"}
    vectors = pretrained.embedder()
    assert vectors.embed("un día largo").shape == (vectors.width,)
    assert str(vectors).startswith("Embedder(encoder: 16 numbers, avg")
    sets = write_sets(tmp_path)
    teacher = twil.finetune(sets["train"], sets["dev"], settings=settings, progress=False)
    student = twil.distill(
        teacher.folder,
        sets["train"],
        "student",
        student="encoder",
        dev=sets["dev"],
        test=sets["test"],
        settings={"epochs": 1},
        progress=False,
    )
    assert student.test is not None
    assert student.scores["macro_f1"] == student.test.metrics["macro_f1"]
