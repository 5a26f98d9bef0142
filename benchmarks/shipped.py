"""Time the sentiment model that comes with twil beside the pipeline of transformers.

    python benchmarks/shipped.py --data FOLDER --work FOLDER [--rounds 5] [--rows 20000] [--million 1000000]

A user of a large encoder runs the pipeline of transformers on it: here a BERT of 12 layers of 768, its
weights drawn at random (they are of no account for its speed), with the very tokens of the model that comes
with twil. In each round the pipeline labels some tweets of a process that is warm, one text at a time and in
batches of 32, and `twil predict` labels a whole file, from the start of its process to its end.

Then `twil label` labels one text, and `twil predict` a million tweets: real ones, repeated with one word of
each changed, so that hardly two are the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from labelling_peers import read_rows
from large_file import write_rows
from peer_processes import ask, make_environments, python_of, ratio, serving, versions
from predict import time_process, write_texts
from training_runs import table

from twil.bundle.bundle import open_bundle
from twil.bundle.names import model_path
from twil.config.model import ClassifierConfig, ModelConfig, preset
from twil.core.machine import available_cpus, cpu_name
from twil.core.version import __version__
from twil.model import folder as model_folders
from twil.model.twilbert import TWilBERT
from twil.text.tokenizer import load_tokenizer

PEERS = Path(__file__).with_name("labelling_peers.py")
ENVIRONMENTS = {"peers": ("torch==2.13.0", "transformers==5.24.0")}
PIPELINES = {"pipeline-1": "one text at a time", "pipeline-32": "batches of 32"}
TWIL = Path(sys.executable).with_name("twil")
MODEL = "sentiment"
FIRST_TEXT = "qué ganas de que llegue el viernes"
FIRST_ROUNDS = 9

PAGE = """# What comes with twil, timed

Written by `benchmarks/shipped.py`, which says what is counted: twil {twil}, {peers}; {machine}. `{model}` has
{megabytes:.1f} MB; {rounds} interleaved rounds of {few} tweets for a pipeline and {rows:,} for
`twil predict`, real ones of {characters:.0f} characters on average. Medians; ratios are of each round.

{table}

| | |
| --- | --- |
| `twil label` of one text, from process start to exit | {first:.2f} s |
| `twil predict` of {many}, from process start to exit | {million} |
"""


def make_large(folder: Path, bundle: Path) -> None:
    """Make a classifier of 12 layers of 768 that reads the bundle's tokens."""
    if folder.exists():
        return
    tokenizer = load_tokenizer(bundle / "tokenizer.json")
    task = open_bundle(bundle).manifest.task
    shape = preset("large", vocab_size=tokenizer.get_vocab_size())
    torch.manual_seed(0)
    model = TWilBERT(ModelConfig(encoder=shape, classifier=ClassifierConfig(pooling="cls"), task=task))
    model_folders.save(folder, model, tokenizer, {})


def measure(large: Path, texts: Path, work: Path, rounds: int, few: int) -> dict[str, list[float]]:
    """Give texts a second of every way, round by round."""
    rates: dict[str, list[float]] = {way: [] for way in (*PIPELINES, "twil")}
    rows, target = len(read_rows(texts)), work / "labelled.tsv"
    commands = [[python_of(work, "peers"), PEERS, "serve", way, large] for way in PIPELINES]
    with serving(commands, work / "serving.log") as processes:
        for process in processes:
            ask(process, [str(texts), 0, 8])
        for number in range(rounds):
            for way, process in zip(PIPELINES, processes, strict=True):
                said = ask(process, [str(texts), number * few, (number + 1) * few])
                rates[way].append(few / said["seconds"])
            seconds, _ = time_process([TWIL, "predict", texts, "--model", MODEL, "-o", target])
            assert len(read_rows(target)) == rows, "twil lost rows"
            rates["twil"].append(rows / seconds)
            print({way: round(found[-1], 1) for way, found in rates.items()}, flush=True)
    return rates


def time_first() -> float:
    begin = time.perf_counter()
    subprocess.run([TWIL, "label", FIRST_TEXT, "--model", MODEL], capture_output=True, check=True)
    return time.perf_counter() - begin


def time_million(data: Path, work: Path, rows: int) -> float:
    source, target = work / "million.tsv", work / "labelled.tsv"
    write_rows(data / "tweets_unlabelled_es" / "tweets.tsv", source, rows)
    seconds, _ = time_process([TWIL, "predict", source, "--model", MODEL, "-o", target])
    with target.open(encoding="utf-8") as lines:
        assert sum(1 for _ in lines) == rows + 1, "twil lost rows"
    source.unlink()
    return seconds


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""
    rates = results["rates"]
    names = {way: f"transformers pipeline, 12×768, {how}" for way, how in PIPELINES.items()}
    names["twil"] = f"`twil predict --model {MODEL}`"
    lines = [
        [
            names[way],
            f"{statistics.median(found):,.1f}",
            f"{min(found):,.1f} – {max(found):,.1f}",
            *(f"{ratio(found, rates[pipeline]):,.1f} ×" for pipeline in PIPELINES),
        ]
        for way, found in rates.items()
    ]
    heads = ["", "tweets/s", "lowest – highest", *(f"to {how}" for how in PIPELINES.values())]
    many, million = f"{results['million_rows']:,} tweets", "not run"
    if results["million_seconds"]:
        rate = results["million_rows"] / results["million_seconds"]
        million = f"{results['million_seconds'] / 60:.1f} minutes, {rate:,.0f} rows/s"
    first = statistics.median(results["first_seconds"])
    return PAGE.format(
        **results | {"table": table(heads, lines), "many": many, "million": million, "first": first}
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with tweets_unlabelled_es")
    parser.add_argument("--work", type=Path, required=True, help="keeps the environment of the peer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--few", type=int, default=200, help="tweets of a pipeline's round")
    parser.add_argument("--million", type=int, default=1_000_000, help="0 leaves it out")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "shipped")
    options = parser.parse_args()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    make_environments(work, ENVIRONMENTS)
    bundle = model_path(MODEL)
    make_large(work / "large", bundle)
    texts = work / "texts.tsv"
    write_texts(options.data, texts, options.rows)
    rates = measure(work / "large", texts, work, options.rounds, options.few)
    lengths = [len(text) for _, text in read_rows(texts)]
    results = {
        "twil": __version__,
        "peers": versions(work, ENVIRONMENTS, ("transformers", "torch")),
        "machine": f"{cpu_name()}, {available_cpus()} CPUs",
        "model": MODEL,
        "megabytes": sum(file.stat().st_size for file in bundle.iterdir()) / 1e6,
        "rounds": options.rounds,
        "few": options.few,
        "rows": options.rows,
        "characters": statistics.mean(lengths),
        "rates": rates,
        "first_seconds": [time_first() for _ in range(FIRST_ROUNDS)],
        "million_rows": options.million,
        "million_seconds": time_million(options.data, work, options.million) if options.million else None,
    }
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(render(results), encoding="utf-8")
    print(render(results))


if __name__ == "__main__":
    main()
