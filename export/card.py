"""The model card: recorded facts laid out for people, under the header that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twil.bundle.bundle import Manifest
from twil.core.errors import ModelError
from twil.core.markdown import code, markdown_table, plain
from twil.exporting.int8.search import read_verdict
from twil.exporting.text_graph.build import TEXT_GRAPH

CARD = "MODEL_CARD.md"
MEASURES = ("precision", "recall", "f1")
PIPELINES = {"classifier": "text-classification", "encoder": "feature-extraction", "fill-mask": "fill-mask"}
"""What the hub calls a kind of model."""
METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "stance_f1": "f1", "pearson": "pearsonr", "rmse": "rmse"}
"""The scores in the header, and what the hub calls their kind."""


def write_card(
    folder: Path, name: str, manifest: Manifest, facts: Mapping[str, str], run: Mapping[str, Any]
) -> None:
    """Write the card of the bundle that lies in a folder; see `make_card`."""
    (folder / CARD).write_text(make_card(name, manifest, facts, run, bundle=folder), encoding="utf-8")


def make_card(
    name: str,
    manifest: Manifest,
    facts: Mapping[str, str],
    run: Mapping[str, Any],
    *,
    bundle: Path | None = None,
) -> str:
    """Lay out the card of a model.

    Args:
        name: What the card is headed with.
        manifest: The bundle's; of a model folder what it would be.
        facts: Of the model, as `TextModel.facts` gives them.
        run: What is recorded of its making, as `read_run` gives it.
        bundle: The folder of the bundle; None of a model folder.

    Raises:
        ModelError: The record lacks what it should have.
    """
    sections = (
        (f"# {plain(name)}", iter([_purpose(manifest)])),
        ("## Use", _use(name, manifest)),
        ("## Limits", _limits(manifest)),
        ("## Model", _model(manifest, facts)),
        ("## Training", _training(run)),
        ("## Scores", _scores(run.get("results") if manifest.task else None)),
        ("## Export", iter(()) if bundle is None else _export(bundle, manifest)),
    )
    try:
        laid_out = [(title, list(lines)) for title, lines in sections]
        header = _header(name, manifest, run)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"the model's run.json is not what twil wrote ({type(error).__name__}: {error}): copy the folder "
            "again, or remove that file"
        ) from error
    texts = ["\n".join([title, "", *lines]) for title, lines in laid_out if lines]
    return "\n\n".join([f"---\n{header}\n---", *texts]) + "\n"


def _header(name: str, manifest: Manifest, run: Mapping[str, Any]) -> str:
    """Write what the hub reads of a model; licence, language and data sets are known to its owner alone."""
    from huggingface_hub import EvalResult, ModelCardData  # it comes with the tokenizers library

    pipeline, data = PIPELINES[manifest.kind], run.get("data") or {}
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_type=Path(data.get(part, {}).get("file", part)).stem,
            dataset_name=Path(data.get(part, {}).get("file", part)).name,
            dataset_split=part,
            metric_type=METRICS[metric],
            metric_name=metric,
            metric_value=round(float(report["metrics"][metric]), 4),
        )
        for part, report in (run.get("results") or {}).items()
        if manifest.task and isinstance(report, dict) and "labels" in report
        for metric in METRICS
        if metric in report["metrics"]
    ]
    tags = ["twil", "social-media", *(["onnx"] if manifest.files else [])]
    told = ModelCardData(library_name="twil", pipeline_tag=pipeline, tags=tags)
    if results:
        told.model_name, told.eval_results = name, results
    return told.to_yaml().strip()


def _use(name: str, manifest: Manifest) -> Iterator[str]:
    if manifest.kind == "fill-mask":
        yield f"    twil fill-mask {name} 'hoy es un [MASK] día'"
    elif manifest.task is None:
        yield f"    twil embed tweets.tsv --model {name} -o vectors.npy"
    else:
        pair = " --text TEXT --text-pair REPLY" if manifest.task.pair else ""
        yield f"    twil predict tweets.tsv --model {name}{pair} -o labelled.tsv"
    yield ""
    yield "where the name stands for this folder, wherever it lies."


def _limits(manifest: Manifest) -> Iterator[str]:
    yield (
        "It knows texts like those that it learned from: of other places, times and ways of writing expect "
        "less, and score it on rows of your own first (`twil evaluate`)."
    )
    if manifest.task is not None:
        yield (
            "It says what people who label such texts would say, and does not know who speaks, to whom, or "
            "what happened. Do not decide about people by it."
        )
    yield (
        "Licence, language and data sets stand in the header of this card where its owner has told them; "
        "terms of the data may bind whoever uses the model."
    )


def _purpose(manifest: Manifest) -> str:
    reads = f"It reads texts of up to {manifest.max_length} tokens; what is longer is cut."
    task = manifest.task
    if manifest.kind == "fill-mask":
        return f"A masked language model that tells which tokens may stand in the place of [MASK]. {reads}"
    if task is None:
        return f"An encoder that turns texts into vectors. {reads}"
    labels = ", ".join(map(code, task.labels))
    gives = {
        "class": f"A classifier that gives one label each of {labels}",
        "multi-label": f"A classifier that gives any number of the labels {labels}",
        "regression": f"A model that gives a number, {labels}",
    }
    return f"{gives[task.kind]} to {'pairs of texts' if task.pair else 'texts'}. {reads}"


def _model(manifest: Manifest, facts: Mapping[str, str]) -> list[str]:
    told = dict(facts)
    if manifest.pooling:
        told["pooling"] = manifest.pooling
    if manifest.preparation:
        told["texts are prepared by"] = "{name} {version}".format(**manifest.preparation)
    return markdown_table(("", ""), told.items())


def _training(run: Mapping[str, Any]) -> Iterator[str]:
    config = run.get("config")
    if not isinstance(config, dict):
        return
    steps = f", {run['steps']:,} steps" if "steps" in run else ""
    yield f"By `twil {plain(run['command'])}`{steps}. The whole record is the model's `run.json`."
    data = run.get("data")
    if isinstance(data, dict):
        yield ""
        files = [
            (part, Path(file["file"]).name, f"{file['rows']:,}", file["sha256"])
            for part, file in data.items()
        ]
        yield from markdown_table(("data", "file", "rows", "SHA-256"), files)
    yield ""
    settings = [(key, value) for key, value in config.get("train", {}).items() if value is not None]
    yield from markdown_table(("setting", "value"), settings)


def _scores(results: Any) -> Iterator[str]:
    reports = {
        name: report
        for name, report in (results.items() if isinstance(results, dict) else ())
        if isinstance(report, dict) and "labels" in report
    }
    for number, (part, report) in enumerate(reports.items()):
        if number:
            yield ""
        figures = ", ".join(f"{plain(name)} {value:.4f}" for name, value in report["metrics"].items())
        yield f"On {plain(part)} ({report['rows']:,} rows): {figures}."
        if not report["labels"]:
            continue
        yield ""
        rows = [
            (
                label,
                *(f"{scores[key]:.4f}" for key in ("precision", "recall", "f1")),
                f"{scores['support']:,}",
            )
            for label, scores in report["labels"].items()
        ]
        yield from markdown_table(("label", *MEASURES, "rows"), rows)


def _export(folder: Path, manifest: Manifest) -> Iterator[str]:
    parity = manifest.parity
    graph = "the graph" if manifest.precision == "fp32" else "the graph in fp32"
    difference = max(parity["max_difference"].values())
    facts = {
        "precision": manifest.precision,
        "operators": "ONNX and ONNX Runtime" if manifest.optimized else f"ONNX, opset {manifest.opset}",
        "size": f"{sum((folder / name).stat().st_size for name in manifest.files) / 1e6:.1f} MB",
        f"{graph} differs from the model by at most": f"{difference:.1g} on {parity['rows']} rows",
    }
    if manifest.fp16:
        worst = max(manifest.fp16["difference"].values())
        facts["differs from fp32 by at most"] = f"{worst:.2%} of the largest value"
    int8 = manifest.int8
    if int8:
        left = len(int8["left_in_fp32"])
        facts |= {
            "products in int8": f"{int8['products'] - left} of {int8['products']}",
            "of them with ranges of each token": f"{len(int8['by_token'])}",
            "tables in int8": f"{int8['tables'] - len(int8['tables_left_in_fp32'])} of {int8['tables']}",
            **read_verdict(int8).facts(),
            "checked on": f"{int8['evaluation']['file']} ({int8['evaluation']['sha256']})",
            "ranges found on": f"{int8['calibration']['file']} ({int8['calibration']['sha256']})",
            "speed against fp32, where it was exported": f"{int8['speedup']:.1f} ×",
        }
    if TEXT_GRAPH in manifest.files:
        facts["takes texts as they are"] = f"{TEXT_GRAPH}, with operators of onnxruntime-extensions"
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    yield from markdown_table(("", ""), facts.items())
