"""Label a file of millions of rows with a tiny bundle, and watch memory.

    python benchmarks/large_file.py --data FOLDER [--rows 5000000] [--output benchmarks/results/large_file]

The rows are real tweets, repeated with one word of each changed, so that hardly two are the same. `twil
predict` labels them in a process whose resident memory is read twice a second. Then the rows of the output
are held to those of the input one by one: same number, same ids, same order.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from twil.config.model import ClassifierConfig, ModelConfig, preset
from twil.core.machine import available_cpus, cpu_name
from twil.core.task import Task
from twil.core.version import __version__
from twil.exporting.bundle import export_onnx
from twil.model import folder as model_folders
from twil.model.twilbert import TWilBERT
from twil.text.tokenizer import save_tokenizer
from twil.text.vocabulary import texts_of, train_vocabulary

mpl.use("Agg")
from matplotlib import pyplot

PAGE = """# A file of {rows:,} rows

Written by `benchmarks/large_file.py`: twil {twil}, {cpu}, {cpus} CPUs. Real tweets, repeated with one word
of each changed, {gigabytes:.2f} GB; a bundle of {layers} layer(s) of {hidden}, {tokens:,} tokens, drawn at
random (its labels mean nothing, its speed does).

| | |
|---|---|
| rows in, rows out | {rows:,}, {rows_out:,} |
| the same ids in the same order | {same_ids} |
| time, from process start to exit | {seconds:,.0f} s, {rate:,.0f} rows/s |
| resident memory after a tenth of it, at its end | {early:,.0f} MiB, {late:,.0f} MiB |
| its peak | {peak:,.0f} MiB |

![Resident memory of the process over time](large_file.svg)
"""


def make_bundle(tweets: Path, work: Path, tokens: int) -> dict[str, Any]:
    trained = train_vocabulary(texts_of([tweets]), size=tokens, sample=100_000)
    save_tokenizer(trained.tokenizer, work / "tokenizer.json")
    shape = preset(
        "tiny", vocab_size=trained.tokenizer.get_vocab_size(), n_layers=1, hidden_size=64, n_heads=1
    )
    config = ModelConfig(
        encoder=shape, classifier=ClassifierConfig(pooling="cls"), task=Task("class", ("N", "NEU", "P"))
    )
    torch.manual_seed(0)
    model_folders.save(work / "model", TWilBERT(config), trained.tokenizer, {})
    export_onnx(work / "model", work / "bundle", optimize=True)
    return {"layers": shape.n_layers, "hidden": shape.hidden_size, "tokens": shape.vocab_size}


def write_rows(tweets: Path, target: Path, rows: int) -> None:
    lines = [line.split("\t") for line in tweets.read_text(encoding="utf-8").split("\n")[1:] if line]
    texts = [cells[1].split(" ") for cells in lines]
    random = np.random.default_rng(0)
    with target.open("w", encoding="utf-8") as file:
        file.write("ID\tTEXT\n")
        for start in range(0, rows, 100_000):
            count = min(100_000, rows - start)
            places, numbers = random.random(count), random.integers(0, 10**6, count)
            block = []
            for offset in range(count):
                words = list(texts[(start + offset) % len(texts)])
                words[int(places[offset] * len(words))] = f"n{numbers[offset]}"
                block.append(f"r{start + offset}\t{' '.join(words)}\n")
            file.writelines(block)


def label(source: Path, bundle: Path, target: Path) -> tuple[float, list[tuple[float, float]]]:
    """Run `twil predict`; return seconds, and resident MiB over time."""
    command = [sys.executable, "-m", "twil", "predict", source, "--model", bundle, "--provider", "cpu"]
    begin = time.perf_counter()
    process = subprocess.Popen([*map(str, command), "-q", "-o", str(target)])
    memory = []
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        if found := re.search(r"VmRSS:\s+(\d+)", status):
            memory.append((time.perf_counter() - begin, int(found[1]) / 1024))
        time.sleep(0.5)
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise SystemExit(f"twil predict ended with {process.returncode}")
    return seconds, memory


def compare(source: Path, target: Path) -> tuple[int, bool]:
    """Count the rows of the output; tell whether its ids are those of the input, in order."""
    rows, same = -1, True
    with source.open(encoding="utf-8") as given, target.open(encoding="utf-8") as made:
        for one, other in zip_longest(given, made, fillvalue=""):
            rows += other != ""
            same &= one.partition("\t")[0] == other.partition("\t")[0]
    return rows, same


def draw(memory: list[tuple[float, float]], path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 3))
    axes.plot([seconds / 60 for seconds, _ in memory], [size for _, size in memory], linewidth=1.2)
    axes.set(xlabel="minutes", ylabel="resident memory, MiB")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with tweets_unlabelled_es")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "large_file")
    options = parser.parse_args()
    tweets = options.data / "tweets_unlabelled_es" / "tweets.tsv"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        shape = make_bundle(tweets, work, options.tokens)
        source, target = work / "rows.tsv", work / "labelled.tsv"
        write_rows(tweets, source, options.rows)
        seconds, memory = label(source, work / "bundle", target)
        rows_out, same_ids = compare(source, target)
        gigabytes = source.stat().st_size / 1e9
    results = {
        "twil": __version__,
        "cpu": cpu_name(),
        "cpus": available_cpus(),
        **shape,
        "rows": options.rows,
        "rows_out": rows_out,
        "same_ids": "yes" if same_ids else "no",
        "gigabytes": gigabytes,
        "seconds": seconds,
        "rate": rows_out / seconds,
        "early": next(size for at, size in memory if at >= seconds / 10),
        "late": memory[-2][1],
        "peak": max(size for _, size in memory),
        "memory": memory[:: max(1, len(memory) // 300)],
    }
    draw(memory, options.output.with_suffix(".svg"))
    options.output.with_suffix(".json").write_text(json.dumps(results) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(PAGE.format(**results), encoding="utf-8")
    print(PAGE.format(**results))


if __name__ == "__main__":
    main()
