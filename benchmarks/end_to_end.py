"""Run the whole way on real labelled tweets with the command line, and write what came of it.

    python benchmarks/end_to_end.py --data FOLDER [--fixtures FOLDER] [--output benchmarks/results/end_to_end]

For each task: fine-tune a small encoder from scratch, export it, predict its test file, evaluate the model
folder and the bundle, and compare their labels row by row. The first bundle then labels a large file. Times
are of whole commands, from process start to exit; memory is the peak that the command itself reports.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twil.core.machine import available_cpus, cpu_name
from twil.core.version import __version__
from twil.data.tables.tables import TableReader

SETTINGS = [
    *("--pooling", "avg", "--epochs", "12", "--set", "model.classifier.dropout=0.3"),
    *("--set", "model.input_dropout=0.1", "--set", "model.output_dropout=0.2"),
]


@dataclass
class TaskResult:
    task: str
    start: str
    train_rows: int
    test_rows: int
    epochs: int
    finetune_minutes: float
    test_macro_f1: float
    bundle_macro_f1: float
    same_labels: int
    max_abs_logit_difference: float


@dataclass
class LabellingResult:
    rows_in: int
    rows_out: int
    seconds: float
    rows_per_second: float
    peak_memory_mib: float
    torch_imported: bool


def run(*arguments: object) -> tuple[str, str, float]:
    """Run `twil` and return stdout, stderr and seconds; a failure ends the benchmark."""
    command = [sys.executable, "-m", "twil", *map(str, arguments)]
    print("$ twil", *arguments, flush=True)
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begin
    if done.returncode:
        raise SystemExit(f"twil ended with {done.returncode}: {done.stderr}")
    return done.stdout, done.stderr, seconds


def run_task(name: str, start: list[object], data: Path, work: Path) -> TaskResult:
    folder = data / name
    model, bundle, predictions = (work / f"{name}-{kind}" for kind in ("model", "bundle", "labelled.tsv"))
    for old in (model, bundle):
        subprocess.run(["rm", "-rf", old], check=True)
    sets = ["--dev", folder / "dev.tsv", "--test", folder / "test.tsv"]
    _, _, seconds = run("finetune", folder / "train.tsv", *sets, *start, *SETTINGS, "-o", model)
    run("export", model, "--onnx", "-o", bundle)
    run("predict", folder / "test.tsv", "--model", bundle, "-o", predictions)
    reports = [
        json.loads(run("evaluate", place, folder / "test.tsv", "--json")[0])["report"]
        for place in (model, bundle)
    ]
    record = json.loads((model / "run.json").read_text())
    manifest = json.loads((bundle / "bundle.json").read_text())
    return TaskResult(
        task=name,
        start=" ".join(map(str, start[:2])) if start[0] == "--init" else "imported from HDF5",
        train_rows=record["data"]["train"]["rows"],
        test_rows=reports[0]["rows"],
        epochs=len(record["history"]),
        finetune_minutes=seconds / 60,
        test_macro_f1=reports[0]["metrics"]["macro_f1"],
        bundle_macro_f1=reports[1]["metrics"]["macro_f1"],
        same_labels=count_same_labels(model, predictions, folder / "test.tsv"),
        max_abs_logit_difference=manifest["parity"]["max_difference"]["logits"],
    )


def count_same_labels(model: Path, predictions: Path, file: Path) -> int:
    """Count the rows where the model folder, computed with torch, says what the bundle's file says."""
    from twil.data.labelled import read_labelled
    from twil.model.folder import load_with_tokenizer
    from twil.train.objectives.classification import compute_logits, encode_set

    loaded, tokenizer = load_with_tokenizer(model)
    encoded = encode_set(read_labelled(file), tokenizer, loaded.task)
    answers = loaded.task.decode(compute_logits(loaded, encoded, 1024)).labels
    written = [label for rows in TableReader(predictions, ["label"]) for label in rows.columns["label"]]
    return sum(one == other for one, other in zip(answers, written, strict=True))


def label_large_file(bundle: Path, file: Path, work: Path) -> LabellingResult:
    target = work / "large.tsv"
    _, stderr, seconds = run("predict", file, "--model", bundle, "-o", target)
    check = (
        "import sys; from twil.inference.predict_file import predict_events; "
        f"list(predict_events({str(work / 'few.tsv')!r}, {str(bundle)!r}, '/dev/null', "
        "output_format='tsv')); "
        "print('torch' in sys.modules)"
    )
    (work / "few.tsv").write_text("ID\tTEXT\n1\thola\n", encoding="utf-8")
    torch_imported = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    peak = re.search(r"peak memory ([\d,]+) MiB", stderr)
    assert peak, stderr
    rows_in, rows_out = (
        sum(len(rows.numbers) for rows in TableReader(path, ["ID"])) for path in (file, target)
    )
    return LabellingResult(
        rows_in=rows_in,
        rows_out=rows_out,
        seconds=seconds,
        rows_per_second=rows_out / seconds,
        peak_memory_mib=float(peak[1].replace(",", "")),
        torch_imported=torch_imported.stdout.strip() == "True",
    )


COLUMNS = {
    "task": "{task}",
    "start": "{start}",
    "train": "{train_rows:,}",
    "epochs": "{epochs}",
    "minutes": "{finetune_minutes:.1f}",
    "macro-F1, model": "{test_macro_f1:.4f}",
    "macro-F1, bundle": "{bundle_macro_f1:.4f}",
    "same labels": "{same_labels:,} of {test_rows:,}",
    "largest logit difference": "{max_abs_logit_difference:.1e}",
}

PAGE = """# The whole way on real tweets

Written by `benchmarks/end_to_end.py`: twil {twil}, {cpu}, {cpus} CPUs, a vocabulary of {tokens:,} tokens,
settings `{settings}`. Scores are on the test sets; minutes are those of `twil finetune`, start to exit.

{table}

Labelling {rows_in:,} rows with the bundle of {first}: {rows_out:,} rows out, {seconds:.0f} s from process
start to exit ({rows_per_second:,.0f} rows/s), peak memory {peak_memory_mib:,.0f} MiB, torch {torch} imported.
"""


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS)]
    rows += [[cell.format(**task) for cell in COLUMNS.values()] for task in results["tasks"]]
    return PAGE.format(
        table="\n".join(f"| {' | '.join(row)} |" for row in rows),
        settings=" ".join(SETTINGS),
        first=results["tasks"][0]["task"],
        torch="was" if results["labelling"]["torch_imported"] else "was not",
        **results["labelling"],
        **{key: results[key] for key in ("twil", "cpu", "cpus", "tokens")},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder per task")
    parser.add_argument("--fixtures", type=Path, help="folder with the original's reference weights")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "end_to_end")
    parser.add_argument("--tokens", type=int, default=8000)
    options = parser.parse_args()
    large_file = options.data / "tweets_unlabelled_es" / "tweets.tsv"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        tokenizer = work / "tokenizer.json"
        run("vocab", large_file, "--size", options.tokens, "--sample", 100_000, "-o", tokenizer)
        fresh: list[object] = ["--init", "small", "--tokenizer", tokenizer]
        tasks = [run_task(name, fresh, options.data, work) for name in ("umsab_spanish", "irosva19_mx")]
        labelling = label_large_file(work / "umsab_spanish-bundle", large_file, work)
        if options.fixtures:
            case = options.fixtures / "base_like"
            config = ["--config", case / "config.json", "--vocab", options.fixtures / "vocab_small"]
            run("import", case / "weights.hdf5", *config, "-o", work / "imported")
            tasks.append(run_task("umsab_spanish", ["--model", work / "imported"], options.data, work))
    results = {
        "twil": __version__,
        "cpu": cpu_name(),
        "cpus": available_cpus(),
        "tokens": options.tokens,
        "tasks": [asdict(task) for task in tasks],
        "labelling": asdict(labelling),
    }
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(render(results))


if __name__ == "__main__":
    main()
