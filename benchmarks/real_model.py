"""Label tweets with a real pretrained encoder, beside other tools with the same weights, in one run.

    python benchmarks/real_model.py --data FOLDER --work FOLDER --encoder FOLDER [--rounds 3] [--rows 500]

An encoder of BERT's kind is fine-tuned with the head of the transformers library on a task, and its folder is
what every tool loads or converts: the library's pipeline, OpenVINO and CTranslate2 in fp32 and in int8, and
twil's bundles. Peers are installed in an environment of their own in the work folder, which the next run uses
again.

Steady speed is that of `predict.py`: every way is a process that holds its model, and labels the same rows
when its turn comes, from texts to labels. Labels are held to those of twil in fp32 on the test file.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelling_peers import read_labels, read_rows
from peer_processes import make_environments, python_of, ratio, run, versions
from predict import ENVIRONMENTS, PEERS, Way, measure_steady, twil, write_texts
from sklearn.metrics import f1_score
from training_runs import table

from twil.core.machine import available_cpus, cpu_name
from twil.core.version import __version__
from twil.data.labelled import read_labelled
from twil.evaluation.pages.figure import COLOURS, draw_legend, figure_file

TASK = "umsab_spanish"
PACKAGES = {"peers": ENVIRONMENTS["peers"]}
SHOWN = ("transformers", "onnxruntime", "openvino", "nncf", "ctranslate2")
CLOSE = ("--max-change", "0.008")
"""What keeps more labels than int8 does by default."""
HEAD = "model.classifier.head=library"
PAGE = """# A real model beside other tools

Written by `benchmarks/real_model.py`, which says what is counted: twil {twil}, {peers}; {machine}.
{model}, fine-tuned on {task}; {rounds} interleaved rounds of {rows} tweets. Medians; ratios are of each
round to the first line. Labels kept are those of twil in fp32, macro-F1 is in points; both on the test file's
{test_rows:,} rows. In int8, twil computes {products} products in 8 bits.

![speed and labels kept]({name}.png)

{table}
"""


def prepare(data: Path, work: Path, encoder: Path) -> None:
    """Fine-tune and export the model, and convert it for the peers."""
    task, model = data / TASK, work / "model"
    if not model.exists():
        start = ("--model", encoder, "--set", HEAD, "--quiet")
        twil("finetune", task / "train.tsv", "--dev", task / "dev.tsv", *start, "-o", model)
    texts = ("--calibration", task / "train.tsv", "--eval", task / "dev.tsv")
    int8 = ("--precision", "int8", *texts)
    for kind, options in {"fp32": (), "int8": int8, "int8-close": (*int8, *CLOSE)}.items():
        if not (work / kind).exists():
            twil("export", model, "--onnx", "--optimize", *options, "-o", work / kind)
    for way, source, target, *more in (
        ("onnx", "model", "onnx"),
        ("openvino-int8", "onnx", "openvino-int8", task / "train.tsv"),
        ("ctranslate2", "model", "ctranslate2"),
    ):
        if not (work / target).exists():
            run(python_of(work, "peers"), PEERS, "make", way, work / source, work / target, *more)


def list_ways(work: Path) -> list[Way]:
    """List who takes part; the first is what the others are compared with."""
    return [
        Way("transformers pipeline, batch 32", "pipeline-32", work / "model", "peers"),
        Way("ONNX Runtime, file order", "onnxruntime", work / "onnx", "peers"),
        Way("OpenVINO, sorted", "openvino", work / "onnx", "peers"),
        Way("CTranslate2, sorted", "ctranslate2-fp32", work / "ctranslate2", "peers"),
        Way("twil", "twil", work / "fp32", "own"),
        Way("OpenVINO, sorted", "openvino", work / "openvino-int8", "peers", "int8"),
        Way("CTranslate2, sorted", "ctranslate2", work / "ctranslate2", "peers", "int8"),
        Way("twil", "twil", work / "int8", "own", "int8"),
        Way(f"twil, {' '.join(CLOSE)}", "twil", work / "int8-close", "own", "int8"),
    ]


def describe(ways: Sequence[Way], measured: Sequence[Any], test: Path) -> list[dict[str, Any]]:
    """Make a line of each way."""
    truth = read_labelled(test).labels
    reference = next(
        found.test_labels for way, found in zip(ways, measured, strict=True) if way.name == "twil"
    )
    return [
        {
            "title": found.title,
            "precision": found.precision,
            "rates": found.rates,
            "rate": statistics.median(found.rates),
            "ratio": ratio(found.rates, measured[0].rates),
            "memory": found.memory,
            "kept": 100 * sum(map(str.__eq__, found.test_labels, reference)) / len(reference),
            "macro_f1": 100 * f1_score(truth, found.test_labels, average="macro"),
        }
        for found in measured
    ]


def render(results: dict[str, Any], name: str) -> str:
    """Lay the results out as Markdown."""
    heads = ["", "", "tweets/s", "lowest – highest", "ratio", "labels kept", "macro-F1", "memory, MiB"]
    lines = [
        [
            *(row["title"], row["precision"], f"{row['rate']:.1f}"),
            f"{min(row['rates']):.1f} – {max(row['rates']):.1f}",
            *(f"{row['ratio']:.2f} ×", f"{row['kept']:.2f} %", f"{row['macro_f1']:.2f}"),
            f"{row['memory'] / 2**20:,.0f}",
        ]
        for row in results["lines"]
    ]
    return PAGE.format(**results, name=name, table=table(heads, lines))


def draw(results: dict[str, Any], file: Path) -> None:
    """Draw speed against labels kept."""
    with figure_file(file, width=7.5, height=5, purpose="the chart") as figure:
        axes = figure.subplots()
        tools = list(dict.fromkeys(row["title"] for row in results["lines"]))
        for row in results["lines"]:
            axes.scatter(
                row["rate"],
                row["kept"],
                color=COLOURS[tools.index(row["title"])],
                marker="s" if row["precision"] == "int8" else "o",
                s=60,
                label=f"{row['title'].replace(', sorted', '')}, {row['precision']}",
            )
        axes.set_xlabel("tweets a second")
        axes.set_ylabel("labels of twil in fp32 that are kept, %")
        axes.margins(0.1)
        axes.grid(alpha=0.3)
        draw_legend(figure, columns=2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help=f"with {TASK} and tweets_unlabelled_es")
    parser.add_argument("--work", type=Path, required=True, help="keeps environments, models and conversions")
    parser.add_argument("--encoder", type=Path, required=True, help="a folder of the transformers library")
    parser.add_argument("--name", default="multilingual-e5-small (12 layers of 384)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=500, help="tweets of a round")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "real_model")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    make_environments(work, PACKAGES)
    prepare(options.data, work, options.encoder)
    texts, test = work / "texts.tsv", options.data / TASK / "test.tsv"
    write_texts(options.data, texts, options.rounds * options.rows)
    ways = list_ways(work)
    measured = measure_steady(ways, texts, test, work, options.rounds, options.rows, every_label=True)
    manifest = json.loads((work / "int8" / "bundle.json").read_text(encoding="utf-8"))
    report = manifest["int8"]
    results = {
        "twil": __version__,
        "peers": versions(work, PACKAGES, SHOWN),
        "machine": f"{cpu_name()}, {available_cpus()} CPUs",
        "model": options.name,
        "task": TASK,
        "labels": read_labels(work / "model"),
        "rounds": options.rounds,
        "rows": options.rows,
        "test_rows": len(read_rows(test)),
        "products": f"{report['products'] - len(report['left_in_fp32'])} of {report['products']}",
        "lines": describe(ways, measured, test),
    }
    file = options.output
    file.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(render(results, file.name), encoding="utf-8")
    draw(results, file.with_suffix(".png"))
    print(render(results, file.name))


if __name__ == "__main__":
    main()
